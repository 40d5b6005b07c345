"""Whether a request that failed goes to another backend. Pure: what has happened in, the verdict out.

Nothing here runs after the first byte of a response was passed on: then there is no way back.
"""

import re
from collections.abc import Sequence
from typing import Final

# Three hosts that all refuse mean that something else is wrong; each try may cost the load time of a model.
ATTEMPTS_MAX: Final = 3
# Some requests abort a whole Ollama (0.17.4: /api/generate with a token in `context` beyond the vocabulary). Two deaths may be
# chance, a third would be our doing.
DEATHS_MAX: Final = 2
# An idle connection that the backend has closed fails on the first write, within a round trip (satellite: 0.6 s). What
# fails later had begun to work on the request.
STALE_SECONDS: Final = 1.0

# server/sched.go and llm/server.go: what a host answers when it cannot get the model into its memory or loses it there. Another
# host may have more of it. Other 500s (wrong option type, bad template, a name that does not parse) come from the request.
_LOAD_FAILED: Final = re.compile(
    rb"out of memory|more system memory|resource limitations|failed to load|unable to load|error loading|failed to allocate"
    rb"|unable to allocate|runner process has terminated|runner process no longer running|runner to start|error starting"
    rb"|no space left",
    re.IGNORECASE,
)
_MODEL_MISSING: Final = re.compile(rb"model.{0,400}not found", re.IGNORECASE | re.DOTALL)


def may_be_better_elsewhere(status: int, body: bytes) -> bool:
    """True for an answer that says something about this backend, not about the request.

    404 of a model it does not have, 503 of a full queue (server/sched.go ErrMaxQueue), 500 of a failed load.
    """
    if status == 404:
        return _MODEL_MISSING.search(body) is not None
    if status == 500:
        return _LOAD_FAILED.search(body) is not None
    return status == 503


def next_try(outcomes: Sequence[str], *, kept: bool) -> str | None:
    """What may be asked for next, as Ask.only says it; None where nothing may. `outcomes` are those of lease.OUTCOMES so far.

    After three hosts one more is asked, of those that stand in for them. What two have died of is given to nobody any more, but
    an answer that was kept harms nobody; `kept` says whether there may be one.
    """
    if outcomes.count("died") < DEATHS_MAX:
        if len(outcomes) < ATTEMPTS_MAX:
            return ""
        if len(outcomes) == ATTEMPTS_MAX:
            return "fallback"
    return "cache" if kept else None


def was_stale(*, reused: bool, seconds: float) -> bool:
    """True where a connection that ended without a byte says nothing about the backend: it had been closed while it was idle.

    `seconds` have passed since the request was written to it. The same backend is tried again on a new connection, once.
    """
    return reused and seconds < STALE_SECONDS
