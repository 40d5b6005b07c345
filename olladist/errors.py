"""Every error a user can see: it names the host, what was being done, the cause and the next step.

OlladistError                exit 1
├── UsageError               exit 2   the command line asks for something that cannot be
│   └── InventoryError       exit 2   every problem of the file at once
├── HostError                exit 1   one host; a value in a report, never the end of the fleet
│   ├── Unreachable          exit 3 when it is true of every host: DNS, TCP, timeout
│   ├── HostKeyRefused       the key is unknown and was not accepted, or it has changed
│   ├── AuthRefused          the user or the keys
│   ├── ConnectionLost       it was there and went away in the middle of something
│   ├── SudoRefused          the command needs root and cannot have it
│   ├── CommandFailed        a command ended with a status that was not expected
│   └── StoreError           a blob with the wrong digest, no space, a damaged manifest
└── GatewayError             exit 1   the gateway cannot start or is not running
"""

from dataclasses import dataclass


class OlladistError(Exception):
    """An error with a next step; `hint` is printed on a line of its own, as `hint: …`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OlladistError):
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in an inventory file; `line` counts from 1, 0 where no line can be named."""

    line: int
    key: str
    text: str
    hint: str = ""


class InventoryError(UsageError):
    """All problems of one inventory file, in the order of their lines."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        lines = [
            f"{path}:{p.line}: {p.key + ': ' if p.key else ''}{p.text}" + (f" ({p.hint})" if p.hint else "")
            for p in problems
        ]
        super().__init__("\n".join(lines))
        self.path = path
        self.problems = problems


class HostError(OlladistError):
    """Something failed on one host.

    `during` says what was being done in words that follow "while" ("connecting", "installing Ollama 0.17.4").
    """

    def __init__(self, host: str, during: str, cause: str, *, hint: str = "") -> None:
        super().__init__(f"{host}: {cause} (while {during})", hint=hint)
        self.host = host
        self.during = during
        self.cause = cause


class Unreachable(HostError):
    exit_code = 3


class HostKeyRefused(HostError):
    pass


class AuthRefused(HostError):
    pass


class ConnectionLost(HostError):
    pass


class SudoRefused(HostError):
    pass


class CommandFailed(HostError):
    """A command on a host ended with `status`; `stderr` is its last lines."""

    def __init__(self, host: str, during: str, command: str, status: int, stderr: str, *, hint: str = "") -> None:
        tail = "\n".join(stderr.strip().splitlines()[-20:])
        super().__init__(host, during, f"exit status {status}" + (f": {tail}" if tail else ""), hint=hint)
        self.command = command
        self.status = status
        self.stderr = stderr


class StoreError(HostError):
    pass


class GatewayError(OlladistError):
    pass
