"""How a command becomes root on a host: by login, by sudo without or with a password, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, get_args

from olladist.errors import SudoRefused
from olladist.ssh.prompts import Prompts
from olladist.ssh.words import quote

SudoMode = Literal["root", "passwordless", "password", "none"]

# -k: what somebody typed a minute ago is no permission that will last, so a cached password does not count.
# /bin/sh and not `true`: sudoers may allow single commands, and /bin/sh is the one we will ask for.
PROBE = """\
user=$(id -un 2>/dev/null || id -u)
if [ "$(id -u)" = 0 ]; then echo "root $user"
elif ! command -v sudo >/dev/null 2>&1; then echo "none $user"
elif sudo -k -n -- /bin/sh -c : </dev/null >/dev/null 2>&1; then echo "passwordless $user"
else echo "password $user"; fi
"""

# LC_ALL=C: we read what sudo says. -k: it asks every time, so that the first line of stdin is always its password.
_PREFIX: dict[SudoMode, tuple[str, ...]] = {
    "root": (),
    "passwordless": ("env", "LC_ALL=C", "sudo", "-n", "-H", "--"),
    "password": ("env", "LC_ALL=C", "sudo", "-k", "-S", "-p", "", "-H", "--"),
}


def command(script: str, mode: SudoMode | None) -> tuple[str, ...]:
    """The words that run `script`; None is without root."""
    return (*(_PREFIX[mode] if mode else ()), "/bin/sh", "-c", script)


def parse_probe(text: str) -> tuple[SudoMode, str]:
    """Mode and user name of the PROBE's answer; anything else means that there is no sudo."""
    words = text.split()
    for mode in get_args(SudoMode):
        if words[:1] == [mode]:
            return mode, words[1] if len(words) > 1 else "the user"
    return "none", "the user"


def refused(host: str, user: str, during: str, said: str) -> SudoRefused:
    """SudoRefused with what to run on the host, by what sudo (or nobody) said."""
    allow = f"echo {quote(f'{user} ALL=(ALL) NOPASSWD: ALL')} >/etc/sudoers.d/olladist"
    if "must have a tty" in said:
        allow = f"echo {quote(f'Defaults:{user} !requiretty')} >/etc/sudoers.d/olladist"
    if said == "sudo is not installed":
        allow = f"apt-get install sudo && {allow}"
    cause = f"{user} cannot become root: {said}"
    hint = f'on {host}, as root: {allow}; or set `user = "root"` for it; or `service = "user"`, which needs no root'
    return SudoRefused(host, during, cause, hint=hint)


class SudoPassword:
    """The sudo passwords of a run: each user's is asked once, then used on every host where that is the user."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._lock = asyncio.Lock()
        self._passwords: dict[str, str] = {}
        self._declined: set[str] = set()

    async def accepted(self, host: str, user: str, during: str, attempt: Callable[[str], Awaitable[str]]) -> str:
        """A password that `attempt` takes: it returns "" or what sudo said against it. SudoRefused where there is none."""
        async with self._lock:
            password = self._passwords.get(user)
            if password is None:
                password = self._passwords[user] = await self._ask(host, user, during, attempt)
                return password
        if said := await attempt(password):
            raise refused(host, user, during, f"the sudo password of the other hosts is not taken here ({said})")
        return password

    async def _ask(self, host: str, user: str, during: str, attempt: Callable[[str], Awaitable[str]]) -> str:
        said = "sudo asks for a password and none was given"
        for _ in range(3):
            password = None if user in self._declined else await self._prompts.secret(host, f"sudo password of {user}")
            if not password:
                self._declined.add(user)
                break
            said = await attempt(password)
            if not said:
                return password
            if "incorrect password" not in said:
                break
        raise refused(host, user, during, said)
