"""API keys: where a request shows one, and whose it is. Pure; nothing here keeps or says a key."""

from collections.abc import Mapping
from hmac import compare_digest
from typing import Final, NamedTuple

import msgspec

from olladist.gateway.access import digest_of
from olladist.gateway.edge.head import RequestHead
from olladist.gateway.lease import Access, Key
from olladist.ollama.framing import encode, error_body, error_content_type
from olladist.ollama.routes import Dialect

# The ollama CLI sends no Authorization to anybody but ollama.com, but it keeps a path in OLLAMA_HOST.
PREFIX: Final = "/key/"

# Who lives, and who is ready: `ollama` asks HEAD / before everything, load balancers ask the others.
_ALWAYS_OPEN: Final = frozenset({"/", "/healthz", "/readyz"})
# The control process checks the admin token itself; no key of a user opens these.
_ADMIN: Final = ("/admin/", "/dashboard/")
_ADMIN_EXACT: Final = frozenset({"/admin", "/dashboard", "/metrics"})

MISSING: Final = "an API key is needed: send it as Authorization: Bearer KEY or X-Api-Key: KEY, or give the address as http://HOST:PORT/key/KEY"
UNKNOWN: Final = "this API key is not known"


class Visitor(NamedTuple):
    """`key` is None for whom none is asked of; `admin`: the request may hold the admin token, for the control process to check."""

    key: Key | None = None
    admin: bool = False


class Denied(NamedTuple):
    text: str


def by_digest(access: Access) -> dict[str, Key]:
    return {key.digest: key for key in access.keys}


def take_prefix(head: RequestHead) -> tuple[RequestHead, bytes, str]:
    """The head without "/key/KEY" before its path, the key, and what was taken away; (head, b"", "") where nothing was."""
    if not head.path.startswith(PREFIX):
        return head, b"", ""
    secret, slash, path = head.path[len(PREFIX) :].partition("/")
    prefix = PREFIX + secret
    target = head.target[len(prefix) :]
    if not slash:
        target = b"/" + target
    return msgspec.structs.replace(head, target=target, path="/" + path), secret.encode(), prefix


def identify(head: RequestHead, in_path: bytes, keys: Mapping[str, Key], admin_digest: str) -> Visitor | Denied:
    """Who asks. Where there are no keys nobody has to show one.

    A digest is looked up, not compared: how long that takes says something of digests, and nothing of keys.
    """
    shown = [secret for secret in (in_path, _bearer(head), head.special.get(b"x-api-key", b"")) if secret]
    admin = is_administration(head.path) or _is_admin(_bearer(head), admin_digest)
    if not keys:
        return Visitor(None, admin)
    for secret in shown:
        key = keys.get(digest_of(secret))
        if key is not None:
            return Visitor(None if is_administration(head.path) else key, admin)
    if admin or is_open(head):
        return Visitor(None, admin)
    return Denied(UNKNOWN if shown else MISSING)


def _is_admin(secret: bytes, admin_digest: str) -> bool:
    return bool(admin_digest and secret) and compare_digest(digest_of(secret), admin_digest)


def is_open(head: RequestHead) -> bool:
    return head.path in _ALWAYS_OPEN and head.method in {b"GET", b"HEAD"}


def is_administration(path: str) -> bool:
    return path in _ADMIN_EXACT or path.startswith(_ADMIN)


def _bearer(head: RequestHead) -> bytes:
    scheme, _, secret = head.special.get(b"authorization", b"").partition(b" ")
    return secret.strip(b" \t") if scheme.lower() == b"bearer" else b""


def denial(dialect: Dialect, text: str) -> tuple[bytes, str]:
    """Body and content type of a 401, as the protocols' own servers write it.

    Ollama's client shows a 401 by its `status` (api/types.go AuthorizationError), and without one says that something went wrong.
    """
    if dialect is Dialect.OPENAI:
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        return encode({"error": error}) + b"\n", error_content_type(dialect)
    if dialect is Dialect.OLLAMA:
        return encode({"error": text, "status": text}), error_content_type(dialect)
    return error_body(dialect, 401, text), error_content_type(dialect)
