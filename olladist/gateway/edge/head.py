"""Heads of requests and responses: read strictly, written anew. Pure: bytes in, values and bytes out.

Nothing of a request's framing is ever passed on. Ollama (Go) answers two requests where it is sent Content-Length with
Transfer-Encoding, a folded line or a bare LF; so what is not beyond doubt is refused here, and what goes to a
backend carries a length of our own.
"""

import re
from collections.abc import Container, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

# RFC 9110 §5.6.2 token, §5.5 field-value: all but control characters, the tab allowed. RFC 9112 §5.2 obs-fold cannot match:
# each line begins with a name.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# What is repeated is atomic, for a possessive group is not safe in every CPython 3.11 (ollama/gojson.py).
_FIELDS: Final = re.compile(rb"(?>" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n")
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n")
# What makes a head wrong however it goes on: control characters, CR without LF, LF without CR.
_HOPELESS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]|(?<!\r)\n")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
# Go answers these with 400 before anything looks at them (golang.org/x/net/http/httpguts ValidHostHeader; net/url).
_HOST: Final = re.compile(rb"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]*+")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

CHUNKED: Final = -1

# RFC 9110 §7.6.1, the framing that is ours to write, and what is an agreement with us alone.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"content-length",
        b"expect",
        b"host",
    }
)
# Ollama refuses foreign origins with 403: that is judged by the gateway. What a client shows to the gateway to be let in is
# nobody else's business.
_NOT_FOR_BACKENDS: Final = _HOP_BY_HOP | {b"origin", b"referer", b"authorization", b"x-api-key", b"cookie"}
# Who asks is said to the control process in a field of our own, and never as the client has said it.
_OURS: Final = b"x-olladist-"
_NOT_FOR_CONTROL: Final = _HOP_BY_HOP | {b"x-forwarded-for", b"x-api-key", b"authorization"}
_DROPPED_FROM_RESPONSES: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
        b"te",
    }
)


class Refused(Exception):
    """A request that is answered with `status` before anything of it is passed on; the connection ends with it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """`lines` are (name in lower case, whole line) without line ends, all framing and hop-by-hop fields still among them."""

    method: bytes
    target: bytes  # origin-form, or "*"
    path: str  # without its query, percent-escapes as they came
    minor: int  # of HTTP/1.x
    lines: list[tuple[bytes, bytes]]
    length: int  # of the body; CHUNKED where only its end tells
    keep_alive: bool
    expects: bool  # 100-continue
    special: dict[bytes, bytes]  # values of the fields that steer us, by their names in lower case; see _SPECIAL
    named: frozenset[bytes]  # what Connection makes hop-by-hop besides the usual


def is_hopeless(start: bytes, looked_at: int = 0) -> bool:
    """True for the start of a head that can never become one; a CR at its very end is left open.

    The first `looked_at` bytes were found to be good before.
    """
    return _HOPELESS.search(start, max(0, looked_at - 1)) is not None


def read_request(raw: bytes) -> RequestHead:
    """Reads a whole head, its empty line included. Raises Refused."""
    first = _REQUEST_LINE.match(raw)
    if first is None:
        raise Refused(400, "malformed request line")
    method, target, major, minor = first.groups()
    if major != b"1" or minor not in b"01":
        raise Refused(505, "this server speaks HTTP/1.1")
    if _FIELDS.fullmatch(raw, first.end()) is None:
        raise Refused(400, "malformed header")
    # Without any field the empty line is all there is, and the slice is empty too.
    block = raw[first.end() : -4]
    lines = [(line.partition(b":")[0].lower(), line) for line in block.split(b"\r\n")] if block else []
    special = _special(lines)
    modern = minor == b"1"
    host = special.get(b"host")
    if host is None and modern:
        raise Refused(400, "missing required Host header")
    if host and _HOST.fullmatch(host) is None:
        raise Refused(400, "malformed Host header")
    options = _tokens(special[b"connection"]) if b"connection" in special else _NONE
    target, path = _read_target(method, target)
    return RequestHead(
        method=method,
        target=target,
        path=path,
        minor=int(modern),
        lines=lines,
        length=_body_length(special, modern=modern),
        keep_alive=modern and b"close" not in options,
        expects=modern and b"expect" in special,
        special=special,
        named=options,
    )


_NONE: Final[frozenset[bytes]] = frozenset()
_ONCE: Final = (b"host", b"content-length", b"transfer-encoding", b"expect", b"origin", b"authorization", b"x-api-key")
_SPECIAL: Final = frozenset({*_ONCE, b"connection"})


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t")


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token for part in value.split(b",") if (token := part.strip(b" \t").lower()))


def _special(lines: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The values that steer us. RFC 9112 §3.2: one Host; §6.3: one Content-Length, and two equal ones are refused too.

    Two origins or two keys are refused as well: one of them would be judged and maybe the other one meant.

    Connection alone may stand several times; its values make one list (RFC 9110 §5.3).
    """
    found = [(name, line) for name, line in lines if name in _SPECIAL]
    special = {name: _value(line) for name, line in found}
    if len(special) != len(found):
        names = [name for name, _ in found]
        for name in _ONCE:
            if names.count(name) > 1:
                raise Refused(400, f"more than one {name.decode()} header")
        special[b"connection"] = b",".join(_value(line) for name, line in found if name == b"connection")
    if b"expect" in special and special[b"expect"].lower() != b"100-continue":
        raise Refused(417, "only 100-continue can be expected")
    return special


