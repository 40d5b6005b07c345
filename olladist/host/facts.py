"""Facts: one command on the host, and a pure parser of what it prints."""

import dataclasses
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from olladist.errors import HostError, SudoRefused
from olladist.host.found import (
    Account,
    Binary,
    Detached,
    Facts,
    Gpu,
    Listener,
    Origin,
    PathFact,
    Prefix,
    Process,
    Sudo,
    Unit,
)
from olladist.host.gpus import read_gpus
from olladist.host.sections import Section, Sections, number
from olladist.host.unitfile import Service, read_service
from olladist.inventory.model import Host
from olladist.inventory.model import Service as Mode
from olladist.ollama.release import architecture
from olladist.ssh.runner import Runner
from olladist.ssh.words import words

__all__ = ["Facts", "Gpu", "facts_script", "gather", "parse_facts"]

# The first words of every file that we write.
MARKER = "# Made by olladist"
SYSTEM_PREFIX = "/opt/olladist"
_DURING = "reading facts"
# All of it takes 0.2 s on an idle host; the tools of a sick GPU driver may hang, each for 15 s until facts.sh ends them.
_TIMEOUT = 120.0

# Both parts in one go. What comes on stdin is facts.sh; it never stands in a command line that others can read or cut.
_BOTH = """facts=$(cat)
user=$(id -un) uid=$(id -u) home=$(cd && pwd)
login() { sh -c "$facts" facts login "$user" "$uid" "$home" "$@"; }
login "$@"
if [ "$uid" != 0 ] && sudo -k -n true 2>/dev/null; then
  sudo -n -- sh -c "$facts" facts host "$user" "$uid" "$home" "$@"
else
  sh -c "$facts" facts host "$user" "$uid" "$home" "$@"
fi
"""
_HOST_PART = 'facts=$(cat)\nsh -c "$facts" facts host "$@"\n'


def facts_script(host: Host) -> str:
    """The command that reads everything in one round trip; facts.sh goes to its stdin."""
    return f"set -- {words(*_arguments(host))}\n{_BOTH}"


def _arguments(host: Host) -> list[str]:
    return [host.models_dir or "", *(str(instance.port) for instance in host.instances)]


def facts_input() -> bytes:
    return resources.files("olladist.host").joinpath("facts.sh").read_bytes()


async def gather(runner: Runner, host: Host, *, ask_sudo: bool = True) -> Facts:
    """The facts of a host, as root where that can be had, in one round trip; two where sudo wants a password.

    With `ask_sudo` False nobody is asked for it, and some facts are missing: who owns a port, the environment of
    another user's process. SudoRefused only where the inventory asks for the system service.
    """
    done = await runner.run(facts_script(host), stdin=facts_input(), timeout=_TIMEOUT, during=_DURING)
    facts = parse_facts(done.stdout, host.name, done.stderr)
    if facts.as_root or not ask_sudo:
        return facts
    wanted = host.service is Mode.SYSTEM and facts.sudo is Sudo.UNKNOWN
    if not wanted and not (facts.sudo is Sudo.PASSWORD and host.service in {Mode.SYSTEM, Mode.AUTO}):
        return facts
    script = f"set -- {words(facts.user, facts.uid, facts.home, *_arguments(host))}\n{_HOST_PART}"
    try:
        as_root = await runner.run(script, root=True, stdin=facts_input(), timeout=_TIMEOUT, during=_DURING)
    except SudoRefused:
        if host.service is Mode.SYSTEM:
            raise
        return dataclasses.replace(facts, sudo=Sudo.NONE)
    # The login part of the first answer, the host part of the second: sections of the same file are told apart by both.
    login = done.stdout.partition("@done login")[0]
    both = parse_facts(f"{login}@done login\n{as_root.stdout}", host.name, as_root.stderr)
    return dataclasses.replace(both, sudo=Sudo.PASSWORD)


