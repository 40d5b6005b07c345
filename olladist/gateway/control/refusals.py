"""What a client is told when no backend takes its request, in the words of Ollama where Ollama has any."""

from collections.abc import Collection

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
    holders = roster.holders(key)
    if not roster.backends:
        return _unavailable(ask, "the inventory has no host for this gateway")
    if not holders:
        if not split_name(ask.model).is_valid():
            return _unknown(ask)
        if starting := roster.starting(STARTING):
            return _unavailable(
                ask, f"model '{ask.model}' is not known yet, still connecting to {_names(roster, starting)}"
            )
        if any(seen.state is not State.DOWN for seen in roster.seen.values()):
            return _unknown(ask)
        return _unavailable(ask, f"no host can be reached: {_names(roster, roster.backends)}")
    down = [number for number in holders if roster.seen[number].state is State.DOWN]
    if len(down) == len(holders):
        return _unavailable(ask, f"model '{ask.model}' is on {_names(roster, holders)} only, which cannot be reached")
    failed = [number for number in ask.tried if number in holders]
    text = f"model '{ask.model}' could not be served by {_names(roster, failed)}"
    return _unavailable(ask, f"{text}; {_names(roster, down)} cannot be reached" if down else text)


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