def _body_length(special: dict[bytes, bytes], *, modern: bool) -> int:
    length = special.get(b"content-length")
    coding = special.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or not modern:
            # RFC 9112 §6.1: "ought to be handled as an error", for it is how requests are smuggled.
            raise Refused(400, "Transfer-Encoding with Content-Length or HTTP/1.0")
        if coding.lower() != b"chunked":
            raise Refused(501, "the only transfer coding known here is chunked")
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:  # 10**18 - 1 fits into 64 bits
        raise Refused(400, "malformed Content-Length")
    return int(length)


def _read_target(method: bytes, target: bytes) -> tuple[bytes, str]:
    """Origin-form and path. RFC 9112 §3.2.2: a server must take the absolute form too."""
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute:
            target = target[absolute.end() :]
            target = target if target.startswith(b"/") else b"/" + target
        elif not (target == b"*" and method == b"OPTIONS"):
            raise Refused(400, "malformed request target")
    path = target.partition(b"?")[0].decode("ascii")
    if "%" in path and _BAD_ESCAPE.search(path):
        raise Refused(400, "malformed request target")
    return target, path


def backend_head(head: RequestHead) -> tuple[bytes, bytes]:
    """The head of a request to an Ollama: what stands before the length of its body, and after.

    Host is what an Ollama on loopback takes (server/routes.go allowedHostsMiddleware), whatever way leads to it.
    """
    first = b"%b %b HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nContent-Length: " % (head.method, head.target)
    return first, b"\r\n" + _block(head.lines, _NOT_FOR_BACKENDS, head.named)


_METHODS = frozenset(b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT".split())


def for_control(head: RequestHead, client: str, key: str = "", *, admin: bool = False) -> bytes:
    """The head of a request to the control process: its framing as ours, the client's address and the name of its key added.

    Only what may hold the admin token (`admin`) keeps its Authorization; no user's key leaves the worker. One connection
    serves one request, so that none has gone stale when an upload begins.
    """
    # The application's parser knows no methods but those, and cuts "#" off: for Ollama one that no route takes is as good as
    # another, and "#" is a part of the path.
    method = head.method if head.method in _METHODS else b"TRACE"
    lines = [b"%b %b HTTP/1.1" % (method, head.target.replace(b"#", b"%23"))]
    lines += [line for name, line in head.lines if name == b"host"] or [b"Host: olladist"]
    if head.length == CHUNKED:
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length or b"content-length" in head.special:
        lines.append(b"Content-Length: %d" % head.length)
    if admin:
        lines += [line for name, line in head.lines if name == b"authorization"]
    if key:
        lines.append(b"X-Olladist-Key: " + key.encode("latin-1", "replace"))
    known = [_value(line) for name, line in head.lines if name == b"x-forwarded-for"]
    lines.append(b"X-Forwarded-For: " + b", ".join([*known, client.encode("latin-1", "replace")]))
    lines.append(b"Connection: close\r\n")
    kept = [(name, line) for name, line in head.lines if not name.startswith(_OURS)]
    return b"\r\n".join(lines) + _block(kept, _NOT_FOR_CONTROL, head.named)


def _block(lines: Iterable[tuple[bytes, bytes]], dropped: Container[bytes], named: Container[bytes]) -> bytes:
    kept = [line for name, line in lines if name not in dropped and name not in named]
    kept.append(b"\r\n")
    return b"\r\n".join(kept)


UNTIL_CLOSE: Final = -2

# (name in lower case, name, value)
Field: TypeAlias = tuple[bytes, bytes, bytes]


def response_framing(status: int, fields: Iterable[Field]) -> int:
    """Where the body of a response ends (RFC 9112 §6.3): its length, CHUNKED or UNTIL_CLOSE; HEAD is the caller's business.

    Lengths that contradict each other, or the chunks, have been refused by the parser. Raises ValueError for a coding that no
    client of ours has asked for.
    """
    framing = UNTIL_CLOSE
    for lower, _, value in fields:
        if lower == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise ValueError(f"a transfer coding {value.decode('latin-1')!r}")
            framing = CHUNKED
        elif lower == b"content-length":
            framing = int(value)
    return 0 if status in {204, 304} else framing


# Which origins may read an answer is ours to say.
_JUDGED_HERE: Final = b"access-control-"


def for_client(
    status: int, reason: bytes, fields: Sequence[Field], added: bytes, *, chunked: bool, close: bool
) -> bytes:
    """The head of a response as the client gets it: `added` are whole lines of ours, and win over equal names from the backend.

    Content-Length passes; Transfer-Encoding is ours to say again where the chunks themselves pass (`chunked`).
    """
    parts = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    for lower, name, value in fields:
        if lower in _DROPPED_FROM_RESPONSES:
            if lower == b"connection" and (named := _tokens(value) - _HOP_BY_HOP):
                rest = [field for field in fields if field[0] not in named and field != (lower, name, value)]
                return for_client(status, reason, rest, added, chunked=chunked, close=close)
        elif not (lower.startswith(_JUDGED_HERE) or (lower.startswith(b"x-ollama-") and lower + b":" in added.lower())):
            parts.append(b"%b: %b\r\n" % (name, value))
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    parts.append(added)
    parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
    return b"".join(parts)