def parse_facts(output: str, host: str = "", stderr: str = "") -> Facts:
    """What facts.sh has printed, as values; HostError for anything that is not its whole output."""
    sections = Sections(output)
    if not (sections.has("olladist-facts", "1") and sections.has("done", "login") and sections.has("done", "host")):
        said = " ".join((stderr.strip() or output.strip()).splitlines()[-3:])[:300]
        raise HostError(
            host, _DURING, f"the host's answer is cut short or not ours{': ' + said if said else ''}",
            hint=f"see what `olladist ssh {host or 'HOST'}` prints; the login shell must run `sh -c`",
        )  # fmt: skip
    login, clock = sections.one("login"), sections.one("clock")
    release = _release(sections.one("os"))
    machine = sections.one("machine").first
    ram = _ram(sections)
    gpus = read_gpus(sections, ram)
    processes = _processes(sections, clock)
    user, home, uid = login.value("user"), login.value("home"), login.number("uid") or 0
    units = tuple(_units(sections, user))
    sudo = sections.one("sudo")
    system_state = sections.one("systemd").first
    return Facts(
        os_name=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_title=release.get("PRETTY_NAME", "") or release.get("NAME", ""),
        system=sections.one("uname").first,
        kernel=sections.one("kernel").first,
        machine=machine,
        arch=architecture(machine) or machine,
        hostname=sections.one("hostname").first,
        ram_bytes=ram,
        gpus=gpus.gpus,
        gpu_problem=gpus.problem,
        jetpack=gpus.jetpack,
        init="systemd"
        if system_state in {"running", "degraded", "starting", "initializing", "maintenance"}
        else "none",
        system_state=system_state,
        tools=tuple(sorted(set(sections.one("tools").lines))),
        user=user,
        uid=uid,
        home=home,
        sudo=Sudo(sudo.first) if sudo.first in {kind.value for kind in Sudo} else Sudo.NONE,
        sudo_problem=sudo.lines[1].strip() if len(sudo.lines) > 1 else "",
        as_root=sections.one("host").value("uid") == "0",
        user_systemd=sections.one("user-systemd").first in {"running", "degraded", "starting"},
        linger="yes" in sections.one("linger").values("Linger"),
        can_linger=sections.one("can-linger").first == "yes",
        kills_user_processes=sections.one("kills-user-processes").first == "b true",
        paths=_paths(sections),
        accounts=_accounts(sections),
        made_user=sections.one("made").first == "user",
        groups=_groups(sections),
        listeners=tuple(_listeners(sections)),
        processes=processes,
        units=units,
        binaries=tuple(_binaries(sections, units, home)),
        prefixes={section.words: _prefix(section) for section in sections.all("prefix")},
        detached=tuple(_detached(sections, processes)),
        hashes=dict(_hashes(sections)),
    )


def _release(os: Section) -> dict[str, str]:
    """os-release(5): shell assignments, of which quotes are all that occurs."""
    pairs = (line.partition("=") for line in os.lines)
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in pairs if equals}


def _ram(sections: Sections) -> int:
    total = (sections.one("memory").number("total_kib") or 0) * 1024
    limits = [number(line) for line in sections.one("memory-limit").lines]  # "max" is no number
    return min([total, *(limit for limit in limits if limit)])


def _processes(sections: Sections, clock: Section) -> dict[int, Process]:
    boot = clock.number("btime") or 0
    ticks = next((count for line in clock.lines if (count := number(line))), 100)
    found = {}
    for section in sections.all("process"):
        pid, stat = number(section.words), section.value("stat").split()
        # proc_pid_stat(5): state is field 3; the group is 5, the start time 22. A zombie runs no more.
        if pid is None or len(stat) < 20 or stat[0] in {"Z", "X"}:
            continue
        start = number(stat[19]) or 0
        environ = None
        if section.value("environ") == "yes":
            environ = {key: value for key, _, value in (line.partition("=") for line in section.values("env"))}
        if pid in found and environ is None:
            continue  # the other part of the script could see more
        unit, scope = _unit_of(section.values("cgroup"))
        found[pid] = Process(
            pid=pid,
            group=number(stat[2]) or pid,
            user=section.value("user"),
            command=section.value("command").strip() or section.value("comm"),
            binary=section.value("exe"),
            start=start,
            since=boot + start // ticks,
            unit=unit,
            unit_scope=scope,
            environ=environ,
        )
    return found


