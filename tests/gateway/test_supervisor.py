import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.children import restart_delay
from tests.gateway.edge.harness import LAST_CHUNK, PROMPT, chunk, until
from tests.gateway.launching import alive, children, launched, words


async def test_a_gateway_starts_serves_and_ends() -> None:
    """Two workers share a port that the system chose; its URL is said once they serve; SIGTERM ends everything."""
    async with launched(workers=2) as running:
        assert running.said.startswith("http://127.0.0.1:")
        assert not running.said.endswith(":0")
        assert await running.asked() == (200, PROMPT)
        mine = children(running.process.pid)
        assert len(mine) == 3
        # Settings travel on stdin: nothing of them can be read in a list of processes.
        assert {tuple(words(pid)[1:4]) for pid in mine} == {
            ("-m", "olladist.gateway.control", ""),
            ("-m", "olladist.gateway.edge", "1"),
            ("-m", "olladist.gateway.edge", "2"),
        }

        running.process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(running.process.wait(), 20) == signal.SIGTERM
        assert not any(alive(pid) for pid in mine)


async def test_systemd_is_told_when_it_serves_and_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type=notify: READY=1 not before clients are served, STOPPING=1 at the signal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with launched() as running:
            assert systemd.recv(100) == b"READY=1"
            assert await running.asked() == (200, PROMPT)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(running.process.wait(), 20)
            assert systemd.recv(100) == b"STOPPING=1"


async def test_a_control_process_that_is_killed_costs_nothing() -> None:
    """A stream goes on, requests are served meanwhile, and a new control process takes over."""
    async with launched() as running:
        stream = await running.stream()
        killed = running.child("olladist.gateway.control")

        os.kill(killed, signal.SIGKILL)

        for _ in range(20):
            assert await running.asked() == (200, PROMPT)
        await until(lambda: running.has_another("olladist.gateway.control", killed), "a new one", 30)
        client = await running.client()
        client.send(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer())[0] == 200
        await running.ollama.finish()
        await stream.exactly(chunk(b"{}\n") + LAST_CHUNK)


async def test_a_control_process_that_hangs_is_replaced() -> None:
    """What waits for it is placed without it, and a new one takes over."""
    async with launched(hang_seconds=2.0) as running:
        stopped = running.child("olladist.gateway.control")
        os.kill(stopped, signal.SIGSTOP)

        assert await running.asked() == (200, PROMPT)

        await until(lambda: running.has_another("olladist.gateway.control", stopped), "a new one", 30)
        assert not alive(stopped)


async def test_a_worker_that_is_killed_is_replaced() -> None:
    """Its streams are lost with it; who connects meanwhile waits in the queue of its socket, which is not its own, and is served."""
    async with launched() as running:
        stream = await running.stream()
        killed = running.child("olladist.gateway.edge")

        os.kill(killed, signal.SIGKILL)

        assert await stream.rest() == b""
        assert await asyncio.gather(*(running.asked() for _ in range(20))) == [(200, PROMPT)] * 20
        assert running.has_another("olladist.gateway.edge", killed)


async def test_a_hangup_is_a_reload_while_there_is_a_terminal_and_the_end_when_it_is_gone() -> None:
    """A gateway in a window that was closed would run on with nobody to see it."""
    master, slave = os.openpty()
    async with launched(stderr=slave) as running:
        os.close(slave)
        running.process.send_signal(signal.SIGHUP)
        said = b""
        while b"reloaded" not in said:
            said += await asyncio.to_thread(os.read, master, 4096)
        assert await running.asked() == (200, PROMPT)

        os.close(master)
        running.process.send_signal(signal.SIGHUP)

        assert await asyncio.wait_for(running.process.wait(), 20) == signal.SIGTERM


async def test_a_first_signal_lets_streams_finish() -> None:
    """No new connection is taken, the stream ends whole, and then the gateway does, long before its grace is over."""
    async with launched() as running:
        stream = await running.stream()
        idle = await running.client()
        running.process.send_signal(signal.SIGINT)
        assert await idle.rest() == b""
        with pytest.raises(OSError, match=r"Connect call failed|reset"):
            await running.asked()

        await running.ollama.finish()

        await stream.exactly(chunk(b"{}\n") + LAST_CHUNK)
        assert await asyncio.wait_for(running.process.wait(), 15) == signal.SIGINT


async def test_after_the_grace_a_stream_is_told_why_it_ends() -> None:
    """An error line in the client's own protocol, and a proper end."""
    async with launched(grace_seconds=0.2) as running:
        stream = await running.stream()
        running.process.send_signal(signal.SIGTERM)

        rest = await stream.rest()

        assert b'{"error":"the gateway is shutting down"}' in rest
        assert rest.endswith(LAST_CHUNK)
        assert await asyncio.wait_for(running.process.wait(), 15) == signal.SIGTERM


async def test_a_second_signal_ends_at_once() -> None:
    """Streams or not, and whatever the grace is."""
    async with launched(grace_seconds=1000) as running:
        stream = await running.stream()
        idle = await running.client()
        running.process.send_signal(signal.SIGINT)
        assert await idle.rest() == b""

        running.process.send_signal(signal.SIGINT)

        await asyncio.wait_for(running.process.wait(), 15)
        await stream.rest()


async def test_children_never_outlive_their_parent() -> None:
    """However it went."""
    async with launched(workers=2) as running:
        mine = children(running.process.pid)
        assert len(mine) == 3

        running.process.kill()

        await until(lambda: not any(alive(pid) for pid in mine), "all are gone")


async def test_a_gateway_that_cannot_start_says_why() -> None:
    """An inventory that is none: the control process ends, and so does everything, with an error."""
    async with launched(limit="nosuchhost") as running:
        assert "'control' ended with status 2 before it was ready" in running.said
        assert await asyncio.wait_for(running.process.wait(), 15) == 1


@given(st.lists(st.floats(0, 100), max_size=30))
def test_restarts_wait_longer_but_never_long(lives: list[float]) -> None:
    """From 50 ms to 5 s while ends come early; one good run starts anew."""
    failures, last = 0, 0.0
    for lived in lives:
        delay, failures = restart_delay(lived, failures)
        assert 0.05 <= delay <= 5
        assert delay >= last or lived >= 10
        last = delay if lived < 10 else 0.0
