"""This machine as a host, with a home directory of its own for each test."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.local import end_all
from tests.host.web import Web, serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, of the operator and of the host; whatever a test has left running under a supervisor is ended."""
    path = tmp_path / "home"
    path.mkdir()
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(path))
    yield path
    end_all(path)


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free: int = server.getsockname()[1]
        return free


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found
