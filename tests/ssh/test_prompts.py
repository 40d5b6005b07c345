import asyncio

from olladist.ssh.prompts import NO_PROMPTS, Prompts, one_at_a_time


async def test_nobody_says_no() -> None:
    """Without a person every key is refused and no secret is known."""
    assert not await NO_PROMPTS.accept_host_key("gpu1", "198.51.100.11", "ssh-ed25519", "SHA256:x")
    assert await NO_PROMPTS.secret("gpu1", "sudo password of ops") is None


async def test_one_question_after_the_other() -> None:
    """However many hosts ask, a person sees one question at a time, of whatever kind."""
    asking = 0
    most = 0

    async def ask() -> None:
        nonlocal asking, most
        asking += 1
        most = max(asking, most)
        await asyncio.sleep(0)
        asking -= 1

    async def accept(*_: str) -> bool:
        await ask()
        return True

    async def secret(host: str, what: str) -> str:
        await ask()
        return f"{what} of {host}"

    prompts = one_at_a_time(Prompts(accept, secret))
    answers = await asyncio.gather(
        *(prompts.accept_host_key("h", "a", "t", "f") for _ in range(5)), *(prompts.secret("h", "s") for _ in range(5))
    )

    assert most == 1
    assert answers == [True] * 5 + ["s of h"] * 5
