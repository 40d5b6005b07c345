from pathlib import Path

from olladist.sim.hosts import free_ports
from tests.gateway.control.models.fleets import KNOWN, Sim, fleet


async def test_beside_a_local_ollama_changes_are_for_whom_the_mode_asks_first(run_dir: Path) -> None:
    """In the mode local that is the Ollama beside the gateway, in distributed the hosts; the others stay as they are."""
    (port,) = free_ports(1)
    local = Sim("local", run_dir / "local", port)
    await local.start()
    try:
        for mode, changed in (("local", ["local"]), ("distributed", ["gpu1"])):
            text = f'mode = "{mode}"\nlocal = "http://127.0.0.1:{port}"'
            async with fleet(run_dir, "gpu1", gateway=text) as f:
                everybody = (*f.sims, local)
                await f.client.pull(KNOWN)
                assert [sim.name for sim in everybody if KNOWN in await sim.tags()] == changed
                assert list(await f.tags()) == [KNOWN]
                await f.client.copy(KNOWN, "twin")
                assert [sim.name for sim in everybody if "twin:latest" in await sim.tags()] == changed
                assert (await f.request("GET", "/api/status")).headers["x-ollama-node"] == changed[0]

                for sim in everybody:
                    await sim.pull("qwen3:0.6b")
                for model in ("qwen3:0.6b", KNOWN, "twin"):
                    await f.client.delete(model)
                assert [sim.name for sim in everybody if await sim.tags() == {}] == changed
                for sim in everybody:
                    async with sim.client as client:
                        await client.request("DELETE", "/api/delete", json={"model": "qwen3:0.6b"})
    finally:
        await local.stop()


async def test_while_no_host_is_there_changes_are_for_who_stands_in(run_dir: Path) -> None:
    """It is what clients see listed; the hosts make up for a delete when they are back."""
    (port,) = free_ports(1)
    local = Sim("local", run_dir / "local", port)
    await local.start()
    try:
        async with fleet(run_dir, "gpu1", gateway=f'local = "http://127.0.0.1:{port}"\nfallback = ["local"]') as f:
            for sim in (*f.sims, local):
                await sim.make("tiny")
            await f.wait_known(gpu1="tiny:latest")
            await f.sims[0].stop()
            await f.gateway.wait_state("gpu1", "down")
            await f.client.delete("tiny")
            assert (await local.tags(), await f.tags()) == ({}, {})
            await f.client.pull(KNOWN)
            assert list(await local.tags()) == [KNOWN]

            await f.sims[0].start()
            await f.gateway.wait_state("gpu1", "up")
            assert await f.tags() == {}
            await f.wait_gone("gpu1", "tiny:latest")
    finally:
        await local.stop()
