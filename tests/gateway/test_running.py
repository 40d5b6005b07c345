import subprocess
import sys
from pathlib import Path

import pytest

from olladist.gateway.running import Running, alive, announced, find, is_alive, notes_dir, sweep

# A gateway as far as others can see it: it holds its lock, has left its note, and lives until it is killed.
GATEWAY = """
import sys, time
from pathlib import Path
from olladist.gateway.running import Running, alive, announced
run_dir, inventory, port = sys.argv[1:]
note = Running(pid=int(port), url="http://x", host="127.0.0.1", port=int(port), run_dir=run_dir, inventory=inventory,
               since=float(port), version="1")
with alive(Path(run_dir)), announced(note):
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def gateway(run_dir: Path, inventory: Path, port: int) -> subprocess.Popen[bytes]:
    run_dir.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(run_dir), str(inventory), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"running\n"
    return process


def test_a_gateway_is_found_while_it_lives(tmp_path: Path) -> None:
    """Two of one inventory are two; one that was killed is none, and its note goes; another inventory's is not seen."""
    mine, other = tmp_path / "mine.toml", tmp_path / "other.toml"
    with gateway(tmp_path / "b", mine, 2) as two, gateway(tmp_path / "a", mine, 1) as one:
        with gateway(tmp_path / "c", other, 3) as three:
            assert [running.port for running in find(mine)] == [1, 2]
            assert [running.port for running in find(other)] == [3]
            three.communicate()
        one.kill()
        one.wait()

        assert [running.port for running in find(mine)] == [2]
        assert len(list(notes_dir().glob("*.running.json"))) == 1
        two.communicate()
    assert find(mine) == ()
    assert list(notes_dir().iterdir()) == []


def test_a_note_that_cannot_be_read_is_taken_away(tmp_path: Path) -> None:
    """Half a file, or one of another version."""
    note = Running(
        pid=1, url="", host="", port=1, run_dir=str(tmp_path), inventory=str(tmp_path / "i"), since=0, version=""
    )
    with alive(tmp_path), announced(note):
        assert find(tmp_path / "i") == (note,)
        (path,) = notes_dir().glob("*.running.json")
        path.write_text("{")

        assert find(tmp_path / "i") == ()
        assert not path.exists()


def test_a_gateway_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    """With a home directory that both share: its lock cannot be seen from here, so that nobody here knows whether it lives."""
    note = Running(
        pid=1,
        url="",
        host="",
        port=1,
        run_dir="/run/x",
        inventory=str(tmp_path / "i"),
        since=0,
        version="",
        machine="far.example",
    )
    with announced(note):
        assert find(tmp_path / "i") == ()
        assert len(list(notes_dir().glob("*.running.json"))) == 1


def test_only_what_a_dead_gateway_has_left_is_swept(tmp_path: Path) -> None:
    """Not what a living one uses, what was never a gateway's, or a link to somewhere."""
    dead, living, foreign, link = (tmp_path / name for name in ("dead", "living", "foreign", "link"))
    foreign.mkdir()
    (foreign / "key").touch()
    with gateway(dead, tmp_path / "i", 1) as process:
        process.kill()
        process.wait()
    link.symlink_to(dead)
    with gateway(living, tmp_path / "i", 2) as process:
        assert is_alive(living)
        assert not is_alive(dead)

        assert sweep([link, dead, living, foreign, tmp_path / "gone"]) == [dead]

        assert not dead.exists()
        assert (living / "lock").exists()
        assert (foreign / "key").exists()
        process.communicate()
