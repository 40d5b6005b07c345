"""A request and its answer as they are on the wire: sent byte for byte as a table says, read with its chunks told apart."""

import json
import socket
from dataclasses import dataclass, field
from typing import Any

import zstandard

TIMEOUT = 60.0


@dataclass(frozen=True)
class Request:
    """One row of a table. `body`: bytes and text go as they are, anything else as JSON; None sends no body and no length."""

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False  # the body, without a Content-Length
    zstd: bool = False
    http: str = "1.1"

    def __str__(self) -> str:
        shown = self.body if isinstance(self.body, str) else json.dumps(self.body, default=repr)
        how = f"{' chunked' * self.chunked}{' zstd' * self.zstd}{' http/1.0' * (self.http == '1.0')}"
        return f"{self.method} {self.path} {shown[:100]}{how} {self.headers or ''}".strip()

    def content(self) -> bytes | None:
        if self.body is None or isinstance(self.body, bytes):
            content = self.body
        else:
            content = (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()
        return zstandard.compress(content) if self.zstd and content is not None else content

    def wire(self, port: int) -> bytes:
        content = self.content()
        headers = {"Host": f"127.0.0.1:{port}", **self.headers}
        if self.zstd:
            headers["Content-Encoding"] = "zstd"
        if content is not None:
            headers |= {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(len(content))}
        lines = [f"{self.method} {self.path} HTTP/{self.http}", *(f"{key}: {value}" for key, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (_in_chunks(content) if self.chunked else content or b"")


def _in_chunks(content: bytes | None) -> bytes:
    """The content in three chunks or less, as no two clients cut it alike."""
    third = max(1, len(content or b"") // 3)
    pieces = [(content or b"")[at : at + third] for at in range(0, len(content or b""), third)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Raw:
    """An answer as it came; `chunks` is the body as it was cut, one piece where it was not."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    framing: str  # "length", "chunked", "close", "none", or "cut" where it has no end

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


NO_ANSWER = Raw(0, (), (), "none")


def ask(port: int, request: Request) -> Raw:
    """Sends the request on a connection of its own; NO_ANSWER where the server closes without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(request.wire(port))
        stream = connection.makefile("rb")
        status = 100
        while status == 100:
            line = stream.readline()
            if not line:
                return NO_ANSWER
            status = int(line.split()[1])
            headers = tuple(_headers(stream))
        return _body(stream, request, status, headers)


def _headers(stream: Any) -> Any:
    while (line := stream.readline().rstrip(b"\r\n")) != b"":
        key, _, value = line.decode("latin-1").partition(":")
        yield key.strip().lower(), value.strip()


def _body(stream: Any, request: Request, status: int, headers: tuple[tuple[str, str], ...]) -> Raw:
    fields = dict(headers)
    if request.method == "HEAD" or status in {204, 304}:
        return Raw(status, headers, (), "length" if "content-length" in fields else "none")
    if fields.get("transfer-encoding") == "chunked":
        chunks = []
        while (line := stream.readline()) and (size := int(line, 16)):
            chunks.append(stream.read(size))
            assert stream.readline() == b"\r\n"
        if not line:
            return Raw(status, headers, tuple(chunks), "cut")
        return Raw(status, headers, tuple(chunks), "chunked")
    if "content-length" in fields:
        body = stream.read(int(fields["content-length"]))
        assert len(body) == int(fields["content-length"]), "the answer ended early"
        return Raw(status, headers, (body,) if body else (), "length")
    return Raw(status, headers, (stream.read(),), "close")
