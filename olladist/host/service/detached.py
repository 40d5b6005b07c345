"""Servers without systemd, as in rented containers: a supervisor of ours in a session of its own (supervise.sh)."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import ClassVar

from olladist.host.desired import Desired, Server
from olladist.host.facts import MARKER
from olladist.host.found import Detached, Facts
from olladist.host.ready import Ready
from olladist.host.service.state import State
from olladist.host.steps import Run, Step, Write
from olladist.ssh.words import quote, words


def _script() -> str:
    return resources.files("olladist.host.service").joinpath("supervise.sh").read_text()


@dataclass(frozen=True, slots=True)
class Supervised:
    """The servers below one prefix; each has its directory `run/PORT`. Nothing starts them after a reboot but `up`."""

    prefix: str
    root: ClassVar[bool] = False

    def directory(self, port: int) -> str:
        return f"{self.prefix}/run/{port}"

    def _supervise(self, what: str, port: int) -> str:
        return words("sh", f"{self.prefix}/supervise.sh", what, self.directory(port))

    def files(self, desired: Desired, server: Server) -> Iterator[Write]:
        yield Write(f"{self.prefix}/supervise.sh", _script(), "755", self.root)
        settings = {
            "HOME": desired.home,
            "OLLADIST_BINARY": desired.binary,
            "OLLADIST_DIRECTORY": self.directory(server.port),
            **server.environment,
        }
        text = "".join(f"export {name}={quote(value)}\n" for name, value in sorted(settings.items()))
        yield Write(f"{self.directory(server.port)}/env", f"{MARKER}.\n{text}", "600", self.root)

    def found(self, facts: Facts, port: int) -> Detached | None:
        return next((found for found in facts.detached if found.path == self.directory(port)), None)

    def state(self, facts: Facts, port: int) -> State:
        found = self.found(facts, port)
        if found is None:
            return State()
        process = facts.process(found.pid)
        if process is None:
            return State(enabled=True, restarts=found.restarts, says="stopped")
        return State(True, True, found.server, process.revision, process.since, found.restarts, "active")

    def ours(self, facts: Facts) -> tuple[int, ...]:
        """Ports of all servers that have a directory here."""
        return tuple(sorted(found.port for found in facts.detached if found.path == self.directory(found.port)))

    def up(self, facts: Facts, desired: Desired) -> Iterator[Step]:
        writes = {
            write.path: write
            for server in desired.servers
            for write in self.files(desired, server)
            if facts.hashes.get(write.path) != hashlib.sha256(write.text.encode()).hexdigest()
        }
        yield from writes.values()
        for server in desired.servers:
            state = self.state(facts, server.port)
            if not state.active or state.revision != server.revision:
                yield from self._start("restart" if state.active else "start", server.port, desired.version)

    def restart(self, facts: Facts, desired: Desired) -> Iterator[Step]:
        for server in desired.servers:
            yield from self._start("restart", server.port, desired.version)

    def down(self, facts: Facts, ports: Iterable[int]) -> Iterator[Step]:
        for port in ports:
            found = self.found(facts, port)
            if found is not None and (found.pid or found.server):
                yield Run(f"stop the Ollama on port {port}", self._supervise("stop", port), self.root)

    def remove(self, facts: Facts, ports: Iterable[int]) -> Iterator[Step]:
        for port in ports:
            yield from self.down(facts, [port])
            yield Run(f"remove {self.directory(port)}", words("rm", "-rf", self.directory(port)), self.root)

    def _start(self, verb: str, port: int, version: str) -> Iterator[Step]:
        # Stopped first in any case: a supervisor that was killed may have left its server behind.
        script = f"{self._supervise('stop', port)}\n{self._supervise('start', port)}"
        yield Run(f"{verb} the Ollama on port {port}", script, self.root)
        yield Ready(
            port=port,
            version=version,
            what=f"the Ollama on port {port}",
            probe=_PROBE.format(directory=quote(self.directory(port))),
            logs=self.logs(port, lines=80),
            root=self.root,
        )

    def logs(self, port: int, *, lines: int, follow: bool = False) -> str:
        return words("tail", *(["-F"] if follow else []), "-n", lines, f"{self.directory(port)}/log")


# The supervisor waits 1 s, then 2 s, before it starts a server again.
_PROBE = """cd {directory} || exit 0
restarts=$(cat restarts 2>/dev/null)
if [ "${{restarts:-0}}" -ge 2 ]; then echo "it has ended $restarts times"; fi
if [ ! -e pid ]; then echo 'its supervisor has ended'; fi"""
