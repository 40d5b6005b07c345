"""The whole control process, as the supervisor starts it, before simulated Ollamas and scripted ones."""

import asyncio
import os
import signal
import stat
from contextlib import closing
from pathlib import Path

from olladist.gateway.control.declared import configured_version
from olladist.gateway.lease import Access, Ask, Done, Grant, Hello, Table, ToWorker, Unpacker, pack
from olladist.inventory.model import Host
from tests.gateway.control.nodes import HANG, Node, running, tag, wait_until
from tests.gateway.control.processes import control


def inventory(run_dir: Path, *nodes: Node, more: str = "") -> Path:
    """This machine with an instance for each node; they are called here:PORT."""
    instances = ", ".join(f"{{ port = {port} }}" for port in (*(node.port for node in nodes), 1))
    path = run_dir / "inventory.toml"
    path.write_text(
        f'[hosts.here]\nconnection = "local"\nenv = {{ OLLAMA_NUM_PARALLEL = 2 }}\ninstances = [{instances}]\n{more}'
    )
    return path


async def test_it_serves_both_sockets(run_dir: Path) -> None:
    """Once the API's socket is there a worker gets its table and a lease, and everything ends cleanly on SIGTERM."""
    one = Node()
    one.holds(tag("tiny"))
    async with running(one), control(run_dir, inventory(run_dir, one)) as c:
        assert (await c.client.get("/api/tags")).json()["models"] == [tag("tiny")]
        for path in (c.settings.api_socket, c.settings.lease_socket):
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600

        reader, writer = await asyncio.open_unix_connection(c.settings.lease_socket)
        with closing(writer):
            writer.write(pack(Hello(3, 99)) + pack(Ask(1, "tiny", "chat")))
            unpacker: Unpacker[ToWorker] = Unpacker(ToWorker)
            messages: list[ToWorker] = []
            while len(messages) < 3:
                messages += unpacker.feed(await reader.read(65536))
            access, table, grant = messages
            assert access == Access()
            assert isinstance(table, Table)
            known = [(b.node, b.address, b.slots, b.up) for b in table.backends if b.role == "node"]
            assert known == [(f"here:{one.port}", f"127.0.0.1:{one.port}", 2, True)]
            assert grant == Grant(1, table.backends[0].id, first=True)
            assert table.late
            assert (await c.nodes())[f"here:{one.port}"].in_flight == 1
            writer.write(pack(Done(1, 0, "served", 200)))

        c.process.terminate()
        assert await asyncio.wait_for(c.process.wait(), 10) == 0


async def test_a_host_that_hangs_does_not_hold_up_the_start(run_dir: Path) -> None:
    """The start does not wait for its answer, serves the others, and picks it up when it answers."""
    good, bad = Node(), Node({"/api/version": HANG})
    good.holds(tag("tiny"))
    bad.holds(tag("late"))
    async with running(good, bad), control(run_dir, inventory(run_dir, good, bad)) as c:
        states = [node.state for node in (await c.nodes()).values()]
        assert states == ["up", "down", "down"]

        bad.answers["/api/version"] = (200, {"version": "0.17.4"})
        await c.wait_state(f"here:{bad.port}", "up")

        assert {m["name"] for m in (await c.client.get("/api/tags")).json()["models"]} == {"tiny", "late"}


async def test_a_killed_host_is_down_with_its_reason(run_dir: Path) -> None:
    """After how long is scheduling.health's, in virtual time."""
    one, two = Node(), Node()
    one.holds(tag("tiny"))
    two.holds(tag("tiny"))
    async with running(one, two), control(run_dir, inventory(run_dir, one, two)) as c:
        await two.stop()
        await c.wait_state(f"here:{two.port}", "down")

        assert (await c.nodes())[f"here:{two.port}"].reason.startswith("no connection")
        assert "node has changed" in c.log


async def test_a_wrong_inventory_ends_it(run_dir: Path) -> None:
    """The problems are said, and the exit status is that of a wrong inventory."""
    path = run_dir / "inventory.toml"
    path.write_text("[hosts.gpu1]\nadress = 5\n")
    async with control(run_dir, path, ready=False) as c:
        assert await asyncio.wait_for(c.process.wait(), 10) == 2
        await wait_until(lambda: "adress" in c.log, "the problem is said")


async def test_it_ends_with_its_parent(run_dir: Path) -> None:
    """When the supervisor is gone, so is the control process; Ctrl-C alone does not end it."""
    one = Node()
    one.holds(tag("tiny"))
    async with running(one), control(run_dir, inventory(run_dir, one)) as c:
        os.kill(c.process.pid, signal.SIGINT)
        assert (await c.client.get("/healthz")).status_code == 200
        assert c.process.stdin
        c.process.stdin.close()

        assert await asyncio.wait_for(c.process.wait(), 10) == 0


def test_the_version_that_is_configured() -> None:
    """The lowest exact version in the inventory; "latest" and paths say nothing."""
    hosts = [Host(name="a", address="a", ollama=o) for o in ("latest", "v0.17.4", "0.9.5", "/x/ollama.tgz")]

    assert configured_version(tuple(hosts)) == "0.9.5"
    assert configured_version(tuple(hosts[:1])) == "0.0.0"