def _unit_of(cgroups: Sequence[str]) -> tuple[str, str]:
    """The innermost service of a control group, and whose it is: below user@UID.service it is a user's own."""
    for line in cgroups:
        services = [part for part in line.split("/") if part.endswith(".service")]
        if services:
            scope = "user" if len(services) > 1 and services[0].startswith("user@") else "system"
            return services[-1], scope
    return "", ""


def _units(sections: Sections, login: str) -> Iterator[Unit]:
    files = {section.words: section.text for section in sections.all("file")}
    given = {section.words: section for section in sections.all("environment-file")}
    for section in sections.all("unit"):
        scope, _, name = section.words.partition(" ")
        path = section.value("FragmentPath")
        drop_ins = [drop for drop in section.value("DropInPaths").split() if not drop.endswith("/50-olladist.conf")]
        text = files.get(path, "")
        service = read_service([text, *(files.get(drop, "") for drop in drop_ins)])
        yield Unit(
            name=name,
            scope=scope,
            path=path,
            ours=text.startswith(MARKER),
            binary=service.binary,
            user=login if scope == "user" else service.user or "root",
            environment=_environment(service, given),
            environment_files=tuple(service.environment_files),
            drop_ins=tuple(drop_ins),
            late_command=next((drop for drop in drop_ins if _late_command(drop, files.get(drop, ""))), ""),
            active=section.value("ActiveState"),
            enabled=_ENABLED.get(section.value("UnitFileState")),
            needs_reload=section.value("NeedDaemonReload") == "yes",
            pid=section.number("MainPID") or None,
            restarts=section.number("NRestarts") or 0,
        )


_ENABLED = {"enabled": True, "enabled-runtime": True, "disabled": False, "": False}


def _late_command(path: str, text: str) -> bool:
    """Drop-ins are read in the order of their file names (systemd.unit(5))."""
    return path.rpartition("/")[2] > "50-olladist.conf" and bool(read_service([text]).binary)


def _environment(service: Service, given: Mapping[str, Section]) -> dict[str, str]:
    """What the unit sets; its files win over its own lines (systemd.exec(5))."""
    environment = dict(service.environment)
    for path in service.environment_files:
        for line in given[path].lines if path in given else ():
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = value.strip().strip("\"'")
    return environment


def _binaries(sections: Sections, units: Sequence[Unit], home: str) -> Iterator[Binary]:
    told: dict[str, Section] = {}  # the section that says most about a file; its other names say less
    paths: dict[str, str] = {}
    for section in sections.all("binary"):
        real = section.value("real") or section.words
        paths.setdefault(section.words, real)
        if real not in told or len(section.lines) > len(told[real].lines):
            told[real] = section
    for path, real in paths.items():
        packages = [package for package in told[real].values("package") if "/" not in package]
        yield Binary(
            path=path,
            real=real,
            version=_version(told[real].values("version")),
            origin=_origin(path, real, packages, units, home),
            package=packages[0] if packages else "",
        )


def _version(lines: Sequence[str]) -> str:
    """With a server of another version around, Ollama prints both (cmd/cmd.go versionHandler); the client is the binary."""
    text = "\n".join(lines)
    found = re.search(r"client version is (\S+)", text) or re.search(r"version is (\S+)", text)
    return found[1][:60] if found else ""


def _origin(path: str, real: str, packages: Sequence[str], units: Sequence[Unit], home: str) -> Origin:
    if real.startswith((f"{SYSTEM_PREFIX}/", f"{home}/.local/share/olladist/")):
        return Origin.OLLADIST
    if path.startswith("/snap/") or real.startswith("/snap/") or real == "/usr/bin/snap":
        return Origin.SNAP
    if packages:
        return Origin.PACKAGE
    # Ollama's install.sh puts the binary into the first of these that is on the PATH, and writes exactly this unit file.
    official = any(unit.path == "/etc/systemd/system/ollama.service" and not unit.ours for unit in units)
    return Origin.OFFICIAL if official and path in {"/usr/local/bin/ollama", "/usr/bin/ollama"} else Origin.MANUAL


