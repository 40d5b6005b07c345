"""From what the tables say to what each host is: host over groups, in the order the host lists them, over defaults."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from olladist.inventory.declared import Declared
from olladist.inventory.model import (
    OLLAMA_PORT,
    ApiKey,
    Connection,
    DeclaredModel,
    Fallback,
    Gateway,
    Host,
    HostKeys,
    Instance,
    Inventory,
    Mode,
    Service,
    Strategy,
    Transport,
)
from olladist.inventory.tables import (
    FleetTable,
    GatewayTable,
    HostTable,
    InstanceTable,
    KeyTable,
    ModelTable,
    SharedTable,
)
from olladist.ollama.names import parse_name
from olladist.ollama.release import LATEST, is_version

T = TypeVar("T")

FROM_HOST = "host:"


def resolve(declared: Declared, path: Path) -> Inventory:
    """The inventory of a file without problems; `path` is the file's, others in it are relative to its folder."""
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100  resolve() would follow a link to another folder
    fleet = declared.fleet
    return Inventory(
        path=path,
        name=fleet.name or "fleet",
        hosts=resolve_hosts(declared, folder),
        groups={
            group: tuple(name for name, host in declared.hosts.items() if group in host.groups)
            for group in declared.groups
        },
        models=tuple(_model(name, table, folder) for name, table in declared.models.items()),
        gateway=_gateway(declared.gateway, folder),
        mirror=fleet.mirror,
        checksums=fleet.checksums,
    )


def resolve_hosts(declared: Declared, folder: Path) -> dict[str, Host]:
    """Every host with its final values; groups that are not declared count as empty."""
    hosts: dict[str, Host] = {}
    for name, table in declared.hosts.items():
        groups = [declared.groups[group] for group in table.groups if group in declared.groups]
        hosts[name] = _host(name, table, (declared.defaults, *groups, table), declared.fleet, folder)
    return hosts


def _host(name: str, table: HostTable, layers: tuple[SharedTable, ...], fleet: FleetTable, folder: Path) -> Host:
    env = merged(*(layer.env for layer in layers))
    identity = _last(*(layer.identity for layer in layers))
    instances = _last(*(layer.instances for layer in layers))
    return Host(
        name=name,
        address=table.address or name,
        connection=Connection(_last(*(layer.connection for layer in layers)) or Connection.SSH),
        user=_last(*(layer.user for layer in layers)),
        port=_last(*(layer.port for layer in layers)),
        identity=Path(absolute(identity, folder)) if identity else None,
        jump=tuple(_last(*(layer.jump for layer in layers)) or ()),
        host_keys=HostKeys(_last(*(layer.host_keys for layer in layers)) or HostKeys.ASK),
        groups=tuple(dict.fromkeys(table.groups)),
        service=Service(_last(*(layer.service for layer in layers)) or Service.AUTO),
        ollama=_release(_last(fleet.ollama, *(layer.ollama for layer in layers)) or LATEST, folder),
        models_dir=_last(*(layer.models_dir for layer in layers)),
        env=env,
        instances=tuple(_instance(instance, env) for instance in instances or [InstanceTable()]),
    )


def _instance(table: InstanceTable, env: Mapping[str, str]) -> Instance:
    return Instance(
        port=OLLAMA_PORT if table.port is None else table.port,
        gpus=None if table.gpus is None else tuple(table.gpus),
        env=merged(env, table.env),
    )


def _model(name: str, table: ModelTable, folder: Path) -> DeclaredModel:
    source = table.source
    if source is not None and not source.startswith(FROM_HOST):
        source = absolute(source, folder)
    return DeclaredModel(parse_name(name), tuple(table.on or ("*",)), table.replicas, source)


def _gateway(table: GatewayTable, folder: Path) -> Gateway:
    default = Gateway()
    chosen = default.fallback if table.fallback is None else tuple(f for f in Fallback if f in table.fallback)
    return Gateway(
        listen=table.listen or default.listen,
        workers=table.workers or default.workers,
        strategy=Strategy(table.strategy or default.strategy),
        transport=Transport(table.transport or default.transport),
        mode=Mode(table.mode or default.mode),
        local=table.local,
        fallback=chosen,
        cache_mb=table.cache_mb or default.cache_mb,
        cache_hours=table.cache_hours or default.cache_hours,
        replicas=table.replicas or default.replicas,
        cloud=table.cloud,
        tls_cert=_path(table.tls_cert, folder),
        tls_key=_path(table.tls_key, folder),
        origins=tuple(table.origins or ()),
        keys=tuple(_key(name, key, folder) for name, key in table.keys.items()),
    )


def _key(name: str, table: KeyTable, folder: Path) -> ApiKey:
    return ApiKey(
        name=name,
        variable=table.key_env,
        file=_path(table.key_file, folder),
        sha256=table.sha256,
        models=tuple(table.models),
        manage=table.manage,
        requests_per_minute=table.requests_per_minute,
        tokens_per_minute=table.tokens_per_minute,
        priority=table.priority,
    )


def _path(text: str | None, folder: Path) -> Path | None:
    return Path(absolute(text, folder)) if text is not None else None


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Environments over one another, key by key."""
    return {name: value for layer in layers for name, value in layer.items()}


def absolute(text: str, folder: Path) -> str:
    """A path of the operator's machine: "~" is a home directory, anything else is relative to the inventory file."""
    return os.path.normpath(folder / os.path.expanduser(text))  # noqa: PTH111  expanduser of Path raises for an unknown user


def _release(text: str, folder: Path) -> str:
    """A version, "latest" and a URL stay what they are; a path becomes absolute."""
    return text if is_version(text) or text == LATEST or "://" in text else absolute(text, folder)


def _last(*values: T | None) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)
