"""API keys, as both sides of lease.sock judge them: which one is shown, and which models it opens. Pure."""

import hashlib
from fnmatch import fnmatchcase

from olladist.gateway.lease import Key
from olladist.ollama.names import DEFAULT_HOST, DEFAULT_TAG, InvalidName, parse_name

EVERY_MODEL = "*"


def digest_of(secret: bytes) -> str:
    """What is kept of a key or a token. A plain hash will do, for both are long and random: there is nothing to guess."""
    return hashlib.sha256(secret).hexdigest()


def may_use(key: Key | None, model: str) -> bool:
    """Whether a key opens a model, given by any spelling of its name; without a key, and for a key without patterns, all are open.

    A name that is none is closed: what it would mean is not known.
    """
    return key is None or not key.models or any(matches(shape, model) for shape in key.models)


def matches(shape: str, model: str) -> bool:
    """Whether a pattern means a model: it is held against the name as `ollama list` shows it, whatever the case.

    `tiny` is `tiny:latest`, as everywhere. A pattern without "/" means models of Ollama's library alone: llama* shall not
    open llamafan/anything. Only `*` by itself is every model. With the registry in front it is held against the full name.
    """
    try:
        name = parse_name(model)
    except InvalidName:
        return False
    if shape == EVERY_MODEL:
        return True
    shape = shape.lower()
    if shape.startswith(f"{DEFAULT_HOST}/"):
        shown = name.key
    else:
        shown = str(name).lower()
        if shape.count("/") != shown.count("/"):
            return False
    return fnmatchcase(shown, shape) or fnmatchcase(shown.removesuffix(f":{DEFAULT_TAG}"), shape)
