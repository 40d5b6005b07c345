"""What shall be on a host: pure decisions from what the inventory declares and what was found there."""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from olladist.host.facts import SYSTEM_PREFIX
from olladist.host.found import Binary, Facts, Origin, Unit
from olladist.host.tarball import Release
from olladist.inventory.model import OLLAMA_PORT, Host, Instance, Inventory, Service, Transport
from olladist.ollama.release import LATEST, is_version, normalise

# The account of Ollama's own installer (scripts/install.sh).
SERVICE_USER, SERVICE_HOME = "ollama", "/usr/share/ollama"


@dataclass(frozen=True, slots=True)
class Problem:
    """What must be put right before anything is done on the host."""

    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """Where models lie, and whose they are."""

    path: str
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class Server:
    """One Ollama on the host. `name` is that of its unit, without ".service"."""

    port: int
    name: str
    environment: Mapping[str, str]  # all that we set, OLLADIST_REVISION included
    adopted: Unit | None  # a unit file that is not ours and stays as it is

    @property
    def revision(self) -> str:
        return self.environment["OLLADIST_REVISION"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The first decision, for which no release is needed yet: which service, where, and whether an Ollama is there."""

    mode: Service
    prefix: str
    adopted: Binary | None  # an Ollama that somebody else installed, of the wanted version
    installed: str  # the name of a release of ours that is there and wanted, "" where there is none
    parts: tuple[str, ...]  # archives on top of a release that the hardware asks for: "rocm", "jetpack6"
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """A host as it shall be."""

    host: str
    mode: Service
    prefix: str
    root: bool  # steps run as root
    release: Release | None  # None: the adopted Ollama stays
    binary: str
    version: str  # "" where only a running server will tell
    user: str
    home: str
    store: Store
    servers: tuple[Server, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def home_prefix(facts: Facts) -> str:
    return f"{facts.home}/.local/share/olladist"


def choose(host: Host, facts: Facts) -> Choice:
    mode, problems = _mode(host, facts)
    # Only the system service is the machine's; all else is of one home directory, so that hosts which are one machine
    # (in the demo, or several users of one) keep apart, root's among them.
    prefix = SYSTEM_PREFIX if mode is Service.SYSTEM else home_prefix(facts)
    if facts.system != "Linux":
        problems.append(Problem(f"runs {facts.system or 'an unknown system'}; Ollama is installed on Linux only"))
    elif facts.arch not in {"amd64", "arm64"}:
        problems.append(Problem(f"has a {facts.machine} processor; Ollama is released for amd64 and arm64"))
    parts = (f"jetpack{facts.jetpack}",) if facts.jetpack else ("rocm",) if _wants_rocm(facts) else ()
    installed = _installed(host, facts, prefix, parts)
    adopted = None if installed else _adoptable(host, facts, mode)
    return Choice(mode, prefix, adopted, installed, parts, tuple(problems))


def _wants_rocm(facts: Facts) -> bool:
    return facts.arch == "amd64" and any(gpu.vendor == "amd" for gpu in facts.gpus)


def _mode(host: Host, facts: Facts) -> tuple[Service, list[Problem]]:
    """System before user before detached; a user service only where it outlives the login."""
    systemd = facts.init == "systemd"
    if host.service is Service.AUTO:
        if systemd and facts.root:
            return Service.SYSTEM, []
        lasting = facts.user_systemd and (facts.linger or facts.can_linger)
        return (Service.USER if lasting else Service.DETACHED), _detached_problems(facts, needed=not lasting)
    problems: list[Problem] = []
    if host.service is Service.SYSTEM and not systemd:
        problems.append(Problem("no systemd runs here, so there can be no system service", 'set service = "detached"'))
    elif host.service is Service.SYSTEM and not facts.root:
        why = f" ({facts.sudo_problem})" if facts.sudo_problem else ""
        hint = f'let {facts.user} use sudo, log in as root, or set service = "user" or "detached"'
        problems.append(Problem(f"{facts.user} cannot become root{why}, which a system service needs", hint))
    elif host.service is Service.USER and not facts.user_systemd:
        text = f"systemd --user does not answer {facts.user}, so there can be no user service"
        problems.append(Problem(text, 'install dbus-user-session and libpam-systemd, or set service = "detached"'))
    problems += _detached_problems(facts, needed=host.service is Service.DETACHED)
    return host.service, problems


def _detached_problems(facts: Facts, *, needed: bool) -> list[Problem]:
    # Without a session of its own the server would share the login's process group and could not be told apart from it.
    if needed and not {"setsid", "busybox-setsid"} & set(facts.tools):
        return [Problem("setsid(1) is missing, which starts the server apart from the login", "install util-linux")]
    return []


# ---- which Ollama ----


def file_version(name: str) -> str:
    """The version in the name of a tarball ("ollama-0.17.4-linux-amd64.tar.zst"), "" where there is none."""
    found = re.search(r"(?<![\d.])v?(\d+\.\d+\.\d+(?:-rc\d+)?)(?![\d.]*\d)", posixpath.basename(name))
    return found[1] if found else ""


def _satisfies(wanted: str, version: str) -> bool:
    if wanted == LATEST:
        return True
    return version == (normalise(wanted) if is_version(wanted) else file_version(wanted))


def _installed(host: Host, facts: Facts, prefix: str, parts: tuple[str, ...]) -> str:
    ours = facts.prefixes.get(prefix)
    if ours is None:
        return ""
    if host.ollama == LATEST:
        return ours.current if ours.current in ours.releases else ""
    if is_version(host.ollama):
        name = release_name(normalise(host.ollama), parts)
        return name if name in ours.releases else ""
    return ""  # a path or a URL: artifacts.py knows its name


def release_name(version: str, parts: tuple[str, ...] = (), sha256: str = "") -> str:
    """The folder below releases/; a tarball that somebody made is told apart by its digest."""
    return "-".join([version or "tarball", *parts, *([sha256[:8]] if sha256 else [])])


def _adoptable(host: Host, facts: Facts, mode: Service) -> Binary | None:
    """The Ollama that serves here already, else the first one on the usual paths, if it is of the wanted version."""
    unit = foreign_unit(facts, mode, "ollama")
    serving = unit.binary if unit is not None else ""
    found = [
        binary
        for binary in facts.binaries
        if binary.origin not in {Origin.OLLADIST, Origin.SNAP}
        and binary.version
        and _satisfies(host.ollama, binary.version)
        # A system service runs nothing that a login user could replace.
        and not (mode is Service.SYSTEM and binary.path.startswith(f"{facts.home}/") and facts.home != "/root")
    ]
    return next(iter(sorted(found, key=lambda binary: binary.path != serving)), None)


# ---- the whole ----


def desired(host: Host, facts: Facts, inventory: Inventory, release: Release | None) -> Desired:
    """A host as it shall be. `release` is what Artifacts.release gave for it: None where an Ollama is adopted.

    Commands that install nothing (down, restart, logs, status) may leave it out: then what is installed is taken.
    """
    choice = choose(host, facts)
    problems = list(choice.problems)
    runs = _what_runs(choice, facts, release)
    adopted = foreign_unit(facts, choice.mode, "ollama")
    user, home = _account(choice.mode, facts, adopted)
    store, store_problem = _store(host, facts, choice.mode, user, home, adopted)
    servers = tuple(
        _server(host, instance, facts, inventory, choice.mode, store, runs, problems) for instance in host.instances
    )
    return Desired(
        host=host.name,
        mode=choice.mode,
        prefix=choice.prefix,
        root=choice.mode is Service.SYSTEM,
        release=runs.release,
        binary=runs.binary,
        version=runs.version,
        user=user,
        home=home,
        store=store,
        servers=servers,
        problems=(*problems, *store_problem),
        notes=(*_notes(host, facts, choice, adopted, store, servers), *(release.notes if release else ())),
    )


@dataclass(frozen=True, slots=True)
class _Runs:
    release: Release | None
    binary: str
    version: str
    identity: str  # tells one content of `binary` from another


def _what_runs(choice: Choice, facts: Facts, release: Release | None) -> _Runs:
    adopted = choice.adopted
    if release is None and adopted is not None:
        return _Runs(None, adopted.path, adopted.version, f"{adopted.path}@{adopted.version}")
    ours = facts.prefixes.get(choice.prefix)
    current = ours.current if ours is not None else ""
    release = release or Release(choice.installed or current or "none", "")
    binary = f"{choice.prefix}/current/bin/ollama"
    found = next((found.version for found in facts.binaries if found.path == binary), "")
    version = release.version or (found if current == release.name else "")
    return _Runs(release, binary, version, release.name)


def _account(mode: Service, facts: Facts, adopted: Unit | None) -> tuple[str, str]:
    home = adopted.environment.get("HOME", "") if adopted is not None else ""
    if mode is not Service.SYSTEM:
        return facts.user, home or facts.home
    user = adopted.user if adopted is not None else SERVICE_USER
    account = facts.accounts.get(user)
    return user, home or (account.home if account else SERVICE_HOME if user == SERVICE_USER else "")


def _store(
    host: Host, facts: Facts, mode: Service, user: str, home: str, adopted: Unit | None
) -> tuple[Store, tuple[Problem, ...]]:
    if host.models_dir:
        path = f"{home}/{host.models_dir[2:]}" if host.models_dir.startswith("~/") else host.models_dir
    else:
        path = adopted.environment.get("OLLAMA_MODELS", "") if adopted is not None else ""
        path = path or (f"{home}/.ollama/models" if home else "")
    if not path.startswith("/"):
        text = f"where the unit {adopted.name if adopted else 'ollama.service'} keeps its models cannot be told"
        return Store("/", user, user), (Problem(text, "set models_dir for this host"),)
    found = facts.paths.get(path)
    group = found.group if found is not None and found.exists else user
    problems = []
    if found is not None and found.exists and user not in {found.owner, "root"} and not host.models_dir:
        problems.append(
            Problem(f"{path} belongs to {found.owner}, so {user} cannot write models there", f"chown -R {user}: {path}")
        )
    return Store(posixpath.normpath(path), user, group), tuple(problems)


def foreign_unit(facts: Facts, mode: Service, name: str) -> Unit | None:
    """A unit of this name that somebody else made: it is adopted and never written."""
    unit = None if mode is Service.DETACHED else facts.unit(mode.value, f"{name}.service")
    return unit if unit is not None and unit.path and not unit.ours else None


def unit_names(host: Host) -> dict[int, str]:
    """The port of each instance to the name of its unit: "ollama" for Ollama's own port, else for the first."""
    ports = [instance.port for instance in host.instances]
    main = OLLAMA_PORT if OLLAMA_PORT in ports else ports[0]
    return {port: "ollama" if port == main else f"ollama-{port}" for port in ports}


def _server(
    host: Host,
    instance: Instance,
    facts: Facts,
    inventory: Inventory,
    mode: Service,
    store: Store,
    runs: _Runs,
    problems: list[Problem],
) -> Server:
    name = unit_names(host)[instance.port]
    everywhere = inventory.gateway.transport is Transport.DIRECT
    environment = {
        # Ollama's own default, said aloud: the gateway counts on exactly so many slots, whatever an adopted unit says.
        "OLLAMA_NUM_PARALLEL": "1",
        # Servers that share a store would each remove at its start what another is just pulling (server/images.go).
        **({"OLLAMA_NOPRUNE": "1"} if len(host.instances) > 1 else {}),
        **_visible(instance, facts, problems),
        **host.env,
        **instance.env,
        "OLLAMA_HOST": f"{'0.0.0.0' if everywhere else '127.0.0.1'}:{instance.port}",  # noqa: S104  where it is asked for
        "OLLAMA_MODELS": store.path,
    }
    settings = json.dumps([runs.identity, runs.binary, sorted(environment.items())])
    revision = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return Server(
        port=instance.port,
        name=name,
        environment={**environment, "OLLADIST_REVISION": revision},
        adopted=foreign_unit(facts, mode, name),
    )


def _visible(instance: Instance, facts: Facts, problems: list[Problem]) -> dict[str, str]:
    """The variables that give a server its GPUs and no others; all GPUs where the inventory names none."""
    if instance.gpus is None:
        return {}
    if not instance.gpus:
        # An index that no GPU has leaves the CPU (Ollama's docs/gpu.md).
        return {"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1", "OLLAMA_VULKAN": "0"}
    by_index = {gpu.index: gpu for gpu in facts.gpus}
    missing = [index for index in instance.gpus if index not in by_index]
    if missing:
        there = ", ".join(str(index) for index in sorted(by_index)) or "none"
        text = f"instance {instance.port} asks for GPU {', '.join(map(str, missing))}; the host has: {there}"
        problems.append(Problem(text, facts.gpu_problem or "correct `gpus` in the inventory"))
        return {}
    chosen = [by_index[index] for index in instance.gpus]
    variable = "CUDA_VISIBLE_DEVICES" if chosen[0].vendor == "nvidia" else "ROCR_VISIBLE_DEVICES"
    names = [gpu.uuid or str(gpu.index) for gpu in chosen]
    # Drivers number by their own lights, so uuids if they are all known; CUDA takes no mixture. Vulkan sees every GPU
    # whatever these variables say.
    words = names if all(gpu.uuid for gpu in chosen) else [str(gpu.index) for gpu in chosen]
    return {variable: ",".join(words), "OLLAMA_VULKAN": "0"}


_COMMANDS = ("/usr/local/bin/ollama", "/usr/bin/ollama", "/snap/bin/ollama")


def _notes(
    host: Host, facts: Facts, choice: Choice, adopted: Unit | None, store: Store, servers: tuple[Server, ...]
) -> Iterator[str]:
    if choice.adopted is not None:
        whose = choice.adopted.origin.value
        whose = f"{whose} {choice.adopted.package}" if choice.adopted.package else whose
        yield f"the Ollama {choice.adopted.version} at {choice.adopted.path} ({whose}) is adopted, not installed anew"
    else:
        for binary in facts.binaries:
            if binary.origin is not Origin.OLLADIST and binary.version and binary.path in _COMMANDS:
                yield f"the command {binary.path} stays what it is, Ollama {binary.version}"
    if adopted is not None:
        yield f"the unit file {adopted.path} is not ours and stays as it is"
        theirs, ours = adopted.environment, servers[0].environment
        for name in sorted(set(theirs) & set(ours) - {"OLLAMA_HOST", "OLLAMA_MODELS"}):
            if theirs[name] != ours[name]:
                yield f"{adopted.name} sets {name}={theirs[name]}; the inventory's {ours[name]} rules"
        if host.models_dir and adopted.environment.get("OLLAMA_MODELS", store.path) != store.path:
            yield f"models in {adopted.environment['OLLAMA_MODELS']} stay there; models_dir is {store.path}"
    if choice.mode is Service.USER and not (facts.linger or facts.can_linger or facts.root):
        yield (
            f"the service ends when {facts.user} logs out: lingering is not allowed; as root on the host: "
            f"loginctl enable-linger {facts.user}"
        )
    if choice.mode is Service.DETACHED and facts.kills_user_processes and facts.uid != 0:
        yield "logind ends what a user leaves running at logout (KillUserProcesses=yes), and with it this server"
    if facts.gpu_problem:
        yield facts.gpu_problem
