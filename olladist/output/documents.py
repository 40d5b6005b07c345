"""The documents of `--json`: one per command, each with the name and version of its schema.

A field is never taken away and never changes its meaning within a version. docs/reference/json.md is made from here.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from olladist.errors import CommandFailed, HostError, InventoryError, OlladistError
from olladist.fleet.results import values
from olladist.ssh.runner import Completed


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One host that failed: `kind` is the name of the error, `during` what was being done, `hint` the next step."""

    host: str
    kind: str
    cause: str
    during: str
    hint: str = ""
    command: str | None = None
    status: int | None = None
    stderr: str | None = None


def failure(error: HostError) -> Failure:
    made = Failure(host=error.host, kind=type(error).__name__, cause=error.cause, during=error.during, hint=error.hint)
    if isinstance(error, CommandFailed):
        return msgspec.structs.replace(made, command=error.command, status=error.status, stderr=error.stderr)
    return made


def failed_hosts(results: Mapping[str, object]) -> tuple[Failure, ...]:
    return tuple(failure(result) for result in results.values() if isinstance(result, HostError))


class InventoryProblem(msgspec.Struct, frozen=True, kw_only=True):
    """`line` counts from 1; 0 where no line can be named."""

    line: int
    key: str
    text: str
    hint: str = ""


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What any command prints when it ends before it has done anything; `exit_status` is the process's."""

    schema: Literal["olladist.error"] = "olladist.error"
    version: Literal[1] = 1
    error: str
    hint: str
    exit_status: int
    problems: tuple[InventoryProblem, ...] = ()


def error_document(error: OlladistError, exit_status: int) -> ErrorDocument:
    problems: Sequence[InventoryProblem] = ()
    if isinstance(error, InventoryError):
        problems = [InventoryProblem(line=p.line, key=p.key, text=p.text, hint=p.hint) for p in error.problems]
    return ErrorDocument(error=error.message, hint=error.hint, exit_status=exit_status, problems=tuple(problems))


class ExecHost(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is -N where signal N ended the command."""

    name: str
    status: int
    stdout: str
    stderr: str


class ExecDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist exec`."""

    schema: Literal["olladist.exec"] = "olladist.exec"
    version: Literal[1] = 1
    hosts: tuple[ExecHost, ...]
    failed: tuple[Failure, ...]


def exec_document(results: Mapping[str, Completed | HostError]) -> ExecDocument:
    return ExecDocument(
        hosts=tuple(
            ExecHost(name=host, status=done.status, stdout=done.stdout, stderr=done.stderr)
            for host, done in values(results).items()
        ),
        failed=failed_hosts(results),
    )
