"""What runs commands on a host: over SSH, or here without it. One conformance suite: tests/ssh/test_runner.py."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from olladist.ssh.sudo import SudoMode


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended; `status` is -N where signal N ended it."""

    script: str
    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a TCP port of a host's loopback is reached from here: a unix socket, or host and port."""

    path: str | None = None
    host: str = "127.0.0.1"
    port: int = 0


class Runner(Protocol):
    """One host, connected. Raises only HostErrors; after ConnectionLost it is of no more use."""

    @property
    def host(self) -> str:
        """The host's name in the inventory."""
        ...

    async def run(
        self, script: str, *, root: bool = False, stdin: bytes = b"", timeout: float | None = 60.0, during: str = ""
    ) -> Completed:
        """Runs `script` with /bin/sh and waits for its end; any exit status is a result, not an error.

        With `root` it runs as uid 0 however the host allows that (login as root, sudo with or without a password);
        SudoRefused where it cannot. `timeout` in seconds ends the remote process group and raises ConnectionLost.
        `during` goes into the errors ("reading facts"). LC_ALL is C.UTF-8. At most 32 MiB of output is kept.
        """
        ...

    async def check(
        self, script: str, *, root: bool = False, stdin: bytes = b"", timeout: float | None = 60.0, during: str = ""
    ) -> str:
        """As `run`, but returns stdout, and CommandFailed for any status but 0."""
        ...

    def lines(self, script: str, *, root: bool = False) -> AsyncGenerator[bytes, None]:
        """Lines of stdout as they come, without their newline, until the command ends; `aclose` ends it.

        CommandFailed at the end for any status but 0. A line of more than 1 MiB comes in pieces.
        """
        ...

    async def put(
        self,
        source: Path,
        target: str,
        *,
        offset: int = 0,
        root: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Appends the bytes of `source` from `offset` on to the file `target` (`cat >>`), over the fastest path there is.

        `progress` gets the count of bytes sent so far by this call, about four times a second.
        """
        ...

    async def sudo(self) -> SudoMode:
        """How this host lets us become root: "root", "passwordless", "password" (it asks for one) or "none"."""
        ...

    async def get(
        self,
        source: str,
        target: Path,
        *,
        offset: int = 0,
        root: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Appends the bytes of the host's file `source` from `offset` on to the local file `target`.

        What came before a failure is there. `progress` as with `put`.
        """
        ...

    def reach(self, port: int) -> AbstractAsyncContextManager[Endpoint]:
        """A way to 127.0.0.1:`port` of the host for as long as the context lasts."""
        ...

    async def close(self) -> None: ...
