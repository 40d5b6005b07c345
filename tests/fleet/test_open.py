"""Many hosts at once."""

import asyncio

import pytest

from olladist.errors import ConnectionLost, HostError, Unreachable
from olladist.fleet.events import Doing, Event, Failed
from olladist.inventory.model import Host
from olladist.ssh.runner import Runner
from tests.fleet.fleets import closed_port, inventory, local, opened


async def test_every_host_does_its_work_and_the_order_stays() -> None:
    """Results come in the order of the inventory, whoever is ready first."""
    gate = asyncio.Event()

    async def work(runner: Runner, host: Host) -> str:
        if host.name == "a":
            await gate.wait()
        gate.set()
        return (await runner.check("echo hello")).strip() + host.name

    async with opened(local("a", "b", "c")) as fleet:
        assert list((await fleet.each(work)).items()) == [("a", "helloa"), ("b", "hellob"), ("c", "helloc")]


async def test_a_host_that_cannot_be_reached_stops_nobody() -> None:
    """Its error is its result; it is told and tried once, however often it is needed."""
    events: list[Event] = []
    text = f'[hosts.a]\nconnection = "local"\n[hosts.gone]\naddress = "127.0.0.1"\nport = {closed_port()}\n'

    async def work(runner: Runner, host: Host) -> str:
        return host.name

    async with opened(inventory(text), events) as fleet:
        first = await fleet.each(work)
        second = await fleet.each(work)

    assert first["a"] == second["a"] == "a"
    assert isinstance(first["gone"], Unreachable)
    assert second["gone"] is first["gone"]
    assert [event for event in events if isinstance(event, Failed)] == [Failed("gone", first["gone"])]


async def test_a_defect_is_raised_once_every_host_is_done() -> None:
    """An exception that is no HostError is not swallowed, and does not cut off the others."""
    done: list[str] = []

    async def work(runner: Runner, host: Host) -> None:
        if host.name == "a":
            raise ZeroDivisionError
        await runner.check("true")
        done.append(host.name)

    async with opened(local("a", "b", "c")) as fleet:
        with pytest.raises(ZeroDivisionError):
            await fleet.each(work)

    assert sorted(done) == ["b", "c"]


async def test_never_more_hosts_at_a_time_than_allowed() -> None:
    """The limit holds, and all get their turn."""
    now, most = 0, 0

    async def work(runner: Runner, host: Host) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await runner.check("true")
        now -= 1

    async with opened(local(*"abcdefgh")) as fleet:
        results = await fleet.each(work, limit=3)

    assert len(results) == 8
    assert most == 3


async def test_a_lost_connection_is_opened_again_for_the_next_work() -> None:
    """The connection is kept from one work to the next, until it is lost."""
    runners: list[Runner] = []

    async def work(runner: Runner, host: Host) -> None:
        runners.append(runner)
        if len(runners) == 2:
            raise ConnectionLost(host.name, "testing", "gone")

    async with opened(local("a")) as fleet:
        for _ in range(3):
            await fleet.each(work)

    assert runners[0] is runners[1]
    assert runners[1] is not runners[2]


async def test_what_is_under_way_is_known_when_it_is_cancelled() -> None:
    """An interrupted command can name what each host was doing."""
    failed = asyncio.Event()

    async def work(runner: Runner, host: Host) -> None:
        fleet.tell(Doing(host.name, f"install on {host.name}", 1, 2))
        if host.name == "b":
            asyncio.get_running_loop().call_soon(failed.set)
            raise HostError(host.name, "installing", "no")
        await asyncio.Event().wait()

    async with opened(local("a", "b")) as fleet:
        task = asyncio.create_task(fleet.each(work))
        await failed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert fleet.under_way == {"a": "install on a"}
