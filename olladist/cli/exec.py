"""`olladist exec -- CMD`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew


def exec_(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- CMD...",
            help="The command. One word is a line of shell, several are a program and its arguments.",
        ),
    ],
    root: Annotated[bool, typer.Option("--root", help="Run it as root, through sudo where needed.")] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Put the host's name before every line, and fold nothing.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Give up on a host after so many seconds.")
    ] = None,
    accept_new: AcceptNew = False,
) -> int:
    """Run a command on all hosts at once.

    The same answer of several hosts is shown once. Ends with 1 where a command ended with anything but 0.
    """
    from olladist.cli.session import begin
    from olladist.fleet.execute import execute, folded
    from olladist.fleet.results import exit_status, values
    from olladist.output.answers import folded_text, lines_text, talk_text
    from olladist.output.describe import describe_exec
    from olladist.output.failures import show_failures

    session = begin(context)
    screen = session.screen
    results = session.run(lambda fleet: execute(fleet, command, root=root, timeout=timeout), accept_new=accept_new)
    done = values(results)
    for answer in folded(done):
        if not screen.json:
            screen.raw(lines_text(answer) if lines else folded_text(answer, of=len(results)))
        screen.lines(talk_text(answer))
    screen.document(describe_exec(results))
    show_failures(screen, results)
    return exit_status(results) or int(any(completed.status for completed in done.values()))
