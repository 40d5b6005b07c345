"""Who is let in: what each request must pass before anything is done for it, in the order in which Ollama judges. Pure.

ServeMux cleans the path, gin trims it, CORS and Host are judged, and only then is a key looked at: a browser sends no key
with the request that asks whether it may.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from olladist.gateway.edge.head import RequestHead
from olladist.gateway.edge.keys import Denied, by_digest, denial, identify, is_open, take_prefix
from olladist.gateway.edge.origins import Hosts, Origins, is_foreign
from olladist.gateway.edge.paths import Moved, moved
from olladist.gateway.lease import Access, Key
from olladist.ollama.framing import error_body, error_content_type
from olladist.ollama.routes import Dialect, allowed_methods, find

STARTING: Final = "the gateway is starting, please try again"


@dataclass(frozen=True, slots=True)
class Turned:
    """A whole answer to a request that goes no further; `fields` are header lines, `counted` is one of lease.COUNTED."""

    status: int
    fields: bytes = b""
    body: bytes = b""
    counted: str = ""

    def render(self, added: bytes, *, close: bool, bodiless: bool) -> bytes:
        length = b"" if self.status == 204 or bodiless else b"Content-Length: %d\r\n" % len(self.body)
        phrase = HTTPStatus(self.status).phrase.encode()
        ending = b"Connection: close\r\n\r\n" if close else b"\r\n"
        head = b"HTTP/1.1 %d %b\r\n%b%b%b%b" % (self.status, phrase, self.fields, length, added, ending)
        return head if bodiless else head + self.body


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that was let in: its head without what was for the door alone, and what its answer must say to a browser."""

    head: RequestHead
    key: Key | None
    admin: bool
    cors: bytes


class Door:
    """`hosts` is None where the gateway listens beyond loopback: Ollama judges Host nowhere else."""

    def __init__(self, origins: Origins, hosts: Hosts | None, admin_digest: str = "") -> None:
        self._origins = origins
        self._hosts = hosts
        self._admin_digest = admin_digest
        self._access: Access | None = None
        self._keys: dict[str, Key] = {}

    def judge(self, head: RequestHead, access: Access | None) -> Entry | Turned:
        """`access` is what the control process has said last, None as long as it has said nothing."""
        if head.target == b"*":  # OPTIONS alone; Go's server answers it before anybody else can
            return Turned(200)
        head, in_path, prefix = take_prefix(head)
        method = head.method.decode("ascii")
        if elsewhere := moved(method, head.target.decode("ascii"), prefix):
            return _redirect(elsewhere)
        cors = b""
        origin, host = head.special.get(b"origin", b""), head.special.get(b"host", b"")
        if origin and is_foreign(origin, host):
            if not self._origins.allows(origin):
                return Turned(403, _allow(head), counted="forbidden")
            if head.method == b"OPTIONS":
                return Turned(204, _allow(head) + self._origins.preflight(origin))
            cors = self._origins.fields(origin)
        if self._hosts is not None and (turned := _judge_host(self._hosts, head, host, cors)):
            return turned
        return self._judge_key(head, in_path, access, cors)

    def _judge_key(self, head: RequestHead, in_path: bytes, access: Access | None, cors: bytes) -> Entry | Turned:
        if access is not self._access:
            self._access = access
            self._keys = by_digest(access) if access is not None else {}
        dialect = dialect_of(head.path)
        if access is None and not is_open(head):
            fields = _typed(error_content_type(dialect)) + b"Retry-After: 1\r\n" + cors
            return Turned(503, fields, error_body(dialect, 503, STARTING), "too_many")
        visitor = identify(head, in_path, self._keys, self._admin_digest)
        if isinstance(visitor, Denied):
            body, content_type = denial(dialect, visitor.text)
            return Turned(401, _typed(content_type) + b"WWW-Authenticate: Bearer\r\n" + cors, body, "unauthorized")
        return Entry(head, visitor.key, visitor.admin, cors)


def _judge_host(hosts: Hosts, head: RequestHead, host: bytes, cors: bytes) -> Turned | None:
    """allowedHostsMiddleware, its oddity included: it answers OPTIONS itself, but only under a name, not under an address."""
    text = host.decode("latin-1")
    if hosts.is_address(text):
        return None
    if not hosts.is_name(text):
        return Turned(403, _allow(head) + cors, counted="forbidden")
    return Turned(204, _allow(head) + cors) if head.method == b"OPTIONS" else None


def _redirect(to: Moved) -> Turned:
    fields = _typed(to.content_type) if to.content_type else b""
    return Turned(to.status, fields + b"Location: %b\r\n" % to.location.encode("ascii", "replace"), to.body)


def _allow(head: RequestHead) -> bytes:
    """Gin has set it already when the middlewares judge a request that no route takes."""
    methods = () if find(head.method.decode("ascii"), head.path) else allowed_methods(head.path)
    return b"Allow: %b\r\n" % ", ".join(methods).encode() if methods else b""


def _typed(content_type: str) -> bytes:
    return b"Content-Type: %b\r\n" % content_type.encode()


def dialect_of(path: str) -> Dialect:
    if path.startswith("/v1/"):
        return Dialect.ANTHROPIC if path == "/v1/messages" else Dialect.OPENAI
    return Dialect.OLLAMA
