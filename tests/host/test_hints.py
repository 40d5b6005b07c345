"""Hints for causes that commands and logs name."""

import pytest

from olladist.host.hints import hint_for


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("tar: bin/ollama: Cannot write: No space left on device", "free some space"),
        ("tar: bin/ollama: Wrote only 1024 of 10240 bytes", "free some space"),
        ("Error: listen tcp 127.0.0.1:11434: bind: address already in use", "ss -ltnp"),
        ("/opt/x/bin/ollama: cannot execute binary file: Exec format error", "uname -m"),
        ("sh: 1: /opt/x/bin/ollama: Exec format error", "uname -m"),
        ("env: '/home/x/bin/ollama': No such file or directory", "glibc"),
        ("ollama: error while loading shared libraries: libstdc++.so.6: cannot open shared object file", "library"),
        ("Error: mkdir /data/models: permission denied: ensure path elements are traversable", "own the model store"),
        ("mv: cannot move: Read-only file system", "read-only"),
        ("sh: 3: useradd: not found", "install the package"),
        ("all is well", ""),
    ],
)
def test_known_causes_have_a_next_step(said: str, about: str) -> None:
    """What commands say in their own words leads to what a person can do."""
    assert about in hint_for(said)
    assert bool(hint_for(said)) == bool(about)
