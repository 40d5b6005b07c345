"""What no single value shows: names that lead nowhere, doubles, and settings that contradict each other."""

import re
from collections.abc import Iterator, Mapping

from olladist.errors import UsageError
from olladist.inventory.declared import Declared
from olladist.inventory.lines import KeyPath
from olladist.inventory.model import Connection, Host, Instance
from olladist.inventory.problems import Problems, nearest
from olladist.inventory.resolve import FROM_HOST
from olladist.inventory.select import choose
from olladist.inventory.tables import HostTable, ModelTable, SharedTable
from olladist.ollama.env import check_variable
from olladist.ollama.names import InvalidName, parse_name

# Names go into file names, headers, patterns and command lines.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
NAME_RULE = "must begin with a letter, a digit or _, then also . and -, 64 characters at most"

# What olladist sets where an instance lists its GPUs.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")

_SSH_ONLY = ("address", "user", "port", "identity", "jump", "host_keys")


def is_name(text: str) -> bool:
    """Whether a host, a group or a key may be called so."""
    return _NAME.fullmatch(text) is not None


def check(declared: Declared, hosts: Mapping[str, Host], problems: Problems) -> None:
    """Notes every problem between the tables; `hosts` are the resolved ones."""
    if not declared.hosts and not problems:
        problems.add(("hosts",), "no host is declared", "add [hosts.NAME], or let `olladist init user@host …` write it")
    _check_names(declared, problems)
    _check_env(declared, problems)
    for name, table in declared.hosts.items():
        _check_groups(name, table, declared, problems)
        _check_local(name, table, problems)
        _check_instances(name, table, hosts[name], problems)
    _check_doubles(hosts, declared, problems)
    _check_models(declared, problems)
    _check_gateway(declared, problems)


def _check_gateway(declared: Declared, problems: Problems) -> None:
    gateway = declared.gateway
    for name, key in gateway.keys.items():
        given = [source for source in (key.key_env, key.key_file, key.sha256) if source is not None]
        if len(given) != 1 and not problems.touch(("gateway", "keys", name)):
            problems.add(
                ("gateway", "keys", name), "must have one of key_env, key_file and sha256", 'key_env = "VARIABLE"'
            )
    if gateway.cloud is not None and gateway.cloud not in declared.hosts:
        problems.add(
            ("gateway", "cloud"), f"there is no host {gateway.cloud!r}", nearest(gateway.cloud, tuple(declared.hosts))
        )
    if (gateway.tls_cert is None) != (gateway.tls_key is None):
        given_one, missing = ("tls_cert", "tls_key") if gateway.tls_cert else ("tls_key", "tls_cert")
        problems.add(("gateway", given_one), f"needs {missing} beside it", "both are PEM files")


def _check_names(declared: Declared, problems: Problems) -> None:
    seen: dict[str, KeyPath] = {}
    sections = (("hosts", declared.hosts), ("groups", declared.groups))
    for section, name in ((section, name) for section, names in sections for name in names):
        path = (section, name)
        if not is_name(name):
            problems.add(path, f"{name!r} is not a name for a {section[:-1]}", NAME_RULE)
        other = seen.setdefault(name.lower(), path)
        if other != path:
            kinds = "a host and a group have" if other[0] != section else f"two {section} have"
            problems.add(
                path, f"{kinds} the same name (in any case of the letters)", "patterns could not tell them apart"
            )
    for name in declared.gateway.keys:
        if not is_name(name):
            problems.add(("gateway", "keys", name), f"{name!r} is not a name for a key", NAME_RULE)


def _check_env(declared: Declared, problems: Problems) -> None:
    for path, env in _environments(declared):
        for name, value in env.items():
            if problem := check_variable(name, value):
                text, _, hint = problem.partition("; ")
                problems.add((*path, "env", name), text, hint)


def _environments(declared: Declared) -> Iterator[tuple[KeyPath, Mapping[str, str]]]:
    tables: list[tuple[KeyPath, SharedTable]] = [(("defaults",), declared.defaults)]
    tables += [(("groups", name), table) for name, table in declared.groups.items()]
    tables += [(("hosts", name), table) for name, table in declared.hosts.items()]
    for path, table in tables:
        yield path, table.env
        for number, instance in enumerate(table.instances or []):
            yield (*path, "instances", number), instance.env


def _check_groups(name: str, table: HostTable, declared: Declared, problems: Problems) -> None:
    for number, group in enumerate(table.groups):
        if group not in declared.groups:
            hint = nearest(group, declared.groups) or f"declare it, be it empty: [groups.{group}]"
            problems.add(("hosts", name, "groups", number), f"there is no group {group!r}", hint)


