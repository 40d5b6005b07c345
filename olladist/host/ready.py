"""Waiting for a server that was just started: by its own API, and no longer than it has a chance."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from olladist.errors import HostError
from olladist.host.api import OllamaAPI
from olladist.host.hints import hint_for
from olladist.host.steps import Progress, doing, unwatched
from olladist.ssh.runner import Runner

# Ollama listens within a second of its start; the rest is for hosts that load drivers from a cold disk.
PATIENCE = 60.0
_PROBE_EVERY = 2.0
_LOG_LINES = 12
# Where the reason stands: a Go panic is followed by a stack of some thirty lines that say nothing to anybody here.
_REASON = re.compile(r"panic:|\berror\b|fatal|denied|cannot |not found|already in use|no space", re.IGNORECASE)


def telling(log: Sequence[str]) -> Sequence[str]:
    """The lines from the last one on that names a reason; the last ones where none does."""
    reasons = [at for at, line in enumerate(log) if _REASON.search(line)]
    start = reasons[-1] if reasons else len(log) - _LOG_LINES
    return log[max(start, 0) :][:_LOG_LINES]


@dataclass(frozen=True, slots=True)
class Ready:
    """Waits until the server on `port` answers; `probe` is a script that prints why it never will, or nothing."""

    port: int
    version: str  # that it must be, "" for any
    what: str
    probe: str
    logs: str
    root: bool
    patience: float = PATIENCE

    def describe(self) -> str:
        return f"wait until {self.what} answers"

    def commands(self) -> tuple[str, ...]:
        return (
            f"curl -fsS --retry-connrefused --retry {self.patience:.0f} --retry-delay 1 http://127.0.0.1:{self.port}/api/version",
        )

    async def execute(self, runner: Runner, progress: Progress = unwatched) -> None:
        deadline, pause, probed = time.monotonic() + self.patience, 0.05, time.monotonic()
        async with runner.reach(self.port) as endpoint, OllamaAPI(endpoint, runner.host) as api:
            while True:
                try:
                    answered = await api.version()
                    break
                except HostError as error:
                    problem = str(error.cause)
                now = time.monotonic()
                if now >= deadline:
                    raise await self._failure(runner, f"no answer within {self.patience:.0f} s: {problem}")
                if now - probed >= _PROBE_EVERY:
                    probed = now
                    if why := (await self._ask(runner, self.probe)).strip():
                        raise await self._failure(runner, why)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.5)
        if self.version and answered != self.version:
            raise HostError(
                runner.host,
                doing(self.describe()),
                f"port {self.port} is answered by Ollama {answered}, and not by the {self.version} that was started",
                hint=f"see what listens there: olladist exec --limit {runner.host} -- ss -ltnp",
            )

    async def undo(self, runner: Runner) -> None:
        """Nothing was done."""

    async def _ask(self, runner: Runner, script: str) -> str:
        return (await runner.run(script, root=self.root, during=doing(self.describe()))).stdout

    async def _failure(self, runner: Runner, why: str) -> HostError:
        log = telling((await self._ask(runner, self.logs)).strip().splitlines())
        said = "\n".join(["; the last lines of its log:", *(f"  {line}" for line in log)]) if log else ""
        hint = hint_for("\n".join(log)) or f"read its log: olladist logs --limit {runner.host}"
        return HostError(runner.host, doing(self.describe()), f"{self.what} does not run: {why}{said}", hint=hint)
