"""What a client is told when no backend takes its request, in the words of Ollama where Ollama has any."""

from collections.abc import Collection

from olladist.gateway.control.backends import Role
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import Ask, Refuse
from olladist.ollama.names import split_name
from olladist.ollama.refusal import refusal
from olladist.ollama.routes import ROUTES
from olladist.scheduling.health import PROBE_EVERY, State

_ROUTES = {route.name: route for route in ROUTES}

# A backend that comes back is used again after its first good probe.
RETRY_AFTER = round(PROBE_EVERY) + 1
# How long a new backend may take until it counts as away. Fifty tunnels through one bastion take about 7 s: 8 logins at a time.
STARTING = 15.0
# A sentence with more names is not read; /api/distributed/nodes has them all.
_NAMES_MAX = 5


def refuse(ask: Ask, roster: Roster, key: str) -> Refuse:
    """404 where everybody who can be asked has not got the model, 503 where somebody may have it who cannot be asked."""
    asked = roster.in_play()
    if not asked:
        return _unavailable(ask, "the inventory has no host for this gateway")
    holders = roster.holders_in_play(key)
    if not holders:
        if not split_name(ask.model).is_valid():
            return _unknown(ask)
        if starting := roster.starting(STARTING):
            return _unavailable(
                ask, f"model '{ask.model}' is not known yet, still connecting to {_names(roster, starting)}"
            )
        if any(roster.seen[number].state is not State.DOWN for number in asked):
            return _unknown(ask)
        return _unavailable(ask, f"{_nobody(roster)} can be reached: {_names(roster, asked)}")
    return _unavailable(ask, _why_none(ask, roster, holders))


def no_cloud(ask: Ask, roster: Roster, designated: int | None) -> Refuse:
    """A model of Ollama's cloud, and the one node that is signed in there is not there. No other is asked: it would want a sign-in of its own."""
    if designated is None or designated not in roster.backends:
        return _unavailable(ask, f"model '{ask.model}' is in Ollama's cloud, and no host is there to ask it")
    node = roster.backends[designated].node
    failed = "failed with this request" if designated in ask.tried else "cannot be reached"
    return _unavailable(ask, f"model '{ask.model}' is in Ollama's cloud, and {node}, which asks it, {failed}")


def queue_full(ask: Ask) -> Refuse:
    """Ollama's own words, both blanks of them (server/sched.go ErrMaxQueue)."""
    return Refuse(ask.id, 503, "server busy, please try again.  maximum pending requests exceeded", RETRY_AFTER)


def too_late(ask: Ask, position: int) -> Refuse:
    """The client has said how long it waits, and that is over; `position` is the place in the queue that it had when it came."""
    return _unavailable(
        ask,
        f"no slot was free within the {ask.deadline:g} s of X-Ollama-Timeout, it was number {position} in the queue",
    )


def _why_none(ask: Ask, roster: Roster, holders: Collection[int]) -> str:
    """Why none of those who have the model takes the request."""
    down = [number for number in holders if roster.seen[number].state is State.DOWN and number not in ask.tried]
    drained = [n for n in holders if roster.backends[n].node in roster.drained and n not in (*ask.tried, *down)]
    failed = [number for number in ask.tried if number in holders]
    if len(down) == len(holders):
        return f"model '{ask.model}' is on {_names(roster, holders)} only, which cannot be reached"
    if len(drained) == len(holders):
        return f"model '{ask.model}' is on {_names(roster, holders)} only, which is drained"
    parts = []
    if failed:
        parts.append(f"model '{ask.model}' could not be served by {_names(roster, failed)}")
    if down:
        parts.append(f"{_names(roster, down)} cannot be reached")
    if drained:
        parts.append(f"{_names(roster, drained)} is drained")
    return "; ".join(parts) or f"model '{ask.model}' could not be served"


def _nobody(roster: Roster) -> str:
    return "no host" if Role.NODE in roster.serving.order else "no Ollama"


def _unknown(ask: Ask) -> Refuse:
    route = _ROUTES.get(ask.route)
    status, text = refusal(route, ask.model) if route else (404, f"model '{ask.model}' not found")
    return Refuse(ask.id, status, text)


def _unavailable(ask: Ask, text: str) -> Refuse:
    return Refuse(ask.id, 503, text, RETRY_AFTER)


def _names(roster: Roster, numbers: Collection[int]) -> str:
    names = sorted(roster.backends[number].node for number in numbers)
    more = len(names) - _NAMES_MAX
    return ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
