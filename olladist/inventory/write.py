"""A first inventory for `olladist init`: it parses as it stands, and shows in comments what else can be said."""

import ipaddress
import json
import re
from collections.abc import Sequence

from olladist.errors import UsageError
from olladist.inventory.destination import Destination

_HEAD = """\
# The machines of one Ollama. `olladist plan` shows what would be done to them, `olladist up` does it.
# Every key is in docs/reference/inventory.md.

[fleet]
name = {name}
ollama = "latest"            # an exact version ("0.17.4") keeps all hosts equal; or the path or URL of a release archive

[defaults]                   # any key of a host: hosts override their groups, groups override these
# user = "ops"               # default: what ~/.ssh/config says
# identity = "~/.ssh/fleet"  # default: the SSH agent and ~/.ssh/config
# host_keys = "ask"          # or accept-new, strict; a changed key is always refused
# service = "auto"           # or system (systemd, root), user (systemd --user), detached (no systemd)
# env = {{ OLLAMA_NUM_PARALLEL = 4, OLLAMA_KEEP_ALIVE = "30m" }}
# instances = [{{ port = 11434, gpus = [0] }}, {{ port = 11435, gpus = [1] }}]  # an Ollama for each GPU

# [groups.a100]              # hosts name their groups: groups = ["a100"]
# env = {{ OLLAMA_CONTEXT_LENGTH = 32768 }}

"""

_TAIL = """\
# [models."llama3.2:3b"]     # `olladist models sync` brings models to where they are declared
# replicas = 1               # or on = "a100", on = ["gpu1", "gpu2"]; without either: on every host

# [gateway]                  # `olladist proxy`: one address for all hosts
# listen = "127.0.0.1:11434"
"""

_LOCAL = """\
[hosts.local]
connection = "local"         # this machine, without SSH; another one: address = "gpu1.example.com"
"""


def init_text(destinations: Sequence[Destination], name: str = "fleet") -> str:
    """The text of an inventory with one host for each destination, or with this machine where there are none.

    UsageError where two destinations are the same machine.
    """
    head = _HEAD.format(name=_quoted(name))
    if not destinations:
        return f"{head}{_LOCAL}\n{_TAIL}"
    hosts = [
        _host(host_name, destination)
        for host_name, destination in zip(host_names(destinations), destinations, strict=True)
    ]
    return head + "\n".join([*hosts, _TAIL])


def host_names(destinations: Sequence[Destination]) -> list[str]:
    """A name for each, out of its host name's first label or its address, all of them different."""
    _refuse_doubles(destinations)
    taken: set[str] = set()
    names: list[str] = []
    for destination in destinations:
        short = _short_name(destination.host)
        candidates = [short, _cleaned(destination.host), *(f"{short}-{n}" for n in range(2, len(destinations) + 2))]
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _refuse_doubles(destinations: Sequence[Destination]) -> None:
    seen: dict[tuple[str, int], Destination] = {}
    for destination in destinations:
        other = seen.setdefault((destination.host.lower(), destination.port or 22), destination)
        if other is not destination:
            raise UsageError(f"{other} and {destination} are the same machine", hint="name each machine once")


def _host(name: str, destination: Destination) -> str:
    lines = [f"[hosts.{_key(name)}]", f"address = {_quoted(destination.host)}"]
    if destination.user is not None:
        lines.append(f"user = {_quoted(destination.user)}")
    if destination.port is not None:
        lines.append(f"port = {destination.port}")
    return "\n".join(lines) + "\n"


def _short_name(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _cleaned(host.partition(".")[0])
    return "host-" + _cleaned(host)


def _cleaned(host: str) -> str:
    """What a host may be called: 64 letters, digits, dots, dashes, underscores, not a dash or dot in front."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", host.replace(".", "-")).strip("-.")[:48] or "host"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a part of TOML's (but for DEL, which TOML wants escaped too)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
