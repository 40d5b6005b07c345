"""The conformance suite of Runner: everything that runs commands on a host keeps these promises."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from olladist.errors import CommandFailed, ConnectionLost, HostError
from olladist.ssh.process import KEPT
from olladist.ssh.runner import Endpoint, Runner

Until = Callable[[Callable[[], object]], Awaitable[None]]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


class Pid:
    """A file into which a command writes its process id."""

    def __init__(self, file: Path, until: Until) -> None:
        self.file = file
        self._until = until

    async def read(self) -> int:
        await self._until(lambda: self.file.exists() and self.file.read_text().endswith("\n"))
        return int(self.file.read_text())

    async def gone(self) -> None:
        pid = await self.read()
        await self._until(lambda: not alive(pid))


@pytest.fixture
def pid(tmp_path: Path, until: Until) -> Pid:
    return Pid(tmp_path / "pid", until)


async def test_run_gives_status_and_both_outputs(runner: Runner) -> None:
    """Any exit status is a result; stdout and stderr are kept apart."""
    done = await runner.run("echo out; echo err >&2; exit 7")

    assert (done.status, done.stdout, done.stderr) == (7, "out\n", "err\n")


async def test_a_signal_is_a_negative_status(runner: Runner) -> None:
    """A command that a signal ends has minus its number as status."""
    done = await runner.run("kill -KILL $$")

    assert done.status == -signal.SIGKILL


async def test_stdin_arrives_whole_and_ends(runner: Runner) -> None:
    """A megabyte of stdin comes through, and the command sees its end."""
    done = await runner.run("cksum", stdin=b"\0\xff\n" * 400_000)

    assert done.stdout.split()[1] == "1200000"


async def test_a_command_that_does_not_read_its_stdin_ends_well(runner: Runner) -> None:
    """Stdin that nobody reads is no error."""
    done = await runner.run("exit 3", stdin=b"x" * 3_000_000)

    assert done.status == 3


async def test_text_of_any_kind_goes_through_a_script(runner: Runner) -> None:
    """Quotes, backslashes, dollars, line breaks and other alphabets reach the shell as they are."""
    text = 'it\'s "quoted" \\ $HOME `x`\n\ttab é 漢字 🦙'
    done = await runner.run(f"cat <<'EOT'\n{text}\nEOT")

    assert done.stdout == text + "\n"


async def test_the_locale_is_utf8_and_the_same_everywhere(runner: Runner) -> None:
    """Sorting and character classes do not depend on what the operator's terminal says."""
    assert await runner.check('echo "$LC_ALL"') == "C.UTF-8\n"


async def test_bytes_that_are_no_text_do_not_break_the_output(runner: Runner) -> None:
    """What is not UTF-8 is replaced, the rest is there."""
    assert await runner.check(r"printf 'a\377b'") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.timeout(120)
async def test_output_is_bounded(runner: Runner) -> None:
    """A command that prints without end does not fill our memory, and the cut is told."""
    done = await runner.run("head -c 40000000 /dev/zero")

    assert len(done.stdout) <= KEPT
    assert "cut at 32 MiB" in done.stderr
    assert done.status == 0


async def test_the_end_of_stderr_is_what_is_kept(runner: Runner) -> None:
    """The last words of a noisy failure are there, not the first."""
    done = await runner.run("yes noise | head -c 4000000 >&2; echo the cause >&2; exit 1")

    assert done.stderr.endswith("the cause\n")
    assert len(done.stderr) <= 1024 * 1024


async def test_timeout_ends_the_whole_process_group(runner: Runner, pid: Pid) -> None:
    """After the timeout nothing of the command is left on the host, and the error says what was being done."""
    with pytest.raises(ConnectionLost, match=r"no end after 1 s.*last words.*while waiting for nothing"):
        await runner.run(
            f"echo last words >&2; sh -c 'echo $$ >{pid.file}; exec sleep 600' & wait",
            timeout=1,
            during="waiting for nothing",
        )

    await pid.gone()


async def test_a_command_that_ignores_term_is_killed(runner: Runner, pid: Pid) -> None:
    """TERM first; what does not heed it is killed."""
    with pytest.raises(ConnectionLost):
        await runner.run(f"trap '' TERM; echo $$ >{pid.file}; while :; do sleep 1; done", timeout=0.5)

    await pid.gone()


