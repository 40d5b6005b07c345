import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import ConnectionLost
from olladist.ssh.process import KEPT, Output


class Steered:
    """A process whose reading can be paused, and nothing else."""

    def __init__(self) -> None:
        self.paused = 0
        self.resumed = 0

    def write(self, data: bytes) -> None:
        raise AssertionError

    def write_eof(self) -> None:
        raise AssertionError

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1

    def signal(self, name: str) -> None:
        raise AssertionError

    def abort(self) -> None:
        raise AssertionError


def feed(output: Output, data: bytes, cuts: list[int]) -> None:
    """Gives the data in pieces that are cut anywhere."""
    start = 0
    for cut in sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)}):
        output.out(data[start:cut])
        start = cut


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=200).filter(lambda data: b"olladist-" not in data), st.binary(max_size=300), CUTS)
def test_only_what_the_script_says_is_kept(noise: bytes, said: bytes, cuts: list[int]) -> None:
    """However the bytes come, what a login shell says before is left out and the group is read."""

    async def check() -> None:
        output = Output()
        feed(output, noise + f"{output.token} 4711\n".encode() + said, cuts)

        assert output.group == 4711
        assert bytes(output.stdout) == said
        assert output.noise == noise

    asyncio.run(check())


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=10), st.booleans(), CUTS)
def test_lines_are_those_that_were_written(lines: list[bytes], ends: bool, cuts: list[int]) -> None:
    """However the bytes come, the lines are the same; a last one without newline counts if it is not empty."""

    async def check() -> None:
        output = Output(streaming=True)
        output.out(f"{output.token} 1\n".encode())
        feed(output, b"\n".join(lines) + (b"\n" if ends and lines else b""), cuts)
        output.end(0)
        expected = lines if (ends and lines) or (lines and lines[-1]) else lines[:-1]
        assert [line async for line in output.lines()] == expected

    asyncio.run(check())


async def test_a_script_that_never_started_has_no_group() -> None:
    """Megabytes of noise are not kept either."""
    output = Output()
    for _ in range(100):
        output.out(b"This account is currently not available.\n" * 1000)

    assert output.group is None
    assert output.stdout == b""
    assert len(output.noise) <= 64 * 1024


async def test_reading_pauses_while_nobody_takes_the_lines() -> None:
    """The host waits for a reader that is behind, and goes on when it has caught up."""
    output, process = Output(streaming=True), Steered()
    output.process = process
    output.out(f"{output.token} 1\n".encode())
    for _ in range(6):
        output.out(b"x" * 999 + b"\n" + b"y\n" * 500_000)
    assert (process.paused, process.resumed) == (1, 0)

    async with aclosing(output.lines()) as lines:
        for _ in range(2_000_000):
            await anext(lines)

    assert (process.paused, process.resumed) == (1, 1)


async def test_what_is_lost_is_told_to_everybody() -> None:
    """Who waits for the status and who reads lines gets the same error; nobody waiting is no warning."""
    output = Output(streaming=True)
    output.lose(ConnectionLost("gpu1", "running", "gone"))
    output.end(0)

    with pytest.raises(ConnectionLost):
        await output.status()
    with pytest.raises(ConnectionLost):
        await anext(output.lines())
    await output.started()


async def test_waiting_for_a_status_can_be_given_up() -> None:
    """A cancelled wait does not cancel the command's end for others."""
    output = Output()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await output.status()
    output.end(3)

    assert await output.status() == 3


async def test_the_cut_is_told() -> None:
    """stdout beyond the bound is dropped, and the last line of stderr says so."""
    output = Output()
    output.out(f"{output.token} 1\n".encode())
    for _ in range(40):
        output.out(b"x" * 2**20)
    output.err(b"mine")

    stdout, stderr = output.texts()
    assert len(stdout) < KEPT
    assert stderr == "mine\nolladist: the output was cut at 32 MiB\n"
