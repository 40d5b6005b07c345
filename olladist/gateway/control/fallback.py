"""What stands in where the first choice of the mode cannot take a request, and the reason that the client is told. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from olladist.gateway.control.backends import Role
from olladist.gateway.control.modes import Serving

# Words of Grant.fallback, which become X-Ollama-Fallback.
_WORDS: Final = {Role.NODE: "nodes", Role.LOCAL: "local", Role.CACHE: "cache"}

# Why somebody who has a model did not take the request, beside what he answered.
DOWN: Final = "is down"
DRAINED: Final = "is drained"

# Why none of those who have a model was waited for.
FULL: Final = "too many requests wait for the hosts that have it"
LATE: Final = "no slot was free within the time of X-Ollama-Timeout"

# A header is read by people; /api/distributed/nodes has them all.
_NAMES_MAX: Final = 5

# Words of Ask.only.
STAND_INS: Final = "fallback"
KEPT: Final = "cache"


class Passed(NamedTuple):
    """Somebody of the first choice who has the model and was passed over."""

    node: str
    why: str


def roles(serving: Serving, only: str) -> tuple[Role, ...]:
    """Whose turn it is, in order; `only` is Ask's, "" for whoever can."""
    match only:
        case "":
            return serving.order
        case "fallback":
            return serving.order[1:]
        case _:
            return ()


def word(serving: Serving, role: Role) -> str:
    """What Grant.fallback says of an answer from there; "" for the first choice."""
    return "" if role is serving.order[0] else _WORDS[role]


def reason(first: Role, passed: Sequence[Passed], *, reachable: bool) -> str:
    """Why the first choice did not do, in a line of printable ASCII without the model's name, which anybody may have made up.

    `passed` are those of it who have the model, `reachable` says whether any of it can be asked at all.
    """
    if first is Role.LOCAL:
        text = _local(passed, reachable=reachable)
    elif not passed:
        text = "no host has the model" if reachable else "no host can be reached"
    elif len({why for _, why in passed}) == 1 and passed[0].why in {DOWN, DRAINED}:
        text = f"every host that has it {passed[0].why}"
    else:
        shown = "; ".join(f"{node}: {why}" for node, why in passed[:_NAMES_MAX])
        more = len(passed) - _NAMES_MAX
        text = f"{shown}; and {more} more" if more > 0 else shown
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def header_fields(serving: Serving, role: Role, why: str) -> dict[str, str]:
    """What an answer from there carries beside its own fields; nothing where it is the first choice."""
    standing_in = word(serving, role)
    return {"X-Ollama-Fallback": standing_in, "X-Ollama-Fallback-Reason": why} if standing_in else {}


def _local(passed: Sequence[Passed], *, reachable: bool) -> str:
    if not reachable:
        return "the local Ollama cannot be reached"
    return f"the local Ollama: {passed[0].why}" if passed else "the local Ollama has not got the model"


def may_be_given(made_with: str, digests: frozenset[str]) -> bool:
    """Whether a kept answer is that of the model as it is known now, or nobody knows it now."""
    return not digests or made_with in digests