async def test_cancelling_ends_the_command_and_frees_its_slot(runner: Runner, tmp_path: Path, until: Until) -> None:
    """A cancelled run leaves nothing on the host, and others can run as before."""
    pids = [Pid(tmp_path / str(n), until) for n in range(6)]
    tasks = [asyncio.create_task(runner.run(f"echo $$ >{pid.file}; exec sleep 600")) for pid in pids]
    for pid in pids:
        await pid.read()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert all(task.cancelled() for task in tasks)
    for pid in pids:
        await pid.gone()
    assert await runner.check("echo free") == "free\n"


async def test_many_at_once_wait_for_each_other(runner: Runner) -> None:
    """More commands than a connection has sessions all end well."""
    done = await asyncio.gather(*(runner.run(f"echo {n}") for n in range(25)))

    assert [each.stdout for each in done] == [f"{n}\n" for n in range(25)]


async def test_what_a_command_leaves_behind_on_purpose_stays(runner: Runner, pid: Pid) -> None:
    """A daemon in its own session outlives the command that started it."""
    await runner.check(f"setsid sh -c 'echo $$ >{pid.file}; exec sleep 600' </dev/null >/dev/null 2>&1 &")

    assert alive(await pid.read())
    os.kill(await pid.read(), signal.SIGKILL)


async def test_check_gives_stdout_or_says_what_failed(runner: Runner) -> None:
    """CommandFailed names the host, what was being done, the status and the last words."""
    assert await runner.check("echo fine") == "fine\n"
    with pytest.raises(CommandFailed, match=r"exit status 4: no such thing \(while looking\)") as caught:
        await runner.check("echo no such thing >&2; exit 4", during="looking")

    assert caught.value.host == runner.host
    assert caught.value.status == 4


async def test_a_script_too_long_for_an_argument_still_has_a_way(runner: Runner) -> None:
    """128 KiB do not fit into an argument; on stdin they do."""
    done = await runner.run("sh -s", stdin=b"#" * 200_000 + b"\necho long\n")

    assert done.stdout == "long\n"


async def test_lines_come_one_by_one(runner: Runner) -> None:
    """Lines come as they are written, also empty ones and a last one without its newline."""
    lines = [line async for line in runner.lines("echo a; echo; printf 'b\\nc'")]

    assert lines == [b"a", b"", b"b", b"c"]


async def test_lines_come_while_the_command_runs(runner: Runner, pid: Pid) -> None:
    """The first line is there before the command has ended; closing the iterator ends the command."""
    async with aclosing(runner.lines(f"echo $$ >{pid.file}; echo first; exec sleep 600")) as lines:
        assert await anext(lines) == b"first"

    await pid.gone()
    assert await runner.check("echo free") == "free\n"


async def test_lines_of_a_command_that_fails_end_in_its_error(runner: Runner) -> None:
    """What was printed is given out first, then the failure is told."""
    lines = runner.lines("echo one; echo bad >&2; exit 2")

    assert await anext(lines) == b"one"
    with pytest.raises(CommandFailed, match="exit status 2: bad"):
        await anext(lines)


async def test_lines_wait_for_a_slow_reader(runner: Runner) -> None:
    """A reader that stops does not make us read a gigabyte ahead; nothing is lost when it goes on."""
    count = 0
    async with aclosing(runner.lines("seq 2000000")) as lines:
        assert await anext(lines) == b"1"
        await runner.check("true")
        async for line in lines:
            count += 1
            last = line

    assert (count, last) == (1_999_999, b"2000000")


async def test_a_line_without_end_comes_in_pieces(runner: Runner) -> None:
    """No line is longer than about a megabyte."""
    lines = [line async for line in runner.lines("head -c 5000000 /dev/zero; echo; echo end")]

    assert sum(map(len, lines)) == 5_000_003
    assert max(map(len, lines)) < 2_000_000
    assert lines[-1] == b"end"


async def test_put_copies_the_file(runner: Runner, tmp_path: Path) -> None:
    """Every byte arrives, under a name with any characters, and progress ends at the whole size."""
    source, target = tmp_path / "source", tmp_path / "it's a \\ target"
    source.write_bytes(os.urandom(3_000_000))
    seen: list[int] = []

    await runner.put(source, str(target), progress=seen.append)

    assert target.read_bytes() == source.read_bytes()
    assert seen == sorted(seen)
    assert seen[-1] == 3_000_000


