"""Signs of life: what `status` reads of a host in one cheap round trip.

The whole truth is in host.facts, whose many commands take a host a third of a second of its CPU; these take a few milliseconds.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from olladist.errors import HostError
from olladist.host.desired import unit_names
from olladist.host.sections import Section, Sections, number
from olladist.inventory.model import Host, Service
from olladist.ssh.runner import Runner
from olladist.ssh.words import words

_DURING = "reading signs of life"
# nvidia-smi without persistence mode wakes the driver, which takes seconds; vitals.sh gives it 5.
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class ServerSign:
    """What a service manager says of one server; `environment` is what it is set to start with."""

    mode: Service
    state: str  # "active", "failed", "stopped" …
    environment: Mapping[str, str]
    restarts: int = 0

    @property
    def active(self) -> bool:
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class GpuSign:
    """`name` "" where only memory is known; memory in bytes."""

    name: str
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """`servers` by port, only those that are set up; `disk_free` of the model store, None where it could not be read."""

    servers: Mapping[int, ServerSign]
    gpus: tuple[GpuSign, ...]
    gpu_problem: str
    disk_free: int | None


def vitals_script(host: Host) -> str:
    servers = [f"{port} {name}" for port, name in unit_names(host).items()]
    script = resources.files("olladist.fleet").joinpath("vitals.sh").read_text()
    return f"set -- {words(host.models_dir or '', *servers)}\n{script}"


async def read_vitals(runner: Runner, host: Host) -> Vitals:
    done = await runner.run(vitals_script(host), timeout=_TIMEOUT, during=_DURING)
    return parse_vitals(done.stdout, host)


def parse_vitals(output: str, host: Host) -> Vitals:
    """What vitals.sh has printed; HostError for anything that is not its whole output."""
    sections = Sections(output)
    if not (sections.has("olladist-vitals", "1") and sections.has("done")):
        raise HostError(
            host.name,
            _DURING,
            "the host's answer is cut short or not ours",
            hint=f"see what `olladist ssh {host.name}` prints; the login shell must run `sh -c`",
        )
    servers: dict[int, ServerSign] = {}
    # Where several are set up for one port, the later one counts: that is what `up` would choose.
    for section in sections.all("detached"):
        if (port := number(section.words)) is not None:
            servers[port] = _detached(section)
    ports = {f"{name}.service": port for port, name in unit_names(host).items()}
    for scope, mode in (("user", Service.USER), ("system", Service.SYSTEM)):
        for section in sections.all("units"):
            if section.words == scope:
                servers |= {ports[name]: sign for name, sign in _units(section, mode) if name in ports}
    gpus, problem = _gpus(sections)
    return Vitals(servers, gpus, problem, _disk_free(sections.one("disk")))


def _detached(section: Section) -> ServerSign:
    environment = {}
    for line in section.lines:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = _unquoted(value)
    return ServerSign(Service.DETACHED, "active" if section.value("alive") == "yes" else "stopped", environment)


def _units(section: Section, mode: Service) -> Iterator[tuple[str, ServerSign]]:
    """`systemctl show` of several units: blocks of NAME=VALUE with an empty line between them."""
    for block in "\n".join(section.lines).split("\n\n"):
        values = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        loaded = values.get("LoadState") == "loaded" or bool(values.get("FragmentPath"))
        if loaded and "Id" in values:
            state = values.get("ActiveState", "")
            yield (
                values["Id"],
                ServerSign(
                    mode,
                    "stopped" if state == "inactive" else state,
                    dict(_assignments(values.get("Environment", ""))),
                    number(values.get("NRestarts", "")) or 0,
                ),
            )


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """Environment= as systemctl prints it: words quoted as for a shell."""
    try:
        found = shlex.split(text)
    except ValueError:
        return
    for word in found:
        name, equals, value = word.partition("=")
        if equals:
            yield name, value


def _unquoted(text: str) -> str:
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return text


_NVIDIA = re.compile(r"(.{1,100}), ([0-9]{1,9}), ([0-9]{1,9})")


def _gpus(sections: Sections) -> tuple[tuple[GpuSign, ...], str]:
    nvidia = sections.one("nvidia").lines
    gpus = [
        GpuSign(found[1], int(found[2]) << 20, int(found[3]) << 20)
        for line in nvidia
        if (found := _NVIDIA.fullmatch(line.strip()))
    ]
    problem = "" if gpus or not nvidia else f"nvidia-smi: {nvidia[0].strip()[:200]}"
    if sections.has("nvidia") and not nvidia:
        problem = "nvidia-smi did not answer"
    for section in sections.all("amd"):
        sizes = [number(word) for word in section.first.split()]
        match sizes:
            case [int(used), int(total)]:
                gpus.append(GpuSign("", used, total))
    return tuple(gpus), problem


def _disk_free(section: Section) -> int | None:
    """The last line of `df -Pk`: free KiB before the percentage; a mount point may have blanks, a device may not."""
    found = re.search(r"\s([0-9]{1,15})\s+[0-9]+%\s", section.lines[-1] + " ") if section.lines else None
    return int(found[1]) << 10 if found else None
