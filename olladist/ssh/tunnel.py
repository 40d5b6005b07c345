"""A unix socket here that leads to a port of a host's loopback, and is opened again whenever it dies."""

import asyncio
import random
from pathlib import Path

from olladist.errors import HostError
from olladist.inventory.model import Host
from olladist.ssh import local
from olladist.ssh.connections import Connections
from olladist.ssh.forward import forwarded
from olladist.ssh.login import Link
from olladist.ssh.openssh import NotForOpenSSH
from olladist.ssh.process import Output
from olladist.ssh.remote import must_forward
from olladist.ssh.words import login_command

# A dead link is noticed after 5 s * (2 + 1): a gateway has requests waiting on it.
_ALIVE = (5, 2)


def pause_after(failures: int, chance: float) -> float:
    """Seconds until the next try: 0.5 s, doubled with each failure up to 10 s, less up to half of it by `chance` in [0, 1)."""
    return min(10.0, 0.5 * 2.0 ** min(failures, 10)) * (1 - chance / 2)


class Tunnel:
    """`path` (0600, in a directory that must be ours alone) leads to 127.0.0.1:`port` of the host while `up` is true.

    The bytes go through a process of OpenSSH's `ssh` where there is one, through asyncssh in our own otherwise.
    """

    def __init__(self, connections: Connections, host: Host, port: int, path: Path) -> None:
        self._connections = connections
        self._host = host
        self._port = port
        self._path = path
        self._failures = 0
        self.up = False
        self.problem = "not open yet"  # why it is not up, with the next step; "" while it is

    async def run(self) -> None:
        """Keeps the tunnel open until it is cancelled; then nothing of it is left."""
        try:
            while True:
                try:
                    await self._hold()
                except HostError as error:
                    self._set_down(error.message + (f" (hint: {error.hint})" if error.hint else ""))
                await asyncio.sleep(pause_after(self._failures, random.random()))  # noqa: S311
                self._failures += 1
        finally:
            self._set_down("closed")
            self._path.unlink(missing_ok=True)

    async def _hold(self) -> None:
        """Opens it once and returns when it has died, `problem` saying why."""
        link = await self._connections.link(self._host)
        try:
            await must_forward(self._host.name, link, self._port, f"opening a tunnel to port {self._port}")
            if not await self._by_openssh(link):
                await self._by_asyncssh(link)
        finally:
            await link.close()

    async def _by_openssh(self, link: Link) -> bool:
        """Until its end; False where `ssh` did not get in.

        The host's end is a `cat` on our pipe: if we are killed, the pipe closes, `cat` ends, and `ssh` ends when the last
        stream through it has. So nothing stays behind, and no stream is cut because we crashed.
        """
        output = Output()
        forward = f"{self._path}:127.0.0.1:{self._port}"
        script = output.prelude("exec cat >/dev/null")
        try:
            argv = self._connections.ways.openssh.command(link, "-L", forward, alive=_ALIVE)
        except NotForOpenSSH:
            return False
        try:
            async with self._connections.ways.starting(link):
                await local.start((*argv, login_command("/bin/sh", "-c", script)), output)
                await output.started()
            if output.group is None:
                return False
            await link.close()  # it has shown that the keys are right; the bytes go another way
            self._set_up()
            status = await output.status()
            said = " ".join(output.texts()[1].split())
            self._set_down(
                f"{self._host.name}: the tunnel to port {self._port} broke: {said or f'ssh ended ({status})'}"
            )
        except OSError:
            return False
        finally:
            await asyncio.shield(local.stop(output))
        return True

    async def _by_asyncssh(self, link: Link) -> None:
        link.connection.set_keepalive(*_ALIVE)
        async with forwarded(link.connection, self._port, self._path):
            self._set_up()
            await link.connection.wait_closed()
        self._set_down(f"{self._host.name}: the tunnel to port {self._port} broke: the connection was lost")

    def _set_up(self) -> None:
        self.up, self.problem, self._failures = True, "", 0

    def _set_down(self, problem: str) -> None:
        self.up, self.problem = False, problem
