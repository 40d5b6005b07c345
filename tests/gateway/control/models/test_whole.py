"""The official Python client before a whole gateway in processes of its own, with simulated Ollamas behind it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import ollama
import pytest

from olladist.gateway.settings import Settings, encode
from olladist.sim.hosts import free_ports
from tests.gateway.control.models.fleets import KNOWN, Sim, inventory_text
from tests.gateway.launching import PARENT


@asynccontextmanager
async def whole(run_dir: Path, *names: str) -> AsyncIterator[tuple[ollama.AsyncClient, tuple[Sim, ...]]]:
    sims = tuple(Sim(name, run_dir / name, port) for name, port in zip(names, free_ports(len(names)), strict=True))
    inventory = run_dir / "inventory.toml"
    inventory.write_text(inventory_text({sim.name: sim.port for sim in sims}, "", ""))
    settings = Settings(str(run_dir), str(inventory), listen_port=0, workers=2)
    async with AsyncExitStack() as stack:
        for sim in sims:
            stack.push_async_callback(sim.stop)
            await sim.start()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PARENT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(run_dir), "XDG_STATE_HOME": str(run_dir / "state")},
        )
        stack.push_async_callback(ended, process)
        assert process.stdin
        assert process.stdout
        process.stdin.write(encode(settings))
        async with asyncio.timeout(40):
            address = (await process.stdout.readline()).decode().strip()
        client = ollama.AsyncClient(host=address)
        stack.push_async_callback(client._client.aclose)
        yield client, sims


async def ended(process: asyncio.subprocess.Process) -> None:
    assert process.stdout
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), 30)
    await process.stdout.read()


async def test_a_model_from_its_pull_to_its_end(run_dir: Path) -> None:
    """What the client hears to be done is done: pulled it answers, unloaded it is nowhere in memory, deleted it is nowhere."""
    async with whole(run_dir, "gpu1", "gpu2", "gpu3") as (client, sims):
        async for line in await client.pull(KNOWN, stream=True):
            last = line.status
        assert last == "success"
        answer = await client.chat(KNOWN, [{"role": "user", "content": "hello"}], keep_alive="1h")
        assert answer.message.content
        assert [model.model for model in (await client.list()).models] == [KNOWN]
        assert (await client.show(KNOWN)).modelinfo

        await client.copy(KNOWN, "twin")
        await asyncio.gather(*(client.generate("twin", "hello", keep_alive="1h") for _ in range(6)))
        assert (await client.ps()).models
        gone = await client.generate("twin", keep_alive=0)
        assert (gone.done, gone.done_reason) == (True, "unload")
        assert [await sim.loaded() for sim in sims] == [[], [], []]
        assert not (await client.ps()).models

        for model in (KNOWN, "twin"):
            await client.delete(model)
        assert [await sim.tags() for sim in sims] == [{}, {}, {}]
        with pytest.raises(ollama.ResponseError, match="model 'twin' not found"):
            await client.chat("twin", [{"role": "user", "content": "hello"}])


async def test_many_pulls_at_once(run_dir: Path) -> None:
    """Models come side by side, and the same one for two clients; nobody who asks something else waits for them."""
    models = [KNOWN, KNOWN, "llama3.2:3b", "qwen3:0.6b", "gemma3:1b"]
    async with whole(run_dir, "gpu1", "gpu2") as (client, sims):
        pulls = [asyncio.create_task(client.pull(model)) for model in models]
        await client.list()
        assert {(await pull).status for pull in pulls} == {"success"}
        assert [set(await sim.tags()) for sim in sims] == [set(models)] * 2
