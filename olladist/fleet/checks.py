"""What `doctor` concludes from what it has seen of one host: pure, one function for each check, each failure with its fix."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from olladist.errors import AuthRefused, HostError, HostKeyRefused, SudoRefused
from olladist.fleet.findings import Area, Finding, Verdict
from olladist.fleet.survey import UNKNOWN, Survey
from olladist.fleet.way import Way
from olladist.host.found import Sudo
from olladist.host.plan import Plan
from olladist.host.service.state import State
from olladist.inventory.model import Connection, Host, Inventory, Service
from olladist.units import size

# The smallest models people use take 0.3 to 1.3 GB, and a model that is created needs its size twice for a moment.
DISK_MIN = 2 * 10**9


@dataclass(frozen=True, slots=True)
class HostEvidence:
    """All that was seen of a host; what comes after the first thing that went wrong is missing.

    `way` is None for this machine, and where ssh goes its own way (ProxyCommand). `versions` is what each port answers,
    or why it gives none; `lacks` what is wrong with its models, None where they could not be listed.
    """

    host: Host
    way: Way | None = None
    login: HostError | None = None
    looked: Survey | HostError | None = None
    plan: Plan | None = None
    states: Mapping[int, State] | None = None
    versions: Mapping[int, str | HostError] | None = None
    lacks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one check concludes; an empty `fix` means that all is well."""

    text: str
    fix: str = ""


Check = Callable[[HostEvidence], Seen]


def judge_host(evidence: HostEvidence) -> tuple[Finding, ...]:
    """Every check in its order. Nothing is concluded beyond one that the later ones stand on."""
    findings: list[Finding] = []
    broken = ""
    for area, name, check, carries in CHECKS:
        if broken:
            findings.append(
                Finding(area, evidence.host.name, name, Verdict.NOT_CHECKED, f"not checked: needs {broken}")
            )
            continue
        seen = check(evidence)
        verdict = Verdict.FAILED if seen.fix else Verdict.OK
        findings.append(Finding(area, evidence.host.name, name, verdict, seen.text, seen.fix))
        if seen.fix and carries:
            broken = name
    return tuple(findings)


def judge_replicas(inventory: Inventory, missing: Sequence[str]) -> tuple[Finding, ...]:
    """What no host lacks by itself; nothing is said where nothing is declared by its number."""
    if missing:
        text = "; ".join(missing)
        return (Finding(Area.MODELS, "fleet", "replicas", Verdict.FAILED, text, "olladist models sync"),)
    if any(model.replicas is not None for model in inventory.models):
        return (Finding(Area.MODELS, "fleet", "replicas", Verdict.OK, "as declared"),)
    return ()


# ---- the way to it ----


def _dns(evidence: HostEvidence) -> Seen:
    way = evidence.way
    if way is None:
        local = evidence.host.connection is Connection.LOCAL
        return Seen("this machine" if local else "left to the ProxyCommand of the ssh configuration")
    if way.dns_problem:
        fix = f"correct address or jump of {evidence.host.name} in the inventory, or HostName in ~/.ssh/config"
        return Seen(f"{way.address}: {way.dns_problem}", f"{fix}; `getent hosts {way.address}` tries it")
    if way.addresses == (way.address,):
        return Seen(f"{way.address} is an address")
    return Seen(f"{way.address} is {', '.join(way.addresses)}")


def _tcp(evidence: HostEvidence) -> Seen:
    way, error = evidence.way, evidence.login
    if way is not None and way.tcp_problem:
        fix = f"is the machine on, sshd running, and port {way.port} open in every firewall on the way?"
        return Seen(f"{way.address} port {way.port}: {way.tcp_problem}", fix)
    if error is not None and not isinstance(error, HostKeyRefused | AuthRefused):
        return Seen(f"{error.cause} (while {error.during})", error.hint or "try it with `ssh -v`")
    return Seen(f"{way.address} port {way.port} answers" if way is not None else "not needed")


def _host_key(evidence: HostEvidence) -> Seen:
    if isinstance(evidence.login, HostKeyRefused):
        return Seen(evidence.login.cause, evidence.login.hint)
    return Seen("known" if evidence.host.connection is Connection.SSH else "not needed")


def _login(evidence: HostEvidence) -> Seen:
    if evidence.login is not None:
        return Seen(evidence.login.cause, evidence.login.hint or "ssh-copy-id puts your key there")
    looked = evidence.looked
    if isinstance(looked, HostError) and not isinstance(looked, SudoRefused):
        return Seen(f"{looked.cause} (while {looked.during})", looked.hint or f"look with `olladist ssh {looked.host}`")
    return Seen(f"as {looked.facts.user}" if isinstance(looked, Survey) else "accepted")


