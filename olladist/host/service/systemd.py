"""Servers as systemd services, of the system or of a user: a unit file where none stands, and a drop-in with all our settings.

The settings stand in a drop-in because Ollama's own installer overwrites the unit file (scripts/install.sh).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from olladist.host.desired import Desired, Server
from olladist.host.facts import MARKER
from olladist.host.found import Facts, Unit
from olladist.host.ready import Ready
from olladist.host.service.state import State
from olladist.host.steps import Run, Step, Write
from olladist.host.unitfile import command, environment_lines
from olladist.ssh.words import words

DROP_IN = "50-olladist.conf"
ENVIRONMENT_FILE = "50-olladist.env"

_UNIT_HEAD = f"""{MARKER}, and written anew by it. Settings of your own: in a drop-in beside {DROP_IN}.
[Unit]
Description=Ollama, run by olladist
"""
_DROP_IN_HEAD = f"{MARKER} from its inventory, and written anew by it.\n[Service]\n"


@dataclass(frozen=True, slots=True)
class Systemd:
    """One of the two kinds of service manager: where its units lie and how it is spoken to."""

    scope: str  # "system" or "user"
    directory: str
    ctl: str
    journal: str
    root: bool
    wanted_by: str

    # ---- files ----

    def unit_path(self, name: str) -> str:
        return f"{self.directory}/{name}.service"

    def drop_in_path(self, name: str, file: str = DROP_IN) -> str:
        return f"{self.directory}/{name}.service.d/{file}"

    def files(self, desired: Desired, server: Server) -> Iterator[Write]:
        if server.adopted is None:
            yield Write(self.unit_path(server.name), self._unit_text(desired), "644", self.root)
        yield Write(self.drop_in_path(server.name), self._drop_in_text(desired, server), "644", self.root)
        if _contested(server):
            text = "".join(f"{name}={_env_quoted(value)}\n" for name, value in sorted(server.environment.items()))
            yield Write(self.drop_in_path(server.name, ENVIRONMENT_FILE), f"{MARKER}.\n{text}", "644", self.root)

    def _unit_text(self, desired: Desired) -> str:
        network = "Wants=network-online.target\nAfter=network-online.target\n" if self.scope == "system" else ""
        account = f"User={desired.user}\n" if self.scope == "system" else ""
        return (
            f"{_UNIT_HEAD}{network}\n"
            f"[Service]\nExecStart={command(desired.binary, 'serve')}\n{account}Restart=always\nRestartSec=3\n\n"
            f"[Install]\nWantedBy={self.wanted_by}\n"
        )

    def _drop_in_text(self, desired: Desired, server: Server) -> str:
        lines = environment_lines(server.environment)
        if server.adopted is not None and server.adopted.binary != desired.binary:
            lines = ["ExecStart=", f"ExecStart={command(desired.binary, 'serve')}", *lines]
        if _contested(server):
            lines.append(f"EnvironmentFile={self.drop_in_path(server.name, ENVIRONMENT_FILE)}")
        return _DROP_IN_HEAD + "\n".join(lines) + "\n"

    # ---- what is there ----

    def unit(self, facts: Facts, name: str) -> Unit | None:
        return facts.unit(self.scope, f"{name}.service")

    def state(self, facts: Facts, name: str) -> State:
        unit = self.unit(facts, name)
        if unit is None or not (unit.path or unit.pid):
            return State()
        process = facts.process(unit.pid)
        active = unit.active == "active" and unit.pid is not None
        revision = process.revision if process is not None else None if active else ""
        since = process.since if process is not None else None
        return State(active, unit.enabled is not False, unit.pid, revision, since, unit.restarts, unit.active)

    def ours(self, facts: Facts) -> tuple[str, ...]:
        """Names of all units that carry anything of ours."""
        names = {unit.name.removesuffix(".service") for unit in facts.units if unit.scope == self.scope and unit.ours}
        for path in facts.hashes:
            folder, _, file = path.rpartition("/")
            if file in {DROP_IN, ENVIRONMENT_FILE} and folder.startswith(f"{self.directory}/"):
                names.add(folder.rpartition("/")[2].removesuffix(".service.d"))
        return tuple(sorted(names))

    # ---- steps ----

    def up(self, facts: Facts, desired: Desired) -> Iterator[Step]:
        writes = [
            write
            for server in desired.servers
            for write in self.files(desired, server)
            if facts.hashes.get(write.path) != hashlib.sha256(write.text.encode()).hexdigest()
        ]
        yield from writes
        units = [self.unit(facts, server.name) for server in desired.servers]
        if writes or any(unit is not None and unit.needs_reload for unit in units):
            yield self._reload()
        for server in desired.servers:
            state = self.state(facts, server.name)
            if not state.enabled:
                script = f"{self.ctl} enable {words(server.name + '.service')}"
                yield Run(f"enable {server.name}.service at boot", script, self.root)
            if not state.active or state.revision != server.revision:
                yield from self._start(
                    "restart" if state.active else "start", server.name, server.port, desired.version
                )

    def restart(self, facts: Facts, desired: Desired) -> Iterator[Step]:
        for server in desired.servers:
            yield from self._start("restart", server.name, server.port, desired.version)

    def down(self, facts: Facts, names: Iterable[str]) -> Iterator[Step]:
        for name in names:
            unit = self.unit(facts, name)
            if unit is not None and (unit.enabled or unit.active in {"active", "activating", "reloading"}):
                script = f"{self.ctl} disable --now {words(name + '.service')}"
                # Ollama ends its runners first; systemd kills what is left after 90 s (DefaultTimeoutStopSec).
                yield Run(f"stop {name}.service", script, self.root, timeout=120)

    def remove(self, facts: Facts, names: Iterable[str]) -> Iterator[Step]:
        """Takes away what is ours of these units; one that somebody else made runs on as it was before us."""
        names = tuple(names)
        if not names:
            return
        for name in names:
            unit = self.unit(facts, name)
            ours = unit is None or unit.ours or not unit.path
            if ours:
                yield from self.down(facts, [name])
            paths = [self.drop_in_path(name), self.drop_in_path(name, ENVIRONMENT_FILE)]
            folder = words("rmdir", f"{self.directory}/{name}.service.d")
            files = words("rm", "-f", *([self.unit_path(name)] if ours else []), *paths)
            what = f"{name}.service" if ours else f"our settings of {name}.service, which is not ours"
            yield Run(f"remove {what}", f"{files}\n{folder} 2>/dev/null || true", self.root)
        yield self._reload()
        for name in names:
            unit = self.unit(facts, name)
            if unit is not None and unit.path and not unit.ours and unit.active == "active":
                script = f"{self.ctl} restart {words(unit.name)}"
                yield Run(f"restart {unit.name} as it was before olladist", script, self.root)

    def _reload(self) -> Run:
        return Run("tell systemd of the changed files", f"{self.ctl} daemon-reload", self.root)

    def _start(self, verb: str, name: str, port: int, version: str) -> Iterator[Step]:
        unit = words(f"{name}.service")
        # A unit that failed too often is not started before its failures are forgotten.
        script = f"{self.ctl} reset-failed {unit} 2>/dev/null || true\n{self.ctl} restart {unit}"
        yield Run(f"{verb} {name}.service", script, self.root, timeout=120)
        yield Ready(
            port=port,
            version=version,
            what=f"{name}.service on port {port}",
            probe=_PROBE.format(ctl=self.ctl, unit=unit),
            logs=self.logs(name, lines=80),
            root=self.root,
        )

    def logs(self, name: str, *, lines: int, follow: bool = False) -> str:
        how = "--follow" if follow else "--quiet"
        return f"{self.journal} --unit {words(name)} --lines {lines} --no-pager --output short-iso --no-hostname {how}"


# RestartSec is 3 s, so two restarts are 6 s of a server that does not stay.
_PROBE = """state=$({ctl} show {unit} -p ActiveState | sed 's/.*=//')
restarts=$({ctl} show {unit} -p NRestarts | sed 's/.*=//')
if [ "$state" = failed ]; then echo 'it has failed'; fi
if [ "${{restarts:-0}}" -ge 2 ]; then echo "it has ended $restarts times"; fi"""


def _contested(server: Server) -> bool:
    """Files and drop-ins of others could overrule an Environment=; an EnvironmentFile= wins over all of those (systemd.exec(5))."""
    return server.adopted is not None and bool(server.adopted.environment_files or server.adopted.drop_ins)


def _env_quoted(value: str) -> str:
    for char in '\\"$`':
        value = value.replace(char, "\\" + char)
    return f'"{value}"'