async def test_put_goes_on_where_it_was_cut(runner: Runner, tmp_path: Path) -> None:
    """With an offset only the rest is sent, after what is there."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1_000_000))
    target.write_bytes(source.read_bytes()[:400_000])
    seen: list[int] = []

    await runner.put(source, str(target), offset=400_000, progress=seen.append)

    assert target.read_bytes() == source.read_bytes()
    assert seen[-1] == 600_000


async def test_put_of_an_empty_file_makes_one(runner: Runner, tmp_path: Path) -> None:
    """Nothing to send is a file of nothing."""
    (tmp_path / "source").touch()

    await runner.put(tmp_path / "source", str(tmp_path / "target"))

    assert (tmp_path / "target").read_bytes() == b""


async def test_put_that_the_host_cannot_write_says_why(runner: Runner, tmp_path: Path) -> None:
    """The host's own words are in the error."""
    (tmp_path / "source").write_bytes(b"x" * 5_000_000)
    with pytest.raises(CommandFailed, match="No space left on device"):
        await runner.put(tmp_path / "source", "/dev/full")
    with pytest.raises(CommandFailed, match=r"nowhere/file.*(nonexistent|No such file)"):
        await runner.put(tmp_path / "source", f"{tmp_path}/nowhere/file")


async def test_get_brings_the_file(runner: Runner, tmp_path: Path) -> None:
    """Every byte comes, line breaks and zeros too, from a name with any characters; progress ends at the whole size."""
    source, target = tmp_path / "it's a \\ source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000) + b"\n\0\n")
    seen: list[int] = []

    await runner.get(str(source), target, progress=seen.append)

    assert target.read_bytes() == source.read_bytes()
    assert seen == sorted(seen)
    assert seen[-1] == 3_000_003


async def test_get_goes_on_where_it_was_cut(runner: Runner, tmp_path: Path) -> None:
    """With an offset only the rest comes, after what is there; nothing is left of a file that is whole."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1_000_000))
    target.write_bytes(source.read_bytes()[:400_000])

    await runner.get(str(source), target, offset=400_000)
    await runner.get(str(source), target, offset=1_000_000)

    assert target.read_bytes() == source.read_bytes()


async def test_get_of_what_is_not_there_says_so(runner: Runner, tmp_path: Path) -> None:
    """The host's own words are in the error."""
    with pytest.raises(CommandFailed, match=r"nowhere.*No such file"):
        await runner.get(f"{tmp_path}/nowhere", tmp_path / "target")


async def test_get_into_what_cannot_be_written_names_this_machine(runner: Runner, tmp_path: Path) -> None:
    """Whether it fails at once or on the way, and the command on the host is ended."""
    with pytest.raises(HostError, match=r"cannot be written on this machine: No space left on device"):
        await runner.get("/dev/zero", Path("/dev/full"))
    with pytest.raises(HostError, match=r"nowhere/target cannot be written on this machine: No such file"):
        await runner.get("/dev/zero", tmp_path / "nowhere" / "target")

    assert await runner.check("echo free") == "free\n"


async def test_put_of_a_file_that_is_not_there_is_told(runner: Runner, tmp_path: Path) -> None:
    """A source that cannot be read here is no mystery of the host."""
    with pytest.raises(HostError, match=rf"{tmp_path}/none cannot be read on this machine: No such file"):
        await runner.put(tmp_path / "none", str(tmp_path / "target"))

    assert not (tmp_path / "target").exists()


async def test_reach_leads_to_a_port_of_the_host(runner: Runner) -> None:
    """Through the endpoint a client speaks with what listens on the host's loopback."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whether a host forwards is found out by a connection that says nothing.
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\nOllama is running")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, runner.reach(server.sockets[0].getsockname()[1]) as endpoint:
        answers = await asyncio.gather(*(fetch(endpoint) for _ in range(10)))

    assert answers == ["Ollama is running"] * 10


async def fetch(endpoint: Endpoint) -> str:
    transport = httpx.AsyncHTTPTransport(uds=endpoint.path)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return (await client.get(f"http://{endpoint.host}:{endpoint.port or 80}/")).text


async def test_sudo_says_how_root_is_had(runner: Runner) -> None:
    """One of four answers, the same each time."""
    mode = await runner.sudo()

    assert mode in ("root", "passwordless", "password", "none")
    assert await runner.sudo() == mode
