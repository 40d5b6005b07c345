"""What stands in when hosts are gone, and the three modes: with all of the gateway's processes, and clients as people use them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import ollama
import pytest

from tests.gateway.whole import ADMIN, TOKEN, Ollama, Whole, until, whole

HELLO = {"role": "user", "content": "hi"}
WHY = "why is the sky blue?"


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as gateway:
        yield gateway


def local(gate: Whole) -> str:
    return f'local = "{gate.local.url}"'


async def stream(client: ollama.AsyncClient) -> str:
    """An answer that would be the same again, line by line."""
    parts = await client.chat("tiny", [HELLO], stream=True, options={"temperature": 0})
    return "|".join([part.message.content or "" async for part in parts])


async def test_the_chain_from_a_host_to_nothing(gate: Whole) -> None:
    """A host answers; without hosts the local Ollama; without it what was kept, after a restart of everything too; else 503 and when to come again."""
    await gate.start({"OLLAMA_ADMIN_TOKEN": TOKEN}, inventory=local(gate))
    client = gate.python()
    fresh = await client.embed("tiny", WHY)
    assert str(gate.answered_by()[0]).startswith("gpu:")
    assert gate.answered_by()[1:] == (None, "distributed", "true")

    told = await stream(client)

    async def kept() -> bool:
        return bool((await gate.get("/admin/cache", **ADMIN))["answers"] == 2)

    await until(kept, "the answers are on the disk")

    await gate.gpu1.kill()
    await gate.gpu2.kill()
    answer = await client.chat("tiny", [HELLO])
    assert answer.message.content
    assert gate.answered_by() == ("local", "local", "distributed", "true")
    assert gate.headers["x-ollama-fallback-reason"]
    await gate.knows_down(gate.gpu1, gate.gpu2)
    await client.chat("tiny", [HELLO])
    assert gate.headers["x-ollama-fallback-reason"] == "every host that has it is down"
    assert {model.model for model in (await client.list()).models} == {"tiny:latest", "mine:latest"}
    assert gate.headers["x-ollama-fallback-reason"] == "no host can be reached"
    await client.show("tiny")
    assert gate.answered_by()[:2] == ("local", "local")

    await gate.local.kill()
    for restart in (False, True):
        if restart:
            await gate.stop()
            await gate.start(inventory=local(gate))
            client = gate.python()
        again = await client.embed("tiny", WHY)
        assert again.embeddings == fresh.embeddings
        assert gate.answered_by() == ("cache", "cache", "distributed", "true")
        assert int(gate.headers["age"]) >= 0
        assert await stream(client) == told
        assert gate.answered_by()[:2] == ("cache", "cache")
        assert "can be reached" in gate.headers["x-ollama-fallback-reason"] or not restart

    with pytest.raises(ollama.ResponseError) as caught:
        await client.embed("tiny", "something else")
    assert caught.value.status_code == 503
    assert int(gate.headers["retry-after"]) > 0
    answered = await gate.post("/api/embed", {"model": "tiny", "input": WHY}, **{"x-ollama-cache": "no"})
    assert (answered.status_code, answered.headers.get("x-ollama-fallback")) == (503, None)


@pytest.mark.parametrize(
    ("environ", "mode", "models", "tiny", "without_local"),
    [
        ({}, "distributed", {"tiny:latest"}, ("gpu", None), ("gpu", None)),
        ({"OLLAMA_DISTRIBUTED": "false"}, "local", {"tiny:latest", "mine:latest"}, ("local", None), ("gpu", "nodes")),
        ({"OLLAMA_STANDALONE": "true"}, "standalone", {"tiny:latest", "mine:latest"}, ("local", None), None),
    ],
)
async def test_each_mode_with_the_python_client(
    gate: Whole,
    environ: dict[str, str],
    mode: str,
    models: set[str],
    tiny: tuple[str, str | None],
    without_local: tuple[str, str | None] | None,
) -> None:
    """The environment wins over the inventory; listings show what the mode would use first; what stands in says so."""
    await gate.start({"OLLAMA_LOCAL_ADDR": gate.local.url, **environ}, inventory='mode = "distributed"')
    client = gate.python()

    async def chat() -> tuple[str, str | None]:
        text = [part.message.content async for part in await client.chat("tiny", [HELLO], stream=True)]
        assert "".join(filter(None, text))
        node, fallback, said, distributed = gate.answered_by()
        assert (said, distributed) == (mode, str(mode == "distributed").lower())
        return str(node).partition(":")[0], fallback

    assert {model.model for model in (await client.list()).models} == models
    assert gate.answered_by()[2] == mode
    assert (await client.show("tiny")).modelinfo
    assert await chat() == tiny
    assert gate.status == 200

    await gate.local.kill()
    if without_local is None:
        with pytest.raises(ollama.ResponseError) as caught:
            await chat()
        assert caught.value.status_code == 503
        assert "retry-after" in gate.headers
    else:
        assert await chat() == without_local


async def test_a_model_that_only_the_local_ollama_has(gate: Whole) -> None:
    """It is answered there, and said so; without the fallback it does not exist."""
    await gate.start({"OLLAMA_ADMIN_TOKEN": TOKEN}, inventory=local(gate))
    client = gate.python()

    await client.generate("mine", "hi")
    assert gate.answered_by()[:2] == ("local", "local")
    assert gate.headers["x-ollama-fallback-reason"] == "no host has the model"

    assert (await gate.post("/admin/fallback", {"fallback": ["cache"]}, **ADMIN)).json()["fallback"] == ["cache"]
    with pytest.raises(ollama.ResponseError) as caught:
        await client.generate("mine", "hi")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'mine' not found")


async def test_switching_the_mode_under_load_loses_no_request(gate: Whole) -> None:
    """While clients ask without a pause the mode changes again and again: every answer is whole, and each mode was seen."""
    await gate.start({"OLLAMA_ADMIN_TOKEN": TOKEN}, inventory=f"workers = 2\n{local(gate)}")
    seen: set[str] = set()
    over = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            answer = await client.post("/api/generate", json={"model": "tiny", "prompt": "hi", "stream": False})
            assert answer.status_code == 200, answer.text
            assert answer.json()["done"] is True
            mode, node = answer.headers["x-ollama-mode"], answer.headers["x-ollama-node"]
            seen.add(f"{mode}: {node.partition(':')[0]}")

    async with gate.http() as client, asyncio.TaskGroup() as tasks:
        for _ in range(6):
            tasks.create_task(ask(client))
        for mode in ("local", "standalone", "distributed") * 4:
            changed = await gate.post("/admin/mode", {"mode": mode}, **ADMIN)
            assert changed.json()["mode"] == mode
            before = f"{mode}: {'gpu' if mode == 'distributed' else 'local'}"
            seen.discard(before)

            async def asked(before: str = before) -> bool:
                return before in seen

            await until(asked, f"an answer in the mode {mode}")
        over.set()


async def test_what_an_administrator_has_set_outlives_a_restart(gate: Whole) -> None:
    """Until it is taken back; then the environment counts again."""
    environ = {"OLLAMA_ADMIN_TOKEN": TOKEN, "OLLAMA_LOCAL_ADDR": gate.local.url, "OLLAMA_FALLBACK": "cache"}
    await gate.start(environ)
    assert (await gate.post("/admin/mode", {"mode": "standalone"}, **ADMIN)).status_code == 200
    assert (await gate.post("/admin/fallback", {"fallback": False}, **ADMIN)).status_code == 200

    await gate.stop()
    await gate.start(environ)

    mode = await gate.get("/admin/mode", **ADMIN)
    assert (mode["mode"], mode["source"], mode["local"]) == ("standalone", "administrator", gate.local.url)
    for path in ("mode", "fallback"):
        assert (await gate.post(f"/admin/{path}", {path: None}, **ADMIN)).status_code == 200
    assert (await gate.get("/admin/mode", **ADMIN))["mode"] == "distributed"
    fallback = await gate.get("/admin/fallback", **ADMIN)
    assert (fallback["fallback"], fallback["source"]) == (["cache"], "environment")


async def test_no_process_of_the_gateway_holds_the_token(gate: Whole) -> None:
    """They are told its digest alone: neither their environment nor their words have it, and it still opens /admin."""
    await gate.start({"OLLAMA_ADMIN_TOKEN": TOKEN})

    children = gate.children()

    assert len(children) >= 2
    for child in children:
        assert TOKEN.encode() not in (child / "environ").read_bytes() + (child / "cmdline").read_bytes()
    assert (await gate.get("/admin/mode", **ADMIN))["mode"] == "distributed"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OLLAMA_STANDALONE": "true"}, "mode standalone (set by OLLAMA_STANDALONE) needs a local Ollama"),
        ({"OLLAMA_DISTRIBUTED": "perhaps"}, "OLLAMA_DISTRIBUTED='perhaps' is neither true nor false"),
        ({"OLLAMA_LOCAL_ADDR": "https://127.0.0.1:1"}, "is https"),
        ({"OLLAMA_ADMIN_TOKEN": "hunter2"}, "OLLAMA_ADMIN_TOKEN has 7 characters"),
    ],
)
async def test_what_cannot_be_is_refused_at_the_start(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    """Exit status 2, with the variable, what is wrong with it, and what to do."""
    gateway = Whole(tmp_path, *(Ollama(tmp_path, port) for port in (1, 2, 3)))

    await gateway.start(environ, ready=False)
    status, text = await gateway.ended()

    assert status == 2
    assert said in " ".join(text.split())
    assert "hint" in text
    assert "hunter2" not in text
