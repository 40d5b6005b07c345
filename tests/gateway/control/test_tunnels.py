"""Tunnels, over real SSH servers on this machine: the node behind each is a scripted Ollama on the host's loopback."""

import asyncio
from contextlib import closing
from pathlib import Path

import httpx

from olladist.gateway.lease import Done, pack
from olladist.sim.hosts import ThrowawayHosts
from tests.gateway.control.nodes import Node, running, tag, wait_until
from tests.gateway.control.processes import Worker, control


def behind(hosts: ThrowawayHosts) -> list[Node]:
    nodes = [Node(port=host.instances[0]) for host in hosts.hosts.values()]
    for number, node in enumerate(nodes):
        node.holds(tag("tiny"), tag(f"only{number}"))
    return nodes


async def test_hosts_are_reached_through_tunnels(run_dir: Path) -> None:
    """Ollamas on the loopback of their hosts are up, asked under a loopback name; the sockets go with the process."""
    with ThrowawayHosts(run_dir / "hosts", ["gpu1", "gpu2"]) as hosts:
        nodes = behind(hosts)
        inventory = run_dir / "inventory.toml"
        inventory.write_text(hosts.inventory())
        async with running(*nodes), control(run_dir, inventory, accept_new=True) as c:
            assert {n.name: (n.state, n.way) for n in (await c.nodes()).values()} == {
                "gpu1": ("up", "tunnel"),
                "gpu2": ("up", "tunnel"),
            }
            names = {m["name"] for m in (await c.client.get("/api/tags")).json()["models"]}
            assert names == {"tiny", "only0", "only1"}
            assert nodes[0].hosts == {f"127.0.0.1:{nodes[0].port}"}
            assert len(list((run_dir / "tunnels").iterdir())) == 2

    assert list((run_dir / "tunnels").iterdir()) == []


async def test_a_host_that_leaves_keeps_its_tunnel_for_what_runs_there(run_dir: Path) -> None:
    """The socket is there until the last request has ended; one that stays is not opened anew."""
    with ThrowawayHosts(run_dir / "hosts", ["gpu1", "gpu2"]) as hosts:
        nodes = behind(hosts)
        inventory = run_dir / "inventory.toml"
        inventory.write_text(hosts.inventory())
        async with running(*nodes), control(run_dir, inventory, accept_new=True) as c:
            worker = Worker(*await asyncio.open_unix_connection(c.settings.lease_socket))
            with closing(worker.writer):
                backend = await worker.granted(1, "only1")
                mine, stays = run_dir / f"tunnels/{backend}.sock", run_dir / f"tunnels/{1 - backend}.sock"
                opened = stays.stat().st_ino

                inventory.write_text(hosts.inventory().partition("[hosts.gpu2]")[0])
                done = (await c.operator.post("/admin/reload")).json()

                assert done["removed"] == ["gpu2"]
                client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(mine)))
                async with client:
                    assert (await client.get("http://127.0.0.1/api/version")).status_code == 200
                worker.writer.write(pack(Done(1, backend, "served", 200)))
                await wait_until(lambda: not mine.exists(), "the tunnel is closed")
                assert stays.stat().st_ino == opened


async def test_a_host_without_power_goes_and_comes_back(run_dir: Path) -> None:
    """A host that is switched off is down, the others serve; when it has power again it is up without being asked for."""
    with ThrowawayHosts(run_dir / "hosts", ["gpu1", "gpu2"]) as hosts:
        nodes = behind(hosts)
        inventory = run_dir / "inventory.toml"
        inventory.write_text(hosts.inventory())
        async with running(*nodes), control(run_dir, inventory, accept_new=True) as c:
            hosts.kill("gpu2")
            await nodes[1].stop()
            await c.wait_state("gpu2", "down")
            assert (await c.nodes())["gpu1"].state == "up"

            hosts.start("gpu2")
            await nodes[1].start()
            await c.wait_state("gpu2", "up")


async def test_an_unknown_host_key_is_refused_with_what_to_do(run_dir: Path) -> None:
    """The gateway asks nobody: the node is down, and says which command to run first."""
    with ThrowawayHosts(run_dir / "hosts", ["gpu1"]) as hosts:
        inventory = run_dir / "inventory.toml"
        inventory.write_text(hosts.inventory())
        async with running(*behind(hosts)), control(run_dir, inventory) as c:
            node = (await c.nodes())["gpu1"]

            assert node.state == "down"
            assert "key" in node.reason
            assert "olladist status" in node.reason