def _prefix(section: Section) -> Prefix:
    return Prefix(
        path=section.words,
        releases=tuple(sorted(section.values("release"))),
        current=section.value("current").removeprefix("releases/"),
        stage=tuple(sorted(section.values("stage"))),
        made=tuple(sorted(section.values("made"))),
    )


def _detached(sections: Sections, processes: Mapping[int, Process]) -> Iterator[Detached]:
    def running(section: Section, name: str) -> int | None:
        """The recorded process, if it is that one which still has its id."""
        pid, start = section.number(name), section.number(f"{name}_start")
        return pid if pid is not None and pid in processes and processes[pid].start == start else None

    for section in sections.all("detached"):
        port = number(section.words.rpartition("/")[2])
        if port is not None:
            restarts = section.number("restarts") or 0
            yield Detached(section.words, port, running(section, "pid"), running(section, "child"), restarts)


def _hashes(sections: Sections) -> Iterator[tuple[str, str]]:
    for line in sections.one("sha256").lines:
        if found := re.fullmatch(r"([0-9a-f]{64})  (/.+)", line):
            yield found[2], found[1]


def _paths(sections: Sections) -> dict[str, PathFact]:
    mounts = [line.split(" ") for line in sections.one("mounts").lines]
    options = {_unescaped(mount[0]): mount[1].split(",") for mount in mounts if len(mount) == 2}
    found: dict[str, PathFact] = {}
    for section in sections.all("path"):
        if section.words in found:
            continue  # what the login user may write counts, not what root may
        held = _mount_options(options, section.value("above"))
        free = section.number("free_kib")
        mode = section.value("mode")
        found[section.words] = PathFact(
            exists=bool(mode),
            link=section.value("link"),
            owner=section.value("owner"),
            group=section.value("group"),
            directory=mode.startswith("d"),
            writable=section.value("writable") == "yes",
            free_bytes=None if free is None else free * 1024,
            noexec="noexec" in held,
            read_only="ro" in held,
        )
    return found


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), path)  # proc_pid_mounts(5)


def _mount_options(options: Mapping[str, Sequence[str]], path: str) -> Sequence[str]:
    inside = [mount for mount in options if path == mount or path.startswith(mount.rstrip("/") + "/")]
    return options[max(inside, key=len)] if inside else ()


def _accounts(sections: Sections) -> dict[str, Account]:
    rows = (line.split(":") for line in sections.one("accounts").lines)
    return {row[0]: Account(row[0], number(row[1]) or 0, row[3]) for row in rows if len(row) == 4}


def _groups(sections: Sections) -> dict[str, tuple[str, ...]]:
    rows = (line.split(":") for line in sections.one("groups").lines)
    return {row[0]: tuple(name for name in row[3].split(",") if name) for row in rows if len(row) == 4}


def _listeners(sections: Sections) -> Iterator[Listener]:
    owners = {inode: number(pid) for pid, _, inode in (line.partition(" ") for line in sections.one("owners").lines)}
    for line in sections.one("listeners").lines:
        cells = line.split(" ")
        address, _, port = cells[0].partition(":")
        if len(cells) == 3 and (text := _address(address)) and re.fullmatch(r"[0-9A-Fa-f]{4}", port):
            yield Listener(int(port, 16), text, number(cells[1]) or 0, owners.get(cells[2]))


def _address(hexadecimal: str) -> str:
    """/proc/net/tcp prints each 32 bits in the host's byte order, which on amd64 and arm64 is little-endian."""
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{8}){1,4}", hexadecimal):
        return ""
    raw = b"".join(bytes.fromhex(hexadecimal[at : at + 8])[::-1] for at in range(0, len(hexadecimal), 8))
    return str(ipaddress.ip_address(raw)) if len(raw) in {4, 16} else ""