def _check_local(name: str, table: HostTable, problems: Problems) -> None:
    if table.connection == Connection.LOCAL:
        for key in _SSH_ONLY:
            if key in table.model_fields_set:
                problems.add(
                    ("hosts", name, key),
                    'has no meaning beside connection = "local"',
                    "this machine is not reached over SSH",
                )


def _check_instances(name: str, table: HostTable, host: Host, problems: Problems) -> None:
    """Ports and GPUs of the resolved instances, which may come from a group or the defaults."""
    path: KeyPath = ("hosts", name, "instances") if table.instances is not None else ("hosts", name)
    if table.instances == []:
        problems.add(path, "must have at least one instance", "leave the key out for one on port 11434")
    ports: dict[int, int] = {}
    for number, instance in enumerate(host.instances):
        at = (*path, number) if table.instances is not None else path
        if not problems.touch((*at, "port")) and ports.setdefault(instance.port, number) != number:
            problems.add(
                (*at, "port"), f"port {instance.port} is taken by instance {ports[instance.port]} of the same host"
            )
        _check_gpus(at, instance, problems)


def _check_gpus(path: KeyPath, instance: Instance, problems: Problems) -> None:
    if instance.gpus is None:
        return
    if len(set(instance.gpus)) != len(instance.gpus):
        problems.add((*path, "gpus"), "lists a GPU twice")
    for name in _GPU_VARIABLES:
        if name in instance.env:
            problems.add((*path, "gpus"), f"contradicts env.{name}", "olladist sets that from `gpus`; keep one of them")


def _check_doubles(hosts: Mapping[str, Host], declared: Declared, problems: Problems) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for name, host in hosts.items():
        if any(problems.touch(("hosts", name, key)) for key in ("address", "port", "jump", "connection")):
            continue  # what it says there does not count
        local = host.connection is Connection.LOCAL
        place: tuple[object, ...] = ("local",) if local else (host.address.lower(), host.port or 22, host.jump)
        other = seen.setdefault(place, name)
        if other == name:
            continue
        where = (
            "are both this machine"
            if local
            else f"have the same address {host.address}" + (f" and port {host.port}" if host.port else "")
        )
        key = ("address",) if declared.hosts[name].address else ()
        problems.add(
            ("hosts", name, *key), f"{other} and {name} {where}", "several Ollamas on one host are `instances`"
        )


def _check_models(declared: Declared, problems: Problems) -> None:
    seen: dict[str, str] = {}
    for name, table in declared.models.items():
        path = ("models", name)
        try:
            key = parse_name(name).key
        except InvalidName:
            problems.add(path, f"{name!r} is not a model name", "[HOST/][NAMESPACE/]MODEL[:TAG], such as llama3.2:3b")
        else:
            other = seen.setdefault(key, name)
            if other != name:
                problems.add(path, f"is the same model as {other!r}", "Ollama does not tell them apart")
        _check_source(path, table, declared, problems)
        if declared.hosts:
            _check_placement(path, table, declared, problems)


def _check_source(path: KeyPath, table: ModelTable, declared: Declared, problems: Problems) -> None:
    source = table.source or ""
    if source.startswith(FROM_HOST):
        host = source.removeprefix(FROM_HOST)
        if host not in declared.hosts:
            problems.add((*path, "source"), f"there is no host {host!r}", nearest(host, declared.hosts))
    elif "://" in source:
        hint = "leave `source` out for the registry; a model of another registry has its host in its name (hf.co/user/model)"
        problems.add((*path, "source"), f"cannot be a URL ({source!r})", hint)


def _check_placement(path: KeyPath, table: ModelTable, declared: Declared, problems: Problems) -> None:
    groups = {g: [name for name, host in declared.hosts.items() if g in host.groups] for g in declared.groups}
    patterns = ["*"] if table.on is None else table.on
    if not patterns:
        problems.add((*path, "on"), "names no host", "leave it out for all hosts")
        return
    wrong = False
    for number, pattern in enumerate(patterns):
        try:
            choose(declared.hosts, groups, [pattern])
        except UsageError as error:
            wrong = True
            problems.add((*path, "on", number), error.message, error.hint)
    if wrong:
        return
    matching = len(choose(declared.hosts, groups, patterns))
    if not matching:
        problems.add((*path, "on"), "matches no host")
    elif table.replicas is not None and table.replicas > matching:
        hosts = "host is" if matching == 1 else "hosts are"
        problems.add((*path, "replicas"), f"wants {table.replicas} copies, but only {matching} {hosts} there for them")
