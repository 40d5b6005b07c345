"""Real hosts and someone at a shell, as values that tests hold."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
LAB = Path(os.environ.get("OLLADIST_LAB", "/var/tmp/olladist-lab"))
KEY = LAB / "id_ed25519"
RELEASE = LAB / "ollama/0.17.4/ollama-linux-amd64.tar.zst"
OLLAMA = LAB / "ollama/0.17.4/bin/ollama"


@dataclass
class Hosts:
    """The machines of one test file; every one is powered off when the file is done."""

    booted: list[str] = field(default_factory=list)

    def _run(self, *words: str) -> str:
        done = subprocess.run([HERE / "hosts", *words], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"hosts {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *names: str) -> None:
        """Fresh machines: whatever stood there under these names before is gone."""
        self._run("down", *names)
        self.booted += names
        self._run("up", *names)
        for name in names:
            if not self._lets_in(name):
                # One container in a thousand hangs while it boots, which is not what is tested; the next one does not.
                self._run("down", name)
                self._run("up", name)
                assert self._lets_in(name), f"{name} did not boot twice: {self._boots(name)}"

    def _lets_in(self, name: str) -> bool:
        """Whether its boot comes so far: pam_nologin lets in root alone until systemd-user-sessions.service has run."""
        wait = "for _ in $(seq 300); do [ -e /run/nologin ] || exit 0; sleep 0.1; done; exit 1"
        try:
            return _ssh("root", name, wait, 60).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _boots(self, name: str) -> str:
        """What systemd still has to do there."""
        return _ssh("root", name, "systemctl list-jobs --no-pager", 30).stdout

    def small(self, name: str, size: str) -> None:
        """A fresh machine whose disk holds only `size`, such as 300m."""
        self._run("down", name)
        self.booted.append(name)
        self._run("disk", name, size)
        self._run("up", name)

    def down(self, *names: str) -> None:
        self._run("down", *names)

    def kill(self, name: str) -> None:
        self._run("kill", name)

    def boot(self, name: str) -> None:
        self._run("boot", name)

    def cut(self, name: str) -> None:
        self._run("cut", name)

    def heal(self, name: str) -> None:
        self._run("heal", name)

    def limit(self, name: str, rate: str) -> None:
        self._run("limit", name, rate)

    def ssh(self, user: str, name: str, script: str) -> str:
        """What `script` prints on the host, through plain OpenSSH: the tests' own eyes, not olladist's."""
        done = _ssh(user, name, script, 120)
        assert done.returncode == 0, f"{user}@{name}: {script}: {done.stdout}{done.stderr}"
        return done.stdout


def _ssh(user: str, name: str, script: str, seconds: float) -> subprocess.CompletedProcess[str]:
    options = ["-i", str(KEY), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    words = ["ssh", *options, f"{user}@{address(name)}", script]
    return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)


def address(name: str) -> str:
    """The address of a lab host, as tests/lab/hosts gives it."""
    number = int(name.removeprefix("gpu").removeprefix("box"))
    return f"198.18.0.{(10 if name.startswith('gpu') else 110) + number}"


@dataclass
class Operator:
    """Someone at a shell: a home directory, and `olladist` as a command there."""

    home: Path

    @property
    def environ(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{LAB / 'ollama/0.17.4/bin'}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "TERM": "dumb"}

    def run(self, *words: str, timeout: float = 120, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.home, env=self.environ | environ, capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """A program that goes on; what it says goes to `log`."""
        with log.open("wb") as out:
            return subprocess.Popen(
                words, cwd=self.home, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def olladist(self, *words: str, timeout: float = 120, status: int = 0) -> str:
        """stdout of an `olladist` command that must end with `status`."""
        done = self.run("olladist", *words, timeout=timeout)
        assert done.returncode == status, (
            f"olladist {' '.join(words)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout
