"""One whole `up` on this machine, as fleet does it on a host."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olladist.host.apply import apply
from olladist.host.artifacts import Artifacts
from olladist.host.desired import Desired, desired
from olladist.host.facts import gather
from olladist.host.found import Facts
from olladist.host.plan import Plan, plan_up
from olladist.inventory.model import Connection, Host, Instance, Inventory, Service
from olladist.ssh.local import LocalRunner


def end_all(home: Path) -> None:
    """Kills what runs under the supervisors of a home."""
    for record in home.glob(".local/share/olladist/run/*/*"):
        if record.name in {"pid", "child"}:
            with suppress(ValueError, ProcessLookupError):
                os.killpg(int(record.read_text().split(" ")[0]), signal.SIGKILL)


@dataclass
class Here:
    """This machine, declared as a host with a detached server on `port`."""

    port: int
    ollama: str
    settings: dict[str, Any] = field(default_factory=dict)
    runner: LocalRunner = field(default_factory=lambda: LocalRunner("here"))

    @property
    def host(self) -> Host:
        return Host(
            "here",
            "localhost",
            connection=Connection.LOCAL,
            service=Service.DETACHED,
            **{"ollama": self.ollama, "instances": (Instance(self.port),), **self.settings},
        )

    @property
    def inventory(self) -> Inventory:
        return Inventory(Path("/nowhere/inventory.toml"), "test", {"here": self.host}, {})

    async def look(self) -> tuple[Facts, Desired]:
        facts = await gather(self.runner, self.host, ask_sudo=False)
        release = await Artifacts(self.inventory).release(self.host, facts)
        return facts, desired(self.host, facts, self.inventory, release)

    async def plan(self) -> Plan:
        return plan_up(*await self.look())

    async def up(self) -> Plan:
        """Plans, fetches and applies; the plan that was carried out."""
        plan = await self.plan()
        await Artifacts(self.inventory).fetch(plan.tarballs)
        await apply(self.runner, plan)
        return plan
