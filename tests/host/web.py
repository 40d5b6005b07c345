"""A web server on loopback that a test decides the answers of."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """Files by path, and what was asked. `cut_after` breaks that many answers off in the middle."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range
    ranges: bool = True
    etag: str = '"1"'
    cut: int = 0
    url: str = ""

    def requests(self, path: str) -> list[str]:
        return [wanted for asked, wanted in self.asked if asked == path]


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            path = self.path.partition("?")[0]
            web.asked.append((path, wanted))
            if path in web.redirects:
                self.answer(302, b"", Location=web.redirects[path])
            elif (body := web.files.get(path)) is None:
                self.answer(404, b"no such file")
            elif wanted and web.ranges and self.headers.get("If-Range", web.etag) == web.etag:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or len(body)), len(body) - 1)
                if start >= len(body):
                    self.answer(416, b"")
                else:
                    span = {"Content-Range": f"bytes {start}-{end}/{len(body)}", "ETag": web.etag}
                    self.answer(206, body[start : end + 1], **span)
            else:
                self.answer(200, body, ETag=web.etag)

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if web.cut and len(body) > 1000:
                web.cut -= 1
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    return Handler


@contextmanager
def serving(handler: Callable[[Web], type[BaseHTTPRequestHandler]] = _handler) -> Iterator[Web]:
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(web))
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
