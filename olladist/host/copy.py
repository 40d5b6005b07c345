"""Copying a tarball to a host."""

import re
from dataclasses import dataclass
from pathlib import Path

from olladist.errors import CommandFailed
from olladist.host.artifacts import packed
from olladist.host.hints import hint_for
from olladist.host.steps import Progress, checked, doing, failed, unwatched
from olladist.host.tarball import Form, Tarball
from olladist.ssh.runner import Runner
from olladist.ssh.words import words

# Reading 4 GB back from a slow disk takes a minute.
_VERIFY_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Copy:
    """Brings a tarball to a host: resumed where an earlier copy was cut off, and compared with ours once it is there."""

    tarball: Tarball
    form: Form
    target: str
    root: bool

    def describe(self) -> str:
        return f"copy {self.tarball.name} to {self.target}"

    def commands(self) -> tuple[str, ...]:
        return (
            words("mkdir", "-p", self.target.rpartition("/")[0]),
            f"cat >>{words(self.target)}  # the tarball, over SSH",
            words("sha256sum", self.target),
        )

    async def execute(self, runner: Runner, progress: Progress = unwatched) -> None:
        path, contents = await packed(self.tarball, self.form)
        there = await self._begun(runner)
        if there > contents.size:
            await self.undo(runner)
            there = 0
        await self._send(runner, path, there, contents.size, progress)
        if await self._digest(runner) == contents.sha256:
            return
        await self.undo(runner)
        if there:  # what an earlier copy had left was of another tarball
            await self._send(runner, path, 0, contents.size, progress)
            if await self._digest(runner) == contents.sha256:
                return
            await self.undo(runner)
        raise failed(
            runner.host,
            self.describe(),
            "what arrived is not what was sent: its sha256 differs",
            "run it again; if it happens again, look for disk errors on the host (`dmesg`)",
        )

    async def undo(self, runner: Runner) -> None:
        """Removes what has arrived. Not done when the connection broke: then the next run goes on from there."""
        await runner.run(words("rm", "-f", self.target), root=self.root, during=f"undoing: {self.describe()}")

    async def _begun(self, runner: Runner) -> int:
        script = f"set -e\n{self.commands()[0]}\ntouch {words(self.target)}\nwc -c <{words(self.target)}"
        answer = (await checked(runner, self.describe(), script, root=self.root)).strip()
        return int(answer) if answer.isascii() and answer.isdigit() else 0

    async def _send(self, runner: Runner, path: Path, offset: int, size: int, progress: Progress) -> None:
        name = self.tarball.name
        progress(name, offset, size)
        if offset < size:
            try:
                await runner.put(
                    path,
                    self.target,
                    offset=offset,
                    root=self.root,
                    progress=lambda sent: progress(name, offset + sent, size),
                )
            except CommandFailed as error:
                error.hint = error.hint or hint_for(error.stderr)
                raise
        progress(name, size, size)

    async def _digest(self, runner: Runner) -> str:
        script = words("sha256sum", self.target)
        answer = await runner.check(script, root=self.root, timeout=_VERIFY_TIMEOUT, during=doing(self.describe()))
        found = re.match(r"\\?([0-9a-f]{64}) ", answer)
        return found[1] if found else ""
