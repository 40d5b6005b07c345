"""The demo with a real Ollama (with the simulated one: tests/demo/test_run.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab


@pytest.mark.timeout(400)
def test_everything_holds_with_a_real_ollama(ollama_binary: Path, tmp_path: Path) -> None:
    """The one on the PATH is installed on three throw-away hosts, and every claim of the demo holds."""
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PATH": f"{ollama_binary.parent}:{os.environ['PATH']}"}
    words = [sys.executable, "-m", "olladist", "demo"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=380, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "with the real Ollama 0.17.4" in done.stdout
    assert not list(tmp_path.glob("olladist-demo-*"))
