"""Somebody at a shell with an empty home directory."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Person:
    home: Path

    def environ(self, **more: str) -> dict[str, str]:
        """Nothing of the tests' own environment but where programs are; COVERAGE_* passes through."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "TERM": "dumb"} | more

    def olladist(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself, with nobody at its terminal."""
        return subprocess.run(
            [sys.executable, "-m", "olladist", *words], cwd=self.home, env=self.environ(**environ),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip

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
