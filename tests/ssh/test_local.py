from pathlib import Path

import pytest

from olladist.errors import ConnectionLost
from olladist.ssh.local import LocalRunner, start
from olladist.ssh.process import Output


async def test_the_operators_settings_are_not_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OLLAMA_HOST for the gateway must not reach an Ollama that is started here; the rest of the environment does."""
    monkeypatch.setenv("OLLAMA_HOST", "http://gateway")
    monkeypatch.setenv("OLLADIST_INVENTORY", "mine.toml")
    monkeypatch.setenv("SOMETHING", "else")

    assert await LocalRunner("laptop").check('echo "$OLLAMA_HOST$OLLADIST_INVENTORY$SOMETHING"') == "else\n"


async def test_commands_start_in_the_home_directory(home: Path) -> None:
    """As a login over SSH does, wherever olladist was started."""
    assert await LocalRunner("laptop").check("pwd") == f"{home}\n"


async def test_commands_have_a_session_of_their_own() -> None:
    """A Ctrl-C in the operator's terminal does not reach them; we end them in our own order."""
    sid, mine = (
        await LocalRunner("laptop").check("cut -d' ' -f6 /proc/$$/stat; cut -d' ' -f6 /proc/$PPID/stat")
    ).split()

    assert sid != mine


async def test_a_program_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """A home directory that is gone is told, not a traceback."""
    monkeypatch.setenv("HOME", str(home / "gone"))
    with pytest.raises(ConnectionLost, match="laptop: cannot start /bin/sh: No such file"):
        await LocalRunner("laptop").run("true")


async def test_start_raises_what_the_system_says() -> None:
    """A missing program is the caller's to explain."""
    with pytest.raises(FileNotFoundError):
        await start(("/no/such/program",), Output())
