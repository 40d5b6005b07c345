"""`olladist logs`."""

from typing import Annotated

import typer

from olladist.cli.options import AcceptNew


def logs(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each server.")] = 50,
    accept_new: AcceptNew = False,
) -> int:
    """Show Ollama's logs of all hosts.

    Each line stands behind the name of its host. With --json each line is a document of its own.
    """
    import msgspec

    from olladist.cli.session import begin
    from olladist.fleet.logs import logs as read_logs
    from olladist.fleet.results import exit_status
    from olladist.output.documents import LogDocument
    from olladist.output.failures import show_failures

    session = begin(context)

    def tell(host: str, line: str) -> None:
        document = LogDocument(host=host, line=line)
        session.screen.raw(
            msgspec.json.encode(document).decode() + "\n" if session.screen.json else f"{host}: {line}\n"
        )

    results = session.run(
        lambda fleet: read_logs(fleet, tell, lines=lines, follow=follow), accept_new=accept_new, watched=False
    )
    show_failures(session.screen, results)
    return exit_status(results)