def _sudo(evidence: HostEvidence) -> Seen:
    looked = evidence.looked
    if isinstance(looked, SudoRefused):
        return Seen(looked.cause, looked.hint or 'let the user use sudo, or set service = "user"')
    facts, mode = _survey(evidence).facts, _survey(evidence).desired.mode
    if facts.sudo is Sudo.ROOT:
        return Seen("not needed: logs in as root")
    if mode is not Service.SYSTEM:
        return Seen(f"not needed: a {mode} service runs as {facts.user}")
    how = "without a password" if facts.sudo is Sudo.PASSWORDLESS else "with a password"
    return Seen(f"{facts.user} may use it {how}")


# ---- the machine ----


def _disk(evidence: HostEvidence) -> Seen:
    survey = _survey(evidence)
    path = survey.desired.store.path
    place = survey.facts.paths.get(path)
    if place is None or place.free_bytes is None:
        return Seen(f"the free space of {path} is not known")
    text = f"{size(place.free_bytes)} free for models in {path}"
    if place.free_bytes < DISK_MIN:
        return Seen(text, "remove models there (`ollama rm`), or set models_dir to a larger disk")
    return Seen(text)


def _gpu(evidence: HostEvidence) -> Seen:
    facts = _survey(evidence).facts
    if facts.gpu_problem:
        return Seen(facts.gpu_problem, f"install or repair the GPU driver; `olladist ssh {evidence.host.name} dmesg`")
    if not facts.gpus:
        return Seen("no GPU: models run on the CPU")
    names = ", ".join(dict.fromkeys(gpu.name for gpu in facts.gpus))
    driver = next((f", driver {gpu.driver}" for gpu in facts.gpus if gpu.driver), "")
    return Seen(f"{len(facts.gpus)}x {names}{driver}")


def _installed(evidence: HostEvidence) -> Seen:
    desired, plan = _survey(evidence).desired, evidence.plan
    problems = plan.problems if plan is not None else desired.problems
    if problems:
        hints = "\n".join(problem.hint for problem in problems if problem.hint)
        return Seen("; ".join(problem.text for problem in problems), hints or "correct the inventory, or the host")
    if desired.release is not None and desired.release.name == UNKNOWN:
        return Seen("Ollama is not installed", f"olladist --limit {evidence.host.name} up")
    whose = "adopted" if desired.release is None else "installed by olladist"
    return Seen(f"{desired.binary}, {whose}")


def _as_declared(evidence: HostEvidence) -> Seen:
    steps = evidence.plan.steps if evidence.plan is not None else ()
    if not steps:
        return Seen("nothing to do")
    more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
    return Seen(f"differs from the inventory: {steps[0].describe()}{more}", f"olladist --limit {evidence.host.name} up")


# ---- what runs there ----


def _service(evidence: HostEvidence) -> Seen:
    states = evidence.states or {}
    bad = {port: state for port, state in states.items() if not state.active}
    if bad:
        text = ", ".join(f"the Ollama on port {port} is {state.says}" for port, state in bad.items())
        name = evidence.host.name
        return Seen(text, f"olladist --limit {name} up starts it; olladist --limit {name} logs says why it ended")
    mode = _survey(evidence).desired.mode
    return Seen(f"{mode} service on port {', '.join(map(str, states))}")


def _api(evidence: HostEvidence) -> Seen:
    versions = evidence.versions or {}
    for port, version in versions.items():
        if isinstance(version, HostError):
            return Seen(
                f"port {port}: {version.cause}", version.hint or f"olladist --limit {evidence.host.name} restart"
            )
    return Seen(", ".join(f"Ollama {version} on port {port}" for port, version in versions.items()))


def _models(evidence: HostEvidence) -> Seen:
    if evidence.lacks is None:
        return Seen("the models could not be listed", f"olladist --limit {evidence.host.name} logs")
    if evidence.lacks:
        return Seen("; ".join(evidence.lacks), "olladist models sync")
    return Seen("as declared")


def _survey(evidence: HostEvidence) -> Survey:
    if not isinstance(evidence.looked, Survey):
        raise TypeError(f"{evidence.host.name}: a check before this one has let through {evidence.looked!r}")
    return evidence.looked


# (area, name, check, whether all later ones stand on it)
CHECKS: Sequence[tuple[Area, str, Check, bool]] = (
    (Area.INSTALLATION, "DNS", _dns, True),
    (Area.INSTALLATION, "TCP", _tcp, True),
    (Area.INSTALLATION, "host key", _host_key, True),
    (Area.INSTALLATION, "login", _login, True),
    (Area.INSTALLATION, "sudo", _sudo, True),
    (Area.INSTALLATION, "disk", _disk, False),
    (Area.INSTALLATION, "GPU driver", _gpu, False),
    (Area.INSTALLATION, "installation", _installed, True),
    (Area.INSTALLATION, "settings", _as_declared, False),
    (Area.SERVER, "service", _service, True),
    (Area.SERVER, "API", _api, True),
    (Area.MODELS, "models", _models, False),
)
