"""`python -m olladist.sim.sshd`: SSH servers for throw-away hosts where no OpenSSH sshd can run unprivileged.

Reads hosts as JSON lines on stdin (the keys are those of `Spec`), an empty line ends them; prints a line "NAME PID" for each when
it listens; ends, and every server with it, when stdin does. Each server is a process of its own, forked after the imports, so that
killing it is pulling the plug of one host, and fifty take no more time to start than one takes to import asyncssh.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh


@dataclass(frozen=True, slots=True)
class Spec:
    """One server: where it listens, its keys (files), and the environment of what is run on it; HOME is among it."""

    name: str
    port: int
    host_key: str
    authorized_keys: str
    environ: Mapping[str, str]


class _Server(asyncssh.SSHServer):
    """Takes the keys of authorized_keys, and forwards to the loopback only."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return dest_host in {"127.0.0.1", "localhost", "::1"}


async def run_command(process: asyncssh.SSHServerProcess[bytes], spec: Spec) -> None:
    """A command of a client, or a shell; as with sshd it has ended when its output has, and outlives a cut connection."""
    words = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    child = await asyncio.create_subprocess_exec(
        *words,
        env=dict(spec.environ),
        start_new_session=True,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None  # noqa: S101  asked for as pipes
    assert child.stdout is not None  # noqa: S101
    assert child.stderr is not None  # noqa: S101
    feeding = asyncio.ensure_future(_feed(process.stdin, child.stdin, child.pid))
    output = asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
    left = asyncio.ensure_future(process.channel.wait_closed())
    both: set[asyncio.Future[Any]] = {output, left}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            status = await child.wait()
            if status < 0:
                process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                process.exit(status)
    finally:
        feeding.cancel()
        output.cancel()
        left.cancel()
        child.stdin.close()
        await asyncio.gather(feeding, output, left, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(OSError):  # the client has left
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter, group: int) -> None:
    """What the client sends goes to the command, its signals to the command's group."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            try:
                data = await source.read(1 << 16)
            except asyncssh.SignalReceived as received:
                os.killpg(group, int(getattr(signal, f"SIG{received.signal}", signal.SIGTERM)))
                continue
            if not data:
                break
            target.write(data)
            await target.drain()
    target.close()


async def serve(spec: Spec, ready: int) -> None:
    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await run_command(process, spec)

    await asyncssh.listen(
        "127.0.0.1",
        spec.port,
        server_factory=_Server,
        server_host_keys=[spec.host_key],
        authorized_client_keys=spec.authorized_keys,
        process_factory=handle,
        sftp_factory=True,
        encoding=None,
        password_auth=False,
        kbdint_auth=False,
        agent_forwarding=False,
    )
    os.write(ready, f"{spec.name} {os.getpid()}\n".encode())
    os.close(ready)
    await asyncio.Event().wait()


def _start(spec: Spec, ready: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(spec.environ["HOME"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            asyncio.run(serve(spec, ready))
        finally:
            os._exit(1)
    return pid


def main() -> int:
    specs = []
    while line := sys.stdin.readline().strip():
        specs.append(Spec(**json.loads(line)))
    children = [_start(spec, 1) for spec in specs]
    os.close(1)
    while sys.stdin.read(4096):
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    return 0


def keygen(path: Path) -> None:
    """A new ed25519 key pair at `path` and `path`.pub."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment="olladist throw-away host")
    key.write_private_key(path)
    path.chmod(0o600)
    key.write_public_key(path.with_name(path.name + ".pub"))


if __name__ == "__main__":
    sys.exit(main())
