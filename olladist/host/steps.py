"""Steps: values that say what they do, list their commands, do it, and know how to take it back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from olladist.errors import CommandFailed, HostError
from olladist.host.hints import hint_for
from olladist.ssh.runner import Runner
from olladist.ssh.words import words

# (what, bytes done, bytes in all)
Progress: TypeAlias = Callable[[str, int, int], None]


def unwatched(what: str, done: int, total: int) -> None:
    """Nobody looks."""


class Step(Protocol):
    """One change to a host."""

    def describe(self) -> str:
        """What it does, as an order: "start ollama.service"."""
        ...

    def commands(self) -> tuple[str, ...]:
        """What runs on the host, as it could be typed into a shell there."""
        ...

    async def execute(self, runner: Runner, progress: Progress = unwatched) -> None:
        """Does it; HostError where it fails."""
        ...

    async def undo(self, runner: Runner) -> None:
        """Takes back what a failed `execute` may have begun; harmless where it had not."""
        ...


# Steps are orders ("start …"); errors say what was being done ("starting …").
_DOING = {
    "add": "adding", "allow": "allowing", "clear": "clearing", "copy": "copying", "create": "creating", "disable": "disabling",
    "enable": "enabling", "have": "having", "keep": "keeping", "link": "linking", "make": "making", "remove": "removing",
    "restart": "restarting", "start": "starting", "stop": "stopping", "switch": "switching", "tell": "telling",
    "unpack": "unpacking", "wait": "waiting", "write": "writing",
}  # fmt: skip


def doing(title: str) -> str:
    verb, _, rest = title.partition(" ")
    return f"{_DOING[verb]} {rest}"


async def checked(
    runner: Runner, title: str, script: str, *, root: bool, stdin: bytes = b"", timeout: float = 60.0
) -> str:
    """Runs a script that must succeed; the error carries a hint where its cause is a known one."""
    try:
        return await runner.check(script, root=root, stdin=stdin, timeout=timeout, during=doing(title))
    except CommandFailed as error:
        if not error.hint:
            error.hint = hint_for(error.stderr)
        raise


@dataclass(frozen=True, slots=True)
class Run:
    """A script; `title` is its describe()."""

    title: str
    script: str
    root: bool
    undo_script: str = ""
    timeout: float = 60.0

    def describe(self) -> str:
        return self.title

    def commands(self) -> tuple[str, ...]:
        return tuple(self.script.splitlines())

    async def execute(self, runner: Runner, progress: Progress = unwatched) -> None:
        await checked(runner, self.title, f"set -e\n{self.script}", root=self.root, timeout=self.timeout)

    async def undo(self, runner: Runner) -> None:
        if self.undo_script:
            await runner.run(self.undo_script, root=self.root, during=f"undoing: {self.title}")


@dataclass(frozen=True, slots=True)
class Write:
    """A file of ours, in place in one instant and only once it is whole."""

    path: str
    text: str
    mode: str
    root: bool

    def describe(self) -> str:
        return f"write {self.path}"

    def _script(self) -> str:
        folder, new = self.path.rpartition("/")[0], f"{self.path}.olladist"
        # umask: nobody may read a private file in the moment before its mode is set.
        return "\n".join(
            [
                words("mkdir", "-p", folder),
                f"(umask 077 && cat >{words(new)})",
                words("chmod", self.mode, new),
                words("mv", "-f", new, self.path),
            ]
        )

    def commands(self) -> tuple[str, ...]:
        first, cat, *rest = self._script().splitlines()
        return (first, f"{cat} <<'END'\n{self.text}END", *rest)

    async def execute(self, runner: Runner, progress: Progress = unwatched) -> None:
        # Content goes over stdin: command lines can be read by everybody on the host.
        await checked(runner, self.describe(), f"set -e\n{self._script()}", root=self.root, stdin=self.text.encode())

    async def undo(self, runner: Runner) -> None:
        await runner.run(
            words("rm", "-f", f"{self.path}.olladist"), root=self.root, during=f"undoing: {self.describe()}"
        )


def failed(host: str, title: str, cause: str, hint: str = "") -> HostError:
    return HostError(host, doing(title), cause, hint=hint or hint_for(cause))
