"""What the environment says of a gateway, instead of the inventory. Pure: variables in, values out.

Only the command reads it. What it says reaches the gateway's processes with their settings, so that none of them needs the variables, and none
holds the token.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from olladist.errors import UsageError
from olladist.gateway.access import digest_of
from olladist.gateway.settings import Overrides, Settings
from olladist.inventory.destination import is_host
from olladist.inventory.model import Fallback, Mode
from olladist.ollama.origins import check_origin

DISTRIBUTED: Final = "OLLAMA_DISTRIBUTED"
STANDALONE: Final = "OLLAMA_STANDALONE"
LOCAL_ADDR: Final = "OLLAMA_LOCAL_ADDR"
FALLBACK: Final = "OLLAMA_FALLBACK"
ADMIN_TOKEN: Final = "OLLAMA_ADMIN_TOKEN"  # noqa: S105  the name of the variable
ORIGINS: Final = "OLLAMA_ORIGINS"

# 16 random characters of 64 are 96 bits.
TOKEN_CHARS_MIN, TOKEN_CHARS_MAX = 16, 512

_BOOLS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}  # as Ollama's own switches


def overrides_of(environ: Mapping[str, str]) -> Overrides:
    """What the variables set; one that is empty counts as not set. UsageError names the variable, its value and what is allowed."""
    standalone, distributed = _switch(environ, STANDALONE), _switch(environ, DISTRIBUTED)
    mode = ""
    if standalone:
        mode = Mode.STANDALONE.value
    elif distributed is not None:
        mode = (Mode.DISTRIBUTED if distributed else Mode.LOCAL).value
    address = environ.get(LOCAL_ADDR, "").strip()
    return Overrides(
        mode=mode,
        fallback=_fallback(environ.get(FALLBACK, "").strip()),
        local=read_local(address if "://" in address else f"http://{address}", LOCAL_ADDR) if address else "",
    )


def with_environment(settings: Settings, origins: tuple[str, ...], environ: Mapping[str, str]) -> Settings:
    """The settings with what the environment says in them; `origins` are the inventory's. UsageError as `overrides_of`."""
    return replace(
        settings,
        overrides=overrides_of(environ),
        origins=_origins(environ.get(ORIGINS, "")) or origins,
        admin_digest=_token_digest(environ.get(ADMIN_TOKEN, "").strip()),
    )


def read_local(url: str, said: str) -> str:
    """The URL of the Ollama beside the gateway as http://HOST:PORT. UsageError where it is another; `said` names who said it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit("http:"), "", None
    problem = ""
    if parts.scheme == "https":
        problem = "is https: the Ollama beside the gateway is spoken to in plain HTTP"
    elif parts.scheme != "http" or not is_host(host):
        problem = "is no URL of an Ollama"
    elif parts.username is not None or parts.password is not None:
        problem = "holds a user or a password: Ollama knows neither"
    elif parts.path.strip("/") or parts.query or parts.fragment:
        problem = "has a path: an Ollama answers at the root"
    elif not port:
        problem = "names no port"
    if problem:
        shown = url.rpartition("@")[2] if "@" in url else url
        raise UsageError(f"{said} {shown!r} {problem}", hint="it is http://HOST:PORT, such as http://127.0.0.1:11435")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _origins(text: str) -> tuple[str, ...]:
    entries = tuple(part for entry in text.split(",") if (part := entry.strip()))
    for entry in entries:
        if problem := check_origin(entry):
            raise UsageError(
                f"{ORIGINS}: {entry!r} {problem}", hint="such as https://app.example.com,http://*.example.com"
            )
    return entries


def _switch(environ: Mapping[str, str], name: str) -> bool | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if (value := _BOOLS.get(text.lower())) is None:
        raise UsageError(f"{name}={text!r} is neither true nor false", hint="allowed are true, false, 1 and 0")
    return value


def _fallback(text: str) -> tuple[str, ...] | None:
    if not text:
        return None
    if (switch := _BOOLS.get(text.lower())) is not None:
        return tuple(Fallback) if switch else ()
    words = {word.strip().lower() for word in text.split(",")} - {""}
    if unknown := sorted(words - set(Fallback)):
        raise UsageError(
            f"{FALLBACK}={text!r} has {unknown[0]!r} in it, which is no fallback",
            hint="allowed are true, false, and local and cache with a comma between them",
        )
    return tuple(fallback.value for fallback in Fallback if fallback in words)


def _token_digest(token: str) -> str:
    """Its text is in no message."""
    if not token:
        return ""
    if len(token) < TOKEN_CHARS_MIN:
        raise UsageError(
            f"{ADMIN_TOKEN} has {len(token)} characters, which can be guessed: {TOKEN_CHARS_MIN} at least",
            hint="`openssl rand -hex 32` makes a good one",
        )
    if len(token) > TOKEN_CHARS_MAX or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{ADMIN_TOKEN} cannot be sent in a header: at most {TOKEN_CHARS_MAX} ASCII characters, no blanks",
            hint="`openssl rand -hex 32` makes a good one",
        )
    return digest_of(token.encode())
