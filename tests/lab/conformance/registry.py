"""A registry of models on the loopback: Debian's docker-registry behind a front that redirects downloads, as ollama.com's does.

Ollama takes a blob only from a place that it was redirected to, on another host name; so the front is on 127.0.0.1 and
sends to the registry itself on 127.0.0.2.
"""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from olladist.sim.hosts import free_ports
from tests.lab.conformance.servers import environ, running
from tests.lab.waiting import wait_until

_BEHIND = "127.0.0.2"
_CONFIG = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/storage}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
"""
# A matter of each connection; http.server and http.client write their own.
_OWN = frozenset({"connection", "transfer-encoding", "date", "server", "host"})


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port = 0  # of the registry behind it

    def do_GET(self) -> None:
        if "/blobs/sha256:" in self.path:
            self.send_response(307)
            self.send_header("Location", f"http://{_BEHIND}:{self.port}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        body = self._body()
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _OWN}
        with closing(http.client.HTTPConnection(_BEHIND, self.port, timeout=30)) as behind:
            behind.request(self.command, self.path, body, {**headers, "Host": self.headers["Host"]})
            answer = behind.getresponse()
            content = answer.read()
        with suppress(ConnectionError):  # who asked may have lost its power
            self._answer(answer, content)

    def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _OWN | {"content-length"}:
                self.send_header(key, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815  the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in http.server
        """Silent: what goes wrong shows in the answers."""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """An empty registry; yields its HOST:PORT, which goes before a model's name, with http:// before that."""
    folder.mkdir()
    behind, _ = free_ports(2)
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder, address=f"{_BEHIND}:{behind}"))
    with running(["docker-registry", "serve", str(config)], folder / "registry.log", environ(folder)) as process:
        wait_until(lambda: _listens(behind) or process.poll() is not None, "a registry that listens")
        assert process.poll() is None, (folder / "registry.log").read_text()
        front = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"port": behind}))
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"127.0.0.1:{front.server_port}"
        finally:
            front.shutdown()
            front.server_close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_BEHIND, port)) == 0
