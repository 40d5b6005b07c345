"""Somebody at a shell with an empty home directory."""

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from olladist.cli.app import app

# What would lead out of the home directory.
ELSEWHERE = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "OLLADIST_INVENTORY", "SSH_AUTH_SOCK")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Person:
    home: Path

    def environ(self, **more: str) -> dict[str, str]:
        """What a command finds that is a process of its own; COVERAGE_* passes through."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "TERM": "dumb"} | more

    def command(self, *words: str) -> list[str]:
        """A command line for a process of its own."""
        return [sys.executable, "-m", "olladist", *words]

    def olladist(self, *words: str, **environ: str) -> Done:
        """A command that ends by itself, with nobody at its terminal; it runs in this process, which saves its imports."""
        clean: dict[str, str | None] = dict.fromkeys(ELSEWHERE)
        with contextlib.chdir(self.home):
            result = CliRunner().invoke(app, words, env=clean | self.environ(**environ))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def out(self, *words: str, status: int = 0) -> str:
        """stdout of a command that ends with `status`."""
        done = self.olladist(*words)
        assert done.returncode == status, f"{words} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def document(self, *words: str, status: int = 0) -> dict[str, Any]:
        """The document of a command that ends with `status`."""
        found = json.loads(self.out("--json", *words, status=status))
        assert isinstance(found, dict)
        return found

    def write(self, inventory: str) -> None:
        (self.home / "inventory.toml").write_text(inventory)
