"""Who holds the ports that servers of ours shall have."""

from collections.abc import Iterator

from olladist.host.desired import Desired, Problem, Server, home_prefix
from olladist.host.found import Facts, Listener, Origin, Process
from olladist.host.service.choose import our_services, service_for
from olladist.host.service.systemd import Systemd
from olladist.host.steps import Run
from olladist.inventory.model import Service


def port_problems(facts: Facts, desired: Desired) -> Iterator[Problem]:
    """A port that somebody else holds; what the plan itself stops or restarts is nobody else."""
    for server in desired.servers:
        for listener in facts.listeners:
            if listener.port != server.port:
                continue
            process = facts.process(listener.pid)
            if process is None and _seems_ours(facts, desired, server, listener):
                continue
            if process is not None and (_looked_after(facts, desired, process) or _once_ours(facts, process)):
                continue
            yield _taken(facts, server.port, listener, process)
            break


def _looked_after(facts: Facts, desired: Desired, process: Process) -> bool:
    """It belongs to a service that the plan starts, restarts or removes."""
    ours = f"{home_prefix(facts)}/run/"
    if any(process.pid in {found.pid, found.server} for found in facts.detached if found.path.startswith(ours)):
        return True
    units = {("system", f"{server.name}.service") for server in desired.servers if desired.mode is Service.SYSTEM}
    for service in our_services(facts, desired):
        if isinstance(service, Systemd):
            units |= {(service.scope, f"{name}.service") for name in service.ours(facts)}
    theirs = [unit for unit in facts.units if (unit.scope, unit.name) in units]
    # MainPID may be a wrapper of the process that listens; the control group holds both.
    return any(
        process.pid == unit.pid
        or (
            process.unit_scope == unit.scope
            and process.unit == unit.name
            and (unit.scope == "system" or process.user == facts.user)
        )
        for unit in theirs
    )


def _once_ours(facts: Facts, process: Process) -> bool:
    """Started by our supervisor in this prefix. Its directory tells: several hosts may be one machine, as in the demo."""
    directory = (process.environ or {}).get("OLLADIST_DIRECTORY", "")
    return directory.startswith(f"{home_prefix(facts)}/run/")


def orphaned(facts: Facts, desired: Desired) -> Iterator[Process]:
    """Servers of ours that nothing looks after any more, because somebody removed our files under them."""
    for process in facts.processes.values():
        if _once_ours(facts, process) and not _looked_after(facts, desired, process) and process.group == process.pid:
            yield process


def end(process: Process) -> Run:
    group = f"-{process.group}"
    script = (
        f"kill -TERM {group}\n"
        f"for second in 1 2 3 4 5 6 7 8 9 10; do kill -0 {group} 2>/dev/null || exit 0; sleep 1; done\n"
        f"kill -KILL {group}"
    )
    return Run(f"stop process {process.pid}, an Ollama that olladist once started", script, root=False)


def _seems_ours(facts: Facts, desired: Desired, server: Server, listener: Listener) -> bool:
    """Without root the owner of a socket is not seen; then the state of our own service must do."""
    service = service_for(facts, desired)
    state = service.state(facts, server.name) if isinstance(service, Systemd) else service.state(facts, server.port)
    return listener.pid is None and state.active and (desired.root or listener.uid == facts.uid)


def _taken(facts: Facts, port: int, listener: Listener, process: Process | None) -> Problem:
    other = "give this host another port in the inventory"
    if process is None:
        names = [account.name for account in facts.accounts.values() if account.uid == listener.uid]
        who = f"user {names[0]}" if names else f"uid {listener.uid}"
        return Problem(
            f"port {port} is taken by a process of {who}", f"see `sudo ss -ltnp` there and stop it, or {other}"
        )
    text = f"port {port} is taken by pid {process.pid} of user {process.user}: {process.command}"
    snap = any(binary.origin is Origin.SNAP and process.binary == binary.real for binary in facts.binaries)
    if snap or process.unit.startswith("snap."):
        return Problem(f"{text} (the snap ollama)", f"sudo snap stop --disable ollama, or {other}")
    if process.revision and process.unit_scope == "system":
        hint = f'set service = "system" for this host (with root) and run `olladist uninstall` first, or {other}'
        return Problem(f"{text} ({process.unit}, which olladist has set up as a system service)", hint)
    if process.unit_scope == "system" and process.unit:
        return Problem(f"{text} ({process.unit})", f"sudo systemctl disable --now {process.unit}, or {other}")
    return Problem(text, f"kill {process.pid}, or {other}")
