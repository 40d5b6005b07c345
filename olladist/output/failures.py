"""Errors as people read them: `error: …`, a blank line, `hint: …`; and the report of the hosts that failed."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.errors import CommandFailed, HostError, InventoryError, OlladistError
from olladist.output.documents import ErrorDocument, InventoryProblem
from olladist.output.nodes import fold
from olladist.output.screen import Screen

TAIL_LINES = 10


def error_block(error: OlladistError) -> RenderableType:
    """One error that ends the command."""
    if isinstance(error, InventoryError):
        count = len(error.problems)
        head = f"{error.path} has {count} problem{'s' if count != 1 else ''}"
        return message(head, error.hint, details=error.message.splitlines())
    first, *rest = error.message.splitlines() or [""]
    return message(first, error.hint, details=rest)


def message(text: str, hint: str = "", *, details: Sequence[str] = ()) -> RenderableType:
    parts: list[RenderableType] = [Text.assemble(("error", "bold red"), ": ", text)]
    parts += [Text(f"  {line}") for line in details]
    if hint:
        parts += [Text(""), hint_line(hint)]
    return Group(*parts)


def hint_line(hint: str, *, indent: str = "") -> Text:
    """`hint: …`; further lines of the hint stand under the first."""
    first, *rest = hint.splitlines()
    text = Text.assemble(indent, ("hint", "bold cyan"), ": ", first)
    for line in rest:
        text.append(f"\n{indent}      {line}")
    return text


def note(text: str) -> Text:
    return Text.assemble(("note", "bold cyan"), ": ", text)


def show_failures(screen: Screen, results: Mapping[str, object]) -> None:
    """The report of the hosts that failed, where any did; the whole command and stderr where the person wants to see all."""
    if errors := {host: result for host, result in results.items() if isinstance(result, HostError)}:
        screen.talk(report(errors, len(results), whole=screen.verbose))


def show_problems(screen: Screen, problems: Sequence[OlladistError]) -> None:
    """What went wrong beside the hosts, each with its hint."""
    for problem in problems:
        screen.talk(error_block(problem))


def report(errors: Mapping[str, HostError], hosts: int, *, whole: bool = False) -> RenderableType:
    """Every host that failed, with what was being done, the command, the end of its stderr and the next step.

    Hosts that failed in the same way stand together: fifty times the same paragraph helps nobody.
    """
    same: dict[tuple[str, ...], list[HostError]] = {}
    for error in errors.values():
        same.setdefault((type(error).__name__, *_paragraph(error, whole=whole), error.hint), []).append(error)
    count = len(errors)
    blocks: list[RenderableType] = [
        Text.assemble(("error", "bold red"), f": {count} of {hosts} host{'s' if hosts != 1 else ''} failed")
    ]
    for alike in same.values():
        error = alike[0]
        head, *rest = _paragraph(error, whole=whole)
        blocks.append(Text(""))
        blocks.append(Text.assemble("  ", (fold(e.host for e in alike), "bold"), ": ", head))
        blocks += [Text(f"    {line}") for line in rest]
        if error.hint:
            blocks.append(hint_line(error.hint, indent="    "))
    return Group(*blocks)


def _paragraph(error: HostError, *, whole: bool) -> tuple[str, ...]:
    """First the cause and what was being done, then the command and the end of what it said."""
    if not isinstance(error, CommandFailed):
        first, *rest = error.cause.splitlines() or [""]
        return (f"{first} (while {error.during})", *rest)
    said = error.stderr.strip().splitlines()[0 if whole else -TAIL_LINES :]
    command = error.command.strip().splitlines() or [""]
    if not whole:
        command = [command[0] + (" …" if len(command) > 1 else "")]
    return (
        f"exit status {error.status} (while {error.during})",
        *(f"command: {line}" for line in command),
        *(f"stderr: {line}" for line in said),
    )


def interrupted(under_way: Mapping[str, str]) -> RenderableType:
    """What Ctrl-C left behind, and what mends it."""
    parts: list[RenderableType] = [
        Text.assemble(("interrupted", "bold yellow"), "" if under_way else ": nothing was under way")
    ]
    parts += [Text.assemble("  ", (host, "bold"), f": {what}") for host, what in under_way.items()]
    if under_way:
        parts += [Text(""), hint_line("run the same command again: it finds out what is done and does the rest")]
    return Group(*parts)


def describe_error(error: OlladistError, exit_status: int) -> ErrorDocument:
    """The error that ends a command, for `--json`."""
    problems: Sequence[InventoryProblem] = ()
    if isinstance(error, InventoryError):
        problems = [InventoryProblem(line=p.line, key=p.key, text=p.text, hint=p.hint) for p in error.problems]
    return ErrorDocument(error=error.message, hint=error.hint, exit_status=exit_status, problems=tuple(problems))
