"""The tables of an inventory file as they are written: which keys there are, and what values each takes.

pydantic finds every wrong value of a table at once; the words for them are in problems.py.
"""

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from olladist.inventory.destination import is_host, is_user, parse_destination
from olladist.inventory.model import Connection, Fallback, HostKeys, Mode, Service, Strategy, Transport
from olladist.inventory.problems import nearest
from olladist.ollama.origins import check_origin
from olladist.ollama.release import ARCHIVE_ENDINGS, LATEST, is_version, normalise

WORKERS_MAX = 64
# A host's GPUs, its instances, the copies of a model: far above what is real, far below what would hurt.
COUNT_MAX = 1024
RATE_MAX = 10**9
CACHE_MB_MAX = 1024 * 1024
CACHE_HOURS_MAX = 24 * 366

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_URL = re.compile(r"https?://[^\s/]+\S*")
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrong(text: str, hint: str = "") -> PydanticCustomError:
    """A problem in our own words; braces in `text` are only braces."""
    return PydanticCustomError("olladist", "{text}", {"text": text, "hint": hint})


def _printable(text: str) -> str:
    if not text:
        raise wrong("is empty", "leave the key out, or give it a value")
    if _CONTROL.search(text):
        raise wrong("holds a control character or a line break")
    return text


def _one_of(*choices: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in choices:
            raise wrong(f"must be {_or(choices)}, not {text!r}", nearest(text, choices))
        return text

    return AfterValidator(check)


def _or(choices: tuple[str, ...]) -> str:
    return ", ".join(choices[:-1]) + " or " + choices[-1] if len(choices) > 1 else choices[0]


def _between(low: int, high: int, what: str) -> AfterValidator:
    def check(number: int) -> int:
        if not low <= number <= high:
            raise wrong(f"must be {what} from {low} to {high}, not {number}")
        return number

    return AfterValidator(check)


def _listed(value: Any) -> Any:
    """One string stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _address(text: str) -> str:
    if is_host(text):
        return text
    if "@" in text or re.fullmatch(r"[^:]+:\d+|\[.*\](?::\d+)?", text):
        raise wrong(
            f"must be a host name or an IP address alone, not {text!r}", "write `user` and `port` as keys of their own"
        )
    raise wrong(f"must be a host name or an IP address, not {text!r}")


def _user(text: str) -> str:
    if not is_user(text):
        raise wrong(f"must be a user name, not {text!r}")
    return text


def _hop(text: str) -> str:
    try:
        return str(parse_destination(text))
    except ValueError as error:
        raise wrong(f"must be [user@]host[:port]: {error}") from error


def _hops(value: Any) -> Any:
    """One string may hold several hops, with commas, as ssh -J takes them."""
    return [hop.strip() for hop in value.split(",")] if isinstance(value, str) else value


def _release(text: str) -> str:
    """A version loses its "v"; a path is made absolute later, where the file's folder is known."""
    if is_version(text):
        return normalise(text)
    if text == LATEST or (text.endswith(ARCHIVE_ENDINGS) and (_URL.fullmatch(text) or "://" not in text)):
        return text
    raise wrong(
        f"must be a version (0.17.4), {LATEST!r}, or the path or http(s) URL of a release archive "
        f"({_or(ARCHIVE_ENDINGS)}), not {text!r}"
    )


def _models_dir(text: str) -> str:
    if not text.startswith("/"):
        raise wrong(f"must be an absolute path on the host, not {text!r}")
    return text.rstrip("/") or "/"


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise wrong(f"must be a URL that begins with http:// or https://, not {text!r}")
    return text.rstrip("/")


def _sha256(text: str) -> str:
    match = _SHA256.fullmatch(text)
    if match is None:
        raise wrong("must be a SHA-256 digest: 64 hex digits", "`sha256sum FILE` prints it")
    return match[1].lower()


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise wrong(f"must be ADDRESS:PORT, such as 127.0.0.1:11434, not {text!r}")
    if not is_host(bare) or (":" in bare and bare == host):
        raise wrong(f"must be ADDRESS:PORT, such as 127.0.0.1:11434 or [::]:11434, not {text!r}")
    return text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise wrong(
            "must be the name of an environment variable, not a key itself", "secrets are never stored in the inventory"
        )
    return text


def _origin(text: str) -> str:
    if problem := check_origin(text):
        raise wrong(
            f"{text!r} {problem}", "such as https://app.example.com, http://*.example.com or chrome-extension://*"
        )
    return text


def _env_text(value: Any) -> str:
    """A value as it stands in an environment, so that Go's strconv reads back what was meant: true is "1"."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    raise wrong("must be a string, a number, true or false")


Text = Annotated[str, AfterValidator(_printable)]
Count = Annotated[int, _between(1, COUNT_MAX, "a number")]
Port = Annotated[int, _between(1, 65535, "a port")]
Gpu = Annotated[int, _between(0, COUNT_MAX, "the number of a GPU")]
Env = dict[str, Annotated[str, BeforeValidator(_env_text)]]


class Table(BaseModel):
    """None and an empty default mean: not said here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InstanceTable(Table):
    port: Port | None = None
    gpus: list[Gpu] | None = None
    env: Env = {}


class SharedTable(Table):
    """What a host says of itself, or a group or [defaults] for it."""

    connection: Annotated[Text, _one_of(*Connection)] | None = None
    user: Annotated[Text, AfterValidator(_user)] | None = None
    port: Port | None = None
    identity: Text | None = None
    jump: Annotated[list[Annotated[Text, AfterValidator(_hop)]], BeforeValidator(_hops)] | None = None
    host_keys: Annotated[Text, _one_of(*HostKeys)] | None = None
    service: Annotated[Text, _one_of(*Service)] | None = None
    ollama: Annotated[Text, AfterValidator(_release)] | None = None
    models_dir: Annotated[Text, AfterValidator(_models_dir)] | None = None
    env: Env = {}
    instances: list[InstanceTable] | None = None


class HostTable(SharedTable):
    address: Annotated[Text, AfterValidator(_address)] | None = None
    groups: Annotated[list[str], BeforeValidator(_listed)] = []


class FleetTable(Table):
    name: Text | None = None
    ollama: Annotated[Text, AfterValidator(_release)] | None = None
    mirror: Annotated[Text, AfterValidator(_url)] | None = None
    checksums: dict[str, Annotated[str, AfterValidator(_sha256)]] = {}


class ModelTable(Table):
    source: Text | None = None
    on: Annotated[list[Text], BeforeValidator(_listed)] | None = None
    replicas: Count | None = None


class KeyTable(Table):
    key_env: Annotated[Text, AfterValidator(_variable)] | None = None
    key_file: Text | None = None
    sha256: Annotated[Text, AfterValidator(_sha256)] | None = None
    models: Annotated[list[Text], BeforeValidator(_listed)] = []
    manage: bool = False
    requests_per_minute: Annotated[int, _between(1, RATE_MAX, "a number")] | None = None
    tokens_per_minute: Annotated[int, _between(1, RATE_MAX, "a number")] | None = None
    priority: Annotated[int, _between(-10, 10, "a number")] = 0


class GatewayTable(Table):
    listen: Annotated[Text, AfterValidator(_listen)] | None = None
    workers: Annotated[int, _between(1, WORKERS_MAX, "a number")] | None = None
    strategy: Annotated[Text, _one_of(*Strategy)] | None = None
    transport: Annotated[Text, _one_of(*Transport)] | None = None
    mode: Annotated[Text, _one_of(*Mode)] | None = None
    local: Annotated[Text, AfterValidator(_url)] | None = None
    fallback: Annotated[list[Annotated[Text, _one_of(*Fallback)]], BeforeValidator(_listed)] | None = None
    cache_mb: Annotated[int, _between(1, CACHE_MB_MAX, "a number")] | None = None
    cache_hours: Annotated[int, _between(1, CACHE_HOURS_MAX, "a number")] | None = None
    replicas: Count | None = None
    cloud: Text | None = None
    tls_cert: Text | None = None
    tls_key: Text | None = None
    origins: Annotated[list[Annotated[Text, AfterValidator(_origin)]], BeforeValidator(_listed)] | None = None
    keys: dict[str, KeyTable] = {}


# Every table of a file, by its name with NAME for what the operator chooses; tests hold the reference page by it.
TABLES: dict[str, type[Table]] = {
    "fleet": FleetTable,
    "defaults": SharedTable,
    "groups.NAME": SharedTable,
    "hosts.NAME": HostTable,
    "hosts.NAME.instances": InstanceTable,
    "models.NAME": ModelTable,
    "gateway": GatewayTable,
    "gateway.keys.NAME": KeyTable,
}
