"""A control process that reads its inventory again."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.backends import Backend, Role, backends_of
from olladist.gateway.control.reload import NotReloaded, Reloaded, at_start_only, numbered
from olladist.gateway.settings import Settings
from olladist.inventory.model import Gateway, Host, Instance, Transport
from tests.gateway.control.nodes import Node, running, tag, wait_until
from tests.gateway.control.processes import Control, control


def write(run_dir: Path, *nodes: Node, gateway: str = "", slots: int = 1) -> Path:
    """An inventory in which each node is a host of its own, named by its number."""
    path = run_dir / "inventory.toml"
    path.write_text(
        "".join(
            f'[hosts.gpu{number}]\naddress = "127.0.0.1"\nport = {number}\n'
            f"env = {{ OLLAMA_NUM_PARALLEL = {slots} }}\ninstances = [{{ port = {node.port} }}]\n"
            for number, node in enumerate(nodes, 1)
        )
        + f'[gateway]\ntransport = "direct"\n{gateway}\n'
    )
    return path


async def reload(c: Control) -> Reloaded:
    answer = await c.operator.post("/admin/reload")
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Reloaded)


async def names(c: Control) -> set[str]:
    return {model["name"] for model in (await c.client.get("/api/tags")).json()["models"]}


async def test_a_reload_takes_over_what_the_inventory_says_now(run_dir: Path) -> None:
    """Nodes come and go, settings change, all at once; who stays is not asked anew; a second reload changes nothing."""
    one, two, three = Node(), Node(), Node()
    for node, name in ((one, "a"), (two, "b"), (three, "c")):
        node.holds(tag(name))
    async with running(one, two, three), control(run_dir, write(run_dir, one, two)) as c:
        assert await names(c) == {"a", "b"}
        since = (await c.nodes())["gpu1"].state_seconds

        write(run_dir, one, three, gateway='strategy = "round-robin"\nworkers = 3', slots=4)
        done = await reload(c)
        await c.wait_state("gpu2", "up")

        assert (done.added, done.removed) == ((), ())
        assert [(changed.name, changed.before != changed.after) for changed in done.changed] == [
            ("gpu1", True),
            ("gpu2", True),
        ]
        assert [(s.name, s.before, s.after) for s in done.settings] == [("strategy", "adaptive", "round-robin")]
        assert [(s.name, s.before, s.after) for s in done.needs_restart] == [("workers", "1", "3")]
        assert await names(c) == {"a", "c"}
        nodes = await c.nodes()
        assert (nodes["gpu1"].slots, nodes["gpu1"].state) == (4, "up")
        assert nodes["gpu1"].state_seconds >= since
        assert (await c.client.get("/api/distributed/status")).json()["strategy"] == "round-robin"

        write(run_dir, one, gateway='strategy = "round-robin"')
        assert (await reload(c)).removed == ("gpu2",)
        again = await asyncio.gather(*(reload(c) for _ in range(3)))
        assert all(not (d.added or d.removed or d.changed or d.settings) for d in again)


async def test_a_broken_inventory_changes_nothing(run_dir: Path) -> None:
    """The answer has each problem with its line, the log too, and the gateway goes on as before; SIGHUP does the same."""
    one = Node()
    one.holds(tag("a"))
    async with running(one), control(run_dir, write(run_dir, one)) as c:
        path = write(run_dir, one, gateway="replicas = 0\nlisten = 5")

        answer = await c.operator.post("/admin/reload")

        assert answer.status_code == 422
        problem = msgspec.json.decode(answer.content, type=NotReloaded)
        assert problem.path == str(path)
        assert {p.line for p in problem.problems} == {8, 9}
        assert list(await c.nodes()) == ["gpu1"]
        said = c.log.count("not reloaded")
        os.kill(c.process.pid, signal.SIGHUP)
        await wait_until(lambda: c.log.count("not reloaded") > said, "the log says it")

        write(run_dir, one, one)
        os.kill(c.process.pid, signal.SIGHUP)
        await wait_until(lambda: '"reloaded"' in c.log, "the log says that it is done")
        assert list(await c.nodes()) == ["gpu1", "gpu2"]


async def test_a_reload_never_opens_the_gateway_to_everybody(run_dir: Path) -> None:
    """Reachable from elsewhere it keeps its keys, and goes on with those it has; after a restart too."""
    one = Node()
    key = f'[gateway.keys.team]\nsha256 = "{"0" * 64}"'
    async with running(one), control(run_dir, write(run_dir, one, gateway=key), listen_host="192.0.2.1") as c:
        write(run_dir, one)

        answer = await c.operator.post("/admin/reload")

        assert answer.status_code == 422
        assert "without API keys" in answer.json()["error"]
        assert (await c.client.get("/api/distributed/status")).json()["keys"] == 1
        c.process.kill()
        await c.process.wait()
    for socket in ("api.sock", "operator.sock"):
        (run_dir / socket).unlink(missing_ok=True)
    async with running(one), control(run_dir, run_dir / "inventory.toml", listen_host="192.0.2.1") as c:
        assert (await c.client.get("/api/distributed/status")).json()["keys"] == 1


async def test_only_an_administrator_may_reload(run_dir: Path) -> None:
    """Clients come in by another socket, where it is closed without a token."""
    one = Node()
    async with running(one), control(run_dir, write(run_dir, one)) as c:
        assert (await c.client.post("/admin/reload")).status_code == 403
        assert (await c.client.post("/admin/drain", json={"nodes": ["gpu1"]})).status_code == 403


async def test_a_restart_with_a_broken_inventory_goes_on_with_the_last_good_one(run_dir: Path) -> None:
    """The supervisor starts a control process again whatever has become of the file meanwhile."""
    one, two = Node(), Node()
    one.holds(tag("a"))
    async with running(one, two):
        async with control(run_dir, write(run_dir, one)) as c:
            write(run_dir, one, two)
            await reload(c)
            c.process.kill()
            await c.process.wait()
        path = write(run_dir, one)
        path.write_text(path.read_text() + "nonsense")
        for socket in ("api.sock", "operator.sock", "lease.sock"):
            (run_dir / socket).unlink(missing_ok=True)

        async with control(run_dir, path) as c:
            assert list(await c.nodes()) == ["gpu1", "gpu2"]
            assert "going on with what it said before" in c.log


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4), min_size=1, max_size=8))
def test_a_number_means_one_node_on_one_way(inventories: list[dict[str, int]]) -> None:
    """However often nodes come, go and change their ports: no number is given twice, and who stays keeps the own."""
    ids: dict[str, int] = {}
    present: tuple[Backend, ...] = ()
    meant: dict[int, tuple[str, int]] = {}
    for inventory in inventories:
        hosts = [Host(name=n, address=n, instances=(Instance(port=port),)) for n, port in inventory.items()]
        before = {backend.node: backend for backend in present}
        ids = numbered(ids, present, backends_of(hosts, Transport.TUNNEL, Path("t"), ids))
        present = backends_of(hosts, Transport.TUNNEL, Path("t"), ids)
        assert len({backend.id for backend in present}) == len(present)
        for backend in present:
            old = before.get(backend.node)
            if old is not None:
                assert (old.id == backend.id) == (old.port == backend.port)
            assert meant.setdefault(backend.id, (backend.node, 0))[0] == backend.node


def test_the_local_ollama_has_a_number_of_its_own() -> None:
    """It is no node, and takes none away."""
    backends = backends_of([Host(name="a", address="a")], Transport.DIRECT, Path("t"), {}, "http://127.0.0.1:1")

    assert [backend.role for backend in backends] == [Role.NODE, Role.LOCAL]
    assert numbered({}, (), backends) == {"a": 0}


@pytest.mark.parametrize(
    ("gateway", "given", "names"),
    [
        (Gateway(), (), []),
        (Gateway(listen="127.0.0.1:0"), (), []),
        (Gateway(listen="0.0.0.0:11434", workers=2), (), ["listen", "workers"]),
        (Gateway(listen="0.0.0.0:11434", workers=2), ("listen",), ["workers"]),
        (
            Gateway(tls_cert=Path("/c"), tls_key=Path("/k"), origins=("https://x",)),
            (),
            ["tls_cert", "tls_key", "origins"],
        ),
    ],
)
def test_what_only_a_restart_can_change_is_said(gateway: Gateway, given: tuple[str, ...], names: list[str]) -> None:
    """Unless it was the command line that has set it, or any port would do."""
    settings = replace(Settings("/run/x", "i.toml"), given=given)

    assert [changed.name for changed in at_start_only(settings, gateway)] == names
