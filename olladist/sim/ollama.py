"""`python -m olladist.sim.ollama serve`: an Ollama on the wire and on disk, without the model behind it.

OLLAMA_* mean what they mean to Ollama; SIM_TOKENS_PER_SECOND, SIM_LOAD_RATE (bytes a second), SIM_NAME and SIM_VERSION are its own.
"""

import contextlib
import http.client
import json
import signal
import socket
import sys
import time
from pathlib import Path

from olladist.sim.settings import Settings, from_environment

_USAGE = """Usage:
  ollama serve      start the (simulated) server
  ollama --version  show version information
"""


def main(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-v"]):
        return _show_version(from_environment())
    if arguments in (["serve"], ["start"]):
        return _serve(from_environment())
    sys.stderr.write(_USAGE)
    return 0 if arguments in ([], ["--help"], ["-h"], ["help"]) else 1


def _show_version(settings: Settings) -> int:
    """As cmd.go's versionHandler: the server's version, and the client's own where that differs or is alone."""
    running = ""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104  any is not an address to call
    connection = http.client.HTTPConnection(host, settings.port, timeout=5)
    try:
        connection.request("GET", "/api/version")
        running = json.loads(connection.getresponse().read())["version"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        print("Warning: could not connect to a running Ollama instance")  # noqa: T201  as Ollama
    finally:
        connection.close()
    if running:
        print(f"ollama version is {running}")  # noqa: T201  as Ollama
    if running != settings.version:
        print(f"Warning: client version is {settings.version}")  # noqa: T201  as Ollama
    return 0


def log(source: str, message: str) -> None:
    moment = time.time()
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
    print(f'time={when} level=INFO source={source} msg="{message}"', file=sys.stderr, flush=True)  # noqa: T201  the log


def _serve(settings: Settings) -> int:
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        sys.stderr.write(f"Error: listen tcp {settings.host}:{settings.port}: bind: {reason}\n")
        return 1
    run(settings, listener)
    return 0


def run(settings: Settings, listener: socket.socket) -> None:
    """Serves on a bound socket until SIGINT or SIGTERM, which close every connection at once, as Ollama does."""
    # Imported late: `ollama --version` is asked for often and needs none of it.
    import asyncio  # noqa: PLC0415

    import uvicorn  # noqa: PLC0415

    from olladist.sim.inference import Server  # noqa: PLC0415
    from olladist.sim.runners import Runners  # noqa: PLC0415
    from olladist.sim.server import App  # noqa: PLC0415
    from olladist.sim.store import Store  # noqa: PLC0415

    # uvicorn raises the signal that ended it again when it is done; Ollama ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with contextlib.suppress(OSError):  # not on Linux
        Path("/proc/self/comm").write_text("ollama")  # ps, pgrep and olladist's own facts know a server by this
    store = Store(settings.models)
    if settings.prune:
        log("images.go:480", f"total unused blobs removed: {store.prune()}")
    host, port = listener.getsockname()[:2]
    log("routes.go:1729", f"Listening on {host}:{port} (version {settings.version}, simulated)")
    app = App(Server(settings, store, Runners(settings)), loopback=host in {"127.0.0.1", "::1"})
    config = uvicorn.Config(
        app,
        lifespan="off",
        interface="asgi3",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=3600,  # Go's server keeps idle connections for ever
        timeout_graceful_shutdown=0,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
