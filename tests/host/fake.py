"""A program that behaves as `ollama` for whoever installs and starts it, packed as a release tarball."""

import io
import sys
import tarfile
from pathlib import Path

import zstandard

from olladist.host.tarball import Form

# GET /api/version as Ollama answers it; POST /crash ends the process as a bug would. FAKE_FAIL in its environment is a
# setting that it cannot start with, FAKE_CHILD a runner that it starts.
PROGRAM = """#!{python} -IS
import http.server, os, socketserver, subprocess, sys
VERSION = {version!r}
if "--version" in sys.argv:
    sys.exit(print("Warning: could not connect to a running Ollama instance\\nWarning: client version is", VERSION))
if os.environ.get("FAKE_FAIL"):
    sys.exit("Error: " + os.environ["FAKE_FAIL"])
if os.environ.get("FAKE_CHILD"):
    subprocess.Popen(["sleep", "1000"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(('{{"version":"%s"}}' % VERSION).encode())
    def do_POST(self):
        os._exit(1)
    def log_message(self, *words):
        print("GIN", self.path, flush=True)
socketserver.TCPServer.allow_reuse_address = True
host, port = os.environ["OLLAMA_HOST"].split(":")
print("Listening on", os.environ["OLLAMA_HOST"], flush=True)
socketserver.TCPServer((host, int(port)), Handler).serve_forever()
"""


def release(
    path: Path, *, version: str = "0.0.7", form: Form = Form.ZSTD, filler: bytes = b"", python: str = sys.executable
) -> Path:
    """Writes a release tarball of the fake; `filler` is its one library, `python` what its program is run by."""
    buffer = io.BytesIO()
    program = PROGRAM.format(python=python, version=version).encode()
    with tarfile.open(fileobj=buffer, mode="w:gz" if form is Form.GZIP else "w") as archive:
        for name, data in (("bin/ollama", program), ("lib/ollama/libfake.so", filler)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    whole = buffer.getvalue()
    path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(whole) if form is Form.ZSTD else whole)
    return path
