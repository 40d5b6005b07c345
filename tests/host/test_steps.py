"""Steps on this machine."""

import stat
from pathlib import Path

import pytest

from olladist.errors import CommandFailed
from olladist.host import steps
from olladist.host.steps import Run, Write, doing
from olladist.ssh.local import LocalRunner


@pytest.fixture
def runner() -> LocalRunner:
    return LocalRunner("here")


async def test_a_file_is_written_whole_with_its_mode_and_any_content(tmp_path: Path, runner: LocalRunner) -> None:
    """Folders are made; quotes, dollars and an END line are content; nothing else stays behind."""
    target = tmp_path / "a new folder" / "it's"
    text = "$HOME `date` 'x' \"y\" \\\nEND\nüñ\n"

    await Write(str(target), text, "600", root=False).execute(runner)

    assert target.read_text() == text
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["it's"]


async def test_a_file_is_replaced_in_one_instant(tmp_path: Path, runner: LocalRunner) -> None:
    """Whoever has the old one open goes on reading the old one: a shell that runs a script, say."""
    target = tmp_path / "script"
    target.write_text("old")
    with target.open() as reader:
        await Write(str(target), "new", "644", root=False).execute(runner)
        assert reader.read() == "old"
    assert target.read_text() == "new"


async def test_a_write_that_fails_says_why_and_is_undone(tmp_path: Path, runner: LocalRunner) -> None:
    """A folder stands where the file shall be."""
    step = Write(str(tmp_path / "file/x"), "text", "644", root=False)
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(CommandFailed) as caught:
        await step.execute(runner)
    await step.undo(runner)

    assert caught.value.during == f"writing {tmp_path}/file/x"
    assert (tmp_path / "file").read_text() == "not a folder"


async def test_a_script_stops_at_its_first_failure(tmp_path: Path, runner: LocalRunner) -> None:
    """What is planned after it is not done; the error names the step, and a known cause has a hint."""
    step = Run("start it", f"echo 'bind: address already in use' >&2; false\ntouch {tmp_path}/after", root=False)

    with pytest.raises(CommandFailed) as caught:
        await step.execute(runner)

    assert not (tmp_path / "after").exists()
    assert "starting it" in str(caught.value)
    assert "ss -ltnp" in caught.value.hint


async def test_undo_takes_back_what_a_step_says(tmp_path: Path, runner: LocalRunner) -> None:
    """And is nothing where it says nothing."""
    (tmp_path / "half").touch()

    await Run("unpack it", "false", root=False).undo(runner)
    assert (tmp_path / "half").exists()
    await Run("unpack it", "false", root=False, undo_script=f"rm {tmp_path}/half").undo(runner)
    assert not (tmp_path / "half").exists()


def test_orders_have_a_form_for_errors() -> None:
    """ "start x" is what a plan says, "starting x" what an error does."""
    assert doing("start ollama.service") == "starting ollama.service"
    assert all(word.endswith("ing") for word in steps._DOING.values())
