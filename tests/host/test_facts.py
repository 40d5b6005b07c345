"""Facts: one script, one pure parser."""

import json
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olladist.errors import HostError
from olladist.host.facts import facts_input, facts_script, gather, parse_facts
from olladist.host.found import Facts, Sudo
from olladist.inventory.model import Connection, Host, Instance
from olladist.ssh.local import LocalRunner
from tests.host.recorded import CASES, FOLDER, as_json, recorded

REAL = (FOLDER / "debian13-system-service/output.txt").read_text()


@pytest.mark.parametrize("case", CASES)
def test_what_a_host_printed_is_read_as_its_facts(case: str) -> None:
    """Outputs of many distributions, each with the facts that are in it."""
    assert as_json(recorded(case)) == json.loads((FOLDER / case / "facts.json").read_text())


@given(st.text())
@example("@olladist-facts 1\n@done login\n@done host\n")
@example("bash: line 1: sh: command not found")
def test_any_text_is_facts_or_an_error_that_names_the_host(text: str) -> None:
    """A host may answer anything."""
    found: Facts | HostError
    try:
        found = parse_facts(text, "gpu7")
    except HostError as error:
        found = error

    assert isinstance(found, Facts) or (found.host == "gpu7" and found.hint)


@given(st.data())
def test_a_damaged_answer_is_facts_or_an_error(data: st.DataObject) -> None:
    """Lines lost, repeated, cut or filled with anything: the parser never fails in another way."""
    lines = (FOLDER / data.draw(st.sampled_from(CASES)) / "output.txt").read_text().split("\n")
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        lines[at] = data.draw(
            st.one_of(
                st.just(line[: len(line) // 2]),
                st.text(max_size=20).map(lambda text, line=line: line.partition("=")[0] + "=" + text),  # type: ignore[misc]
                st.text(max_size=20).map(lambda text: "|" + text),
                st.just(f"{line}\n{line}"),
            )
        )
    with suppress(HostError):
        assert isinstance(parse_facts("\n".join(lines)), Facts)


@given(st.integers(0, len(REAL) - 1))
def test_an_answer_that_was_cut_off_is_never_taken_for_a_whole_one(end: int) -> None:
    """A connection that broke in the middle is an error, not a host with less on it."""
    if end >= REAL.index("@done host") + len("@done host"):
        return
    with pytest.raises(HostError, match="cut short"):
        parse_facts(REAL[:end], "gpu7")


def test_the_error_says_what_the_host_said() -> None:
    """What stood on stderr is the likeliest cause."""
    with pytest.raises(HostError, match="cannot fork"):
        parse_facts("", "gpu7", "sh: 1: cannot fork: out of memory\n")


async def test_this_machine_tells_who_we_are_and_who_listens() -> None:
    """The script runs here as it would on a host: user, home, memory, and the process behind a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        host = Host("here", "localhost", connection=Connection.LOCAL, instances=(Instance(port),))
        facts = await gather(LocalRunner("here"), host, ask_sudo=False)

    assert (facts.system, facts.uid, facts.home) == ("Linux", os.getuid(), str(Path.home().resolve()))
    assert facts.ram_bytes > 1 << 27
    assert facts.sudo is not Sudo.ROOT or os.getuid() == 0
    assert [listener.pid for listener in facts.listeners if listener.port == port] == [os.getpid()]
    assert facts.processes[os.getpid()].group == os.getpgid(0)
    assert facts.paths[f"{facts.home}/.ollama/models"].free_bytes


def test_the_script_changes_nothing_and_needs_no_more_than_posix(tmp_path: Path) -> None:
    """It runs in an empty home without a word on stderr, and leaves that home empty."""
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["/bin/sh", "-c", facts_script(Host("here", "localhost"))],
        env=environ, input=facts_input(), capture_output=True, check=True,
    )  # fmt: skip

    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []
    assert parse_facts(done.stdout.decode(), "here").home == str(tmp_path)


def test_a_models_folder_with_any_name_reaches_the_script(tmp_path: Path) -> None:
    """Blanks, quotes and dollars in models_dir are words, never commands."""
    strange = tmp_path / "my $(touch hacked) 'models'"
    strange.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", facts_script(Host("here", "localhost", models_dir=str(strange)))],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, input=facts_input(), capture_output=True, check=True,
    )  # fmt: skip

    facts = parse_facts(done.stdout.decode(), "here")

    assert facts.paths[str(strange)].directory
    assert [path.name for path in tmp_path.iterdir()] == [strange.name]
