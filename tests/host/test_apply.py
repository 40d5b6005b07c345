"""Carrying out plans."""

from pathlib import Path

import pytest

from olladist.errors import CommandFailed, ConnectionLost, HostError
from olladist.host.apply import apply
from olladist.host.desired import Problem
from olladist.host.plan import Plan
from olladist.host.steps import Run
from olladist.ssh.local import LocalRunner


def touch(path: Path, *, fails: bool = False, timeout: float = 60) -> Run:
    script = f"touch {path}" + ("\nfalse" if fails else "")
    return Run(f"make {path.name}", script, root=False, undo_script=f"rm {path}", timeout=timeout)


async def test_steps_are_done_in_their_order_and_announced(tmp_path: Path) -> None:
    """Each with its number."""
    told: list[tuple[str, int, int]] = []
    plan = Plan("here", (touch(tmp_path / "a"), touch(tmp_path / "b")))

    await apply(LocalRunner("here"), plan, lambda step, number, of: told.append((step.describe(), number, of)))

    assert told == [("make a", 1, 2), ("make b", 2, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


async def test_the_step_that_fails_is_undone_and_those_before_it_stay(tmp_path: Path) -> None:
    """The next plan begins where this one ended."""
    plan = Plan("here", (touch(tmp_path / "a"), touch(tmp_path / "b", fails=True), touch(tmp_path / "c")))

    with pytest.raises(CommandFailed, match="while making b"):
        await apply(LocalRunner("here"), plan)

    assert [path.name for path in tmp_path.iterdir()] == ["a"]


async def test_a_failure_that_cannot_be_undone_is_still_the_failure(tmp_path: Path) -> None:
    """What went wrong while tidying up is not what anybody needs to know."""
    step = Run("make it", "exit 3", root=False, undo_script="exit 4")

    with pytest.raises(CommandFailed, match="exit status 3"):
        await apply(LocalRunner("here"), Plan("here", (step,)))


async def test_a_lost_connection_leaves_what_has_arrived(tmp_path: Path) -> None:
    """Nothing could be undone over it, and a copy is resumed."""
    step = Run(
        "make it", f"touch {tmp_path}/half\nsleep 100", root=False, undo_script=f"rm {tmp_path}/half", timeout=0.5
    )

    with pytest.raises(ConnectionLost):
        await apply(LocalRunner("here"), Plan("here", (step,)))

    assert (tmp_path / "half").exists()


async def test_a_plan_with_problems_is_not_begun(tmp_path: Path) -> None:
    """All of them are in the error, and the first one's hint."""
    problems = (Problem("the disk is full", "free some"), Problem("the port is taken"))

    with pytest.raises(HostError, match="the disk is full; the port is taken") as caught:
        await apply(LocalRunner("here"), Plan("here", (touch(tmp_path / "a"),), problems))

    assert caught.value.hint == "free some"
    assert list(tmp_path.iterdir()) == []
