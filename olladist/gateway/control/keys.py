"""The API keys that the inventory declares: found where they are kept, hashed, and told to the workers."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import msgspec
import structlog

from olladist.errors import GatewayError
from olladist.gateway.access import digest_of
from olladist.gateway.lease import Access, Key
from olladist.inventory.model import ApiKey

# 16 random characters of 64 are 96 bits; and nobody picks a password of that length by hand.
KEY_CHARS_MIN = 16
KEY_CHARS_MAX = 512
log = structlog.get_logger()

HOW_TO_MAKE_ONE = "`olladist proxy key NAME` makes one"


class Keys:
    """Who may come in, by the keys' names; `swap` takes over another inventory's at once, or not at all."""

    def __init__(self, declared: Iterable[ApiKey] = (), environ: Mapping[str, str] = os.environ) -> None:
        self.declared: Mapping[str, ApiKey] = {}  # rates and priorities
        self.known: Mapping[str, Key] = {}
        self.swap(declared, environ)

    def swap(self, declared: Iterable[ApiKey], environ: Mapping[str, str] = os.environ) -> None:
        """Raises GatewayError with all that is wrong, and leaves everything as it was."""
        declared = tuple(declared)
        self.known = {key.name: key for key in resolve(declared, environ)}
        self.declared = {key.name: key for key in declared}

    def keep(self, path: Path) -> None:
        """Writes the digests down, for a control process that is started again."""
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(self.access))
        new.rename(path)

    @classmethod
    def first(cls, declared: Iterable[ApiKey], kept: Path, environ: Mapping[str, str] = os.environ) -> Self:
        """What a control process begins with; the digests that a predecessor has kept, where a key cannot be read now.

        GatewayError where there are none.
        """
        declared = tuple(declared)
        try:
            keys = cls(declared, environ)
        except GatewayError as error:
            if not kept.exists():
                raise
            log.warning("keys cannot be read: going on with those of before", problem=error.message, hint=error.hint)
            keys = cls()
            keys.known = {key.name: key for key in msgspec.json.decode(kept.read_bytes(), type=Access).keys}
            keys.declared = {key.name: key for key in declared if key.name in keys.known}
        else:
            keys.keep(kept)
        return keys

    def get(self, name: str) -> Key | None:
        return self.known.get(name)

    @property
    def access(self) -> Access:
        return Access(tuple(self.known.values()))


def resolve(declared: Iterable[ApiKey], environ: Mapping[str, str]) -> tuple[Key, ...]:
    """Reads each key out of its variable or file and keeps its digest alone. Raises GatewayError with all that is wrong."""
    keys: list[Key] = []
    problems: list[str] = []
    for key in declared:
        try:
            digest = key.sha256 or digest_of(_secret(key, environ))
        except ValueError as problem:
            problems.append(f"[gateway.keys.{key.name}] {problem}")
            continue
        twin = next((known.name for known in keys if known.digest == digest), "")
        if twin:
            problems.append(f"[gateway.keys.{key.name}] is the same key as {twin!r}: nobody could tell who calls")
        keys.append(Key(key.name, digest, key.models, key.manage))
    if problems:
        raise GatewayError("the gateway's keys cannot be used:\n" + "\n".join(problems), hint=HOW_TO_MAKE_ONE)
    return tuple(keys)


def _secret(key: ApiKey, environ: Mapping[str, str]) -> bytes:
    """The key itself. Raises ValueError, whose text never holds any of it."""
    if key.variable is not None:
        where, text = f"the variable {key.variable}", environ.get(key.variable)
        if text is None:
            raise ValueError(f"{where} is not set: set it where the gateway is started")
    elif key.file is not None:
        where, text = f"the file {key.file}", _read(key.file)
    else:
        raise ValueError("says nowhere where the key is: give it key_env, key_file or sha256")
    text = text.strip()
    if not text:
        raise ValueError(f"{where} is empty")
    if len(text) < KEY_CHARS_MIN:
        raise ValueError(
            f"{where} holds a key of {len(text)} characters, which can be guessed: {KEY_CHARS_MIN} at least"
        )
    if len(text) > KEY_CHARS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(
            f"{where} holds what is no key: one line of at most {KEY_CHARS_MAX} ASCII characters, no blanks"
        )
    return text.encode()


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(KEY_CHARS_MAX + 64).decode("utf-8", "replace")
    except OSError as problem:
        raise ValueError(f"the file {file} cannot be read: {problem.strerror or problem}") from problem
