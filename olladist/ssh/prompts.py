"""What a person can be asked while hosts are connected; the command line supplies it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


async def _no(host: str, address: str, key_type: str, fingerprint: str) -> bool:
    return False


async def _nothing(host: str, what: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Prompts:
    """Never asked two things at once: Connections asks one question after the other."""

    # (host, address, key type, "SHA256:…") -> is this key the host's?
    accept_host_key: Callable[[str, str, str, str], Awaitable[bool]] = _no
    # (host, what is asked for: "sudo password of pat") -> the secret, None for no answer
    secret: Callable[[str, str], Awaitable[str | None]] = _nothing


NO_PROMPTS = Prompts()


def one_at_a_time(prompts: Prompts) -> Prompts:
    """The same prompts; a second question waits until the first is answered."""
    lock = asyncio.Lock()

    async def accept_host_key(host: str, address: str, key_type: str, fingerprint: str) -> bool:
        async with lock:
            return await prompts.accept_host_key(host, address, key_type, fingerprint)

    async def secret(host: str, what: str) -> str | None:
        async with lock:
            return await prompts.secret(host, what)

    return Prompts(accept_host_key, secret)
