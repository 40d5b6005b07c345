"""What was shown, and whether it held."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One claim; `figures` is what was counted or measured."""

    claim: str
    held: bool
    figures: str = ""


def all_held(checks: Sequence[Check]) -> bool:
    return bool(checks) and all(check.held for check in checks)


def table(checks: Sequence[Check], *, seconds: float, played_with: str) -> str:
    """The last thing the demo prints."""
    width = max(len(check.claim) for check in checks)
    rows = [
        f"  {'ok' if check.held else 'FAILED':<6}  {check.claim:<{width}}  {check.figures}".rstrip() for check in checks
    ]
    failed = sum(not check.held for check in checks)
    verdict = "Everything held" if not failed else f"{failed} of {len(checks)} did NOT hold"
    return "\n".join(["What was shown:", *rows, "", f"{verdict}, in {seconds:.0f} s, with {played_with}."])
