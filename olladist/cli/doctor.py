"""`olladist doctor`."""

import typer

from olladist.cli.options import AcceptNew


def doctor(context: typer.Context, accept_new: AcceptNew = False) -> int:
    """Check everything from DNS to a real generation.

    The fix stands beside each failure; six lines sum it up. Asks the gateway that is running, else one that is started
    for the check and stopped after it. Nothing is changed, but a model is loaded.
    """
    from olladist.cli.gateway import temporary_gateway
    from olladist.cli.session import begin
    from olladist.fleet.doctor import examine
    from olladist.fleet.findings import summary
    from olladist.output.describe import describe_findings
    from olladist.output.findings import findings_block

    session = begin(context)
    findings = session.run(
        lambda fleet: examine(fleet, lambda: temporary_gateway(session.inventory, session.options.limit)),
        accept_new=accept_new,
    )
    session.screen.show(findings_block(findings))
    session.screen.document(describe_findings(findings))
    return int(not all(summary(findings).values()))
