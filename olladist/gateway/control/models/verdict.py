"""What a client is told of a change that was made on many hosts at once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from olladist.gateway.control.models.asking import Outcome, shown

DONE, MISSING = 200, 404


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status` 404: nobody had it. `only`: the answer of the one host that was asked says it all. `text` is for status 500."""

    status: int
    text: str = ""
    only: Outcome | None = None


def verdict(outcomes: Sequence[Outcome], verb: str, *, remembered: bool = False) -> Verdict:
    """`remembered`: hosts that were away will do it later, and so will those without an answer in `outcomes`.

    One host that could not do it is an error that names it; the others have done it all the same.
    """
    answered = [outcome for outcome in outcomes if outcome.answer or not remembered]
    failed = [outcome for outcome in answered if outcome.status not in {DONE, MISSING}]
    if failed:
        if len(outcomes) == 1 and failed[0].answer:
            return Verdict(failed[0].status, only=failed[0])
        done = [outcome.store.host for outcome in answered if outcome.status == DONE]
        reasons = shown(f"{outcome.store.host} ({outcome.why})" for outcome in failed)
        return Verdict(500, f"not {verb} on {reasons}" + (f"; {verb} on {shown(done)}" if done else ""))
    if remembered or any(outcome.status == DONE for outcome in answered):
        return Verdict(DONE)
    return Verdict(MISSING)
