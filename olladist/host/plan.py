"""Plans: the steps from what a host is to what it shall be. Pure; a plan made after its own execution is empty."""

from collections.abc import Iterator
from dataclasses import dataclass

from olladist.host.copy import Copy
from olladist.host.desired import SERVICE_HOME, SERVICE_USER, Desired, Problem, home_prefix
from olladist.host.found import Facts
from olladist.host.install import install_problems, install_steps
from olladist.host.ports import end, orphaned, port_problems
from olladist.host.service.choose import our_services, service_for
from olladist.host.service.systemd import Systemd
from olladist.host.steps import Run, Step
from olladist.host.tarball import Form, Tarball
from olladist.inventory.model import Service
from olladist.ssh.words import words


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in their order; with problems none of them may be run. Notes are for people."""

    host: str
    steps: tuple[Step, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tarballs(self) -> tuple[tuple[Tarball, Form], ...]:
        """What Artifacts.fetch must have here before the plan is run."""
        return tuple((step.tarball, step.form) for step in self.steps if isinstance(step, Copy))


def plan_up(facts: Facts, desired: Desired) -> Plan:
    """Installs, configures and starts what is not as declared, and removes what an earlier inventory had declared."""
    problems = [*desired.problems, *install_problems(facts, desired), *_service_problems(facts, desired)]
    orphans = tuple(orphaned(facts, desired))
    problems += port_problems(facts, desired)
    steps: list[Step] = []
    steps += install_steps(facts, desired)
    steps += _account_steps(facts, desired)
    steps += _store_steps(facts, desired)
    steps += _linger_steps(facts, desired)
    steps += _strays(facts, desired)
    steps += [end(process) for process in orphans]
    steps += service_for(facts, desired).up(facts, desired)
    return Plan(desired.host, tuple(steps), tuple(dict.fromkeys(problems)), desired.notes)


def plan_down(facts: Facts, desired: Desired) -> Plan:
    """Stops every server of ours, now and at the next boot."""
    steps: list[Step] = []
    for service in our_services(facts, desired):
        if isinstance(service, Systemd):
            steps += service.down(facts, service.ours(facts))
        else:
            steps += service.down(facts, service.ours(facts))
    steps += [end(process) for process in orphaned(facts, desired)]
    return Plan(desired.host, tuple(steps), _root_needed(facts, desired))


def plan_restart(facts: Facts, desired: Desired) -> Plan:
    """Restarts the servers as they are; what is not installed is a problem."""
    service = service_for(facts, desired)
    known = set(service.ours(facts))
    missing = [s for s in desired.servers if (s.name if isinstance(service, Systemd) else s.port) not in known]
    problems = tuple(
        Problem(f"the Ollama on port {server.port} is not set up here by olladist", "run `olladist up` first")
        for server in missing
    )
    return Plan(desired.host, tuple(service.restart(facts, desired)), (*problems, *_root_needed(facts, desired)))


def plan_uninstall(facts: Facts, desired: Desired, *, purge_models: bool = False) -> Plan:
    """Removes what olladist has made and nothing else; models stay unless `purge_models` says so."""
    steps: list[Step] = []
    notes: list[str] = []
    for service in our_services(facts, desired):
        if isinstance(service, Systemd):
            steps += service.remove(facts, service.ours(facts))
        else:
            steps += service.remove(facts, service.ours(facts))
    steps += [end(process) for process in orphaned(facts, desired)]
    prefixes = [
        facts.prefixes[path] for path in dict.fromkeys((desired.prefix, home_prefix(facts))) if path in facts.prefixes
    ]
    made = {what for prefix in prefixes for what in prefix.made}
    if purge_models:
        steps += _purge(facts, desired)
    elif _exists(facts, desired.store.path):
        notes.append(f"the models in {desired.store.path} stay")
    if "linger" in made:
        script = words("loginctl", "disable-linger", facts.user)
        steps.append(Run(f"remove the permission of {facts.user} to linger", script, root=False))
    for prefix in prefixes:
        root = desired.root and prefix.path == desired.prefix
        for path in ("/usr/local/bin/ollama", f"{facts.home}/.local/bin/ollama"):
            found = facts.paths.get(path)
            if found is not None and found.link.startswith(f"{prefix.path}/"):
                steps.append(Run(f"remove {path}", words("rm", "-f", path), root))
        steps.append(Run(f"remove {prefix.path}", words("rm", "-rf", prefix.path), root, timeout=300))
    return Plan(desired.host, tuple(steps), _root_needed(facts, desired), tuple(notes))


def _root_needed(facts: Facts, desired: Desired) -> tuple[Problem, ...]:
    """Of what choosing found wrong, only this matters to a plan that installs nothing."""
    if desired.mode is Service.SYSTEM and not facts.root:
        return (
            Problem(f"{facts.user} cannot become root, which a system service needs", f"let {facts.user} use sudo"),
        )
    return ()


def _exists(facts: Facts, path: str) -> bool:
    found = facts.paths.get(path)
    return found is not None and found.exists


# ---- what up needs besides the release and the service ----


def _service_problems(facts: Facts, desired: Desired) -> Iterator[Problem]:
    if desired.mode is Service.SYSTEM:
        if not facts.as_root and facts.root:
            text = "the facts were read without root, so what runs there is not known well enough"
            yield Problem(text, f"give the sudo password of {facts.user}")
        if desired.user == SERVICE_USER and SERVICE_USER not in facts.accounts and "useradd" not in facts.tools:
            yield Problem(
                "useradd is missing, which makes the user `ollama`", "create that user, or install passwd/shadow"
            )
        for server in desired.servers:
            unit = server.adopted
            if unit is not None and unit.late_command and unit.binary != desired.binary:
                text = f"{unit.late_command} sets ExecStart and is read after our drop-in, so {unit.binary} would still be run"
                yield Problem(text, "remove ExecStart there, or the whole file")


def _account_steps(facts: Facts, desired: Desired) -> Iterator[Step]:
    if desired.mode is not Service.SYSTEM or desired.user != SERVICE_USER:
        return
    if SERVICE_USER not in facts.accounts:
        add = words("useradd", "-r", "-s", "/bin/false", "-U", "-m", "-d", SERVICE_HOME, SERVICE_USER)
        yield Run(f"create the user {SERVICE_USER}", f"{add}\ntouch {SERVICE_HOME}/.made-by-olladist", root=True)
    elif all(server.adopted for server in desired.servers):
        return
    for group in ("render", "video"):  # who may open the GPU's devices (scripts/install.sh)
        if group in facts.groups and SERVICE_USER not in facts.groups[group]:
            yield Run(
                f"add {SERVICE_USER} to the group {group}", words("usermod", "-aG", group, SERVICE_USER), root=True
            )


def _store_steps(facts: Facts, desired: Desired) -> Iterator[Step]:
    path, user = desired.store.path, desired.user
    if _exists(facts, path):
        found = facts.paths[path]
        if desired.root and found.owner == "root" and user != "root":
            # Made by an `up` that was cut off here, or by hand; a store with models in it is checked in desired.py.
            yield Run(f"have {path} belong to {user}", f"chown {user}: {words(path)}", root=True)
        return
    if not desired.root:
        yield Run(f"create {path} for models", words("mkdir", "-p", path), root=False)
        return
    # Folders above it are made with the usual mode, so that the user can enter them; those in its home are its own.
    home = desired.home.rstrip("/")
    parts = (
        [home + rest for rest in _parents(path.removeprefix(home))] if home and path.startswith(f"{home}/") else [path]
    )
    script = words("mkdir", "-p", path) + "\n" + words("chown", f"{user}:", *parts)
    yield Run(f"create {path} for models", script, root=True)


def _parents(rest: str) -> list[str]:
    """Each folder of a path, from the top: /a and /a/b of /a/b."""
    parts = rest.strip("/").split("/")
    return ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _linger_steps(facts: Facts, desired: Desired) -> Iterator[Step]:
    if desired.mode is not Service.USER or facts.linger or not (facts.can_linger or facts.root):
        return
    user = words(facts.user)
    script = (
        f"loginctl enable-linger {user}\nloginctl show-user {user} -p Linger | grep -qx Linger=yes\n"
        f"mkdir -p {words(desired.prefix)}\n: >{words(f'{desired.prefix}/.made-linger')}"
    )
    as_root = not facts.can_linger
    if as_root:
        script = script.partition("\nmkdir")[0]
    yield Run(f"allow the services of {facts.user} to run on after logout", script, root=as_root)


def _strays(facts: Facts, desired: Desired) -> Iterator[Step]:
    """What is ours and no longer declared: instances that are gone, and all of another service mode."""
    wanted = service_for(facts, desired)
    for service in our_services(facts, desired):
        same = service == wanted
        if isinstance(service, Systemd):
            names = {server.name for server in desired.servers if same}
            yield from service.remove(facts, [name for name in service.ours(facts) if name not in names])
        else:
            ports = {server.port for server in desired.servers if same}
            yield from service.remove(facts, [port for port in service.ours(facts) if port not in ports])


def _purge(facts: Facts, desired: Desired) -> Iterator[Step]:
    path = desired.store.path
    if _exists(facts, path) and path != "/":
        # The two folders that Ollama makes, and ours; whatever else somebody keeps there is not a model.
        places = [f"{path}/{part}" for part in ("blobs", "manifests", ".olladist")]
        script = f"{words('rm', '-rf', *places)}\n{words('rmdir', path)} 2>/dev/null || true"
        yield Run(f"remove the models in {path}", script, desired.root, timeout=300)
    if facts.made_user and desired.user == SERVICE_USER:
        yield Run(
            f"remove the user {SERVICE_USER} and its home",
            words("userdel", "-r", SERVICE_USER) + " 2>/dev/null || true",
            root=True,
        )
