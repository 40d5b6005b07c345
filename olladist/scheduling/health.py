"""Whether a backend may be given work: probes we send and requests that ended, in; up, degraded or down, out.

A backend that refuses connections, or answers with garbage, is down after two such probes: 2.25 s later at most, where
2.00 s pass until the next probe (PROBE_EVERY) and 0.25 s until it is asked again (RECHECK_AFTER).

A backend that says nothing may have lost its power, or may be reading 40 GB of weights from a slow disk. To call it down
moves the requests that wait for it, and that aborts the load. So it is suspect after one silent probe, which keeps new
requests away, and down after four; a host whose power goes is
    2.00 s   until the next probe
  + 2.00 s   until it counts as failed (PROBE_TIMEOUT): suspect from here on, 4.00 s after the power went
  + 6.75 s   three more, each after a pause of 0.25 s: down, 10.75 s after the power went at most
Under load it is suspect sooner: two requests in a row that could not connect or died make it so at once.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

PROBE_EVERY = 2.0
PROBE_TIMEOUT = 2.0
RECHECK_AFTER = 0.25

# One failed request may be the request's own fault (some abort a whole Ollama); two in a row are the backend's.
FAILED_REQUESTS_TO_SUSPECT = 2
FAILED_PROBES_TO_DOWN = 2
SILENT_PROBES_TO_DOWN = 4
# A host that comes and goes must not get the whole load back at its first answer.
GOOD_PROBES_TO_RECOVER = 2
# /api/tags reads every manifest from disk, which a copy of a large model can hold up; three times in a row is no longer that.
FAILED_LISTINGS_TO_DEGRADE = 3

_FAILED = frozenset({"connect", "died", "cut"})
_ANSWERED = frozenset({"served", "retryable"})


class State(StrEnum):
    """`degraded` backends get work only where no `up` one can take it."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Standing(StrEnum):
    NEW = "new"  # never answered a probe
    GOOD = "good"
    SUSPECT = "suspect"  # was good; the next probe decides
    GONE = "gone"
    RECOVERING = "recovering"  # was gone, answers again


@dataclass(frozen=True, slots=True)
class Health:
    """What is believed of one backend; `reason` says why it is not up, in words for people."""

    standing: Standing = Standing.NEW
    reason: str = "not probed yet"
    failed_requests: int = 0  # in a row
    failed_probes: int = 0  # in a row, since it was good
    good_probes: int = 0  # in a row, while recovering
    failed_listings: int = 0  # in a row
    listing_problem: str = ""

    @property
    def state(self) -> State:
        match self.standing:
            case Standing.NEW | Standing.GONE:
                return State.DOWN
            case Standing.SUSPECT | Standing.RECOVERING:
                return State.DEGRADED
            case Standing.GOOD:
                return State.DEGRADED if self._cannot_list else State.UP

    @property
    def why(self) -> str:
        """The reason for any state but up, where it is empty."""
        if self.standing is not Standing.GOOD:
            return self.reason
        return self.listing_problem if self._cannot_list else ""

    @property
    def wants_recheck(self) -> bool:
        """The next probe decides something: it goes out after RECHECK_AFTER, not at the usual pace."""
        return self.standing is Standing.SUSPECT

    @property
    def _cannot_list(self) -> bool:
        return self.failed_listings >= FAILED_LISTINGS_TO_DEGRADE


def probed(health: Health, problem: str, *, silent: bool = False) -> Health:
    """After a probe; `problem` is "" for a good one, `silent` says that the time ran out without a word."""
    return _probe_failed(health, problem, silent=silent) if problem else _probe_good(health)


def _probe_good(health: Health) -> Health:
    good = health.good_probes + 1
    if health.standing in {Standing.GONE, Standing.RECOVERING} and good < GOOD_PROBES_TO_RECOVER:
        return replace(health, standing=Standing.RECOVERING, reason="answers again, not trusted yet", good_probes=good)
    return replace(health, standing=Standing.GOOD, reason="", failed_requests=0, failed_probes=0, good_probes=0)


def _probe_failed(health: Health, problem: str, *, silent: bool) -> Health:
    if health.standing is Standing.NEW:
        return replace(health, reason=problem)
    failed = health.failed_probes + 1
    if health.standing is Standing.GOOD:
        return replace(health, standing=Standing.SUSPECT, reason=problem, failed_probes=failed)
    if health.standing is Standing.SUSPECT and silent and failed < SILENT_PROBES_TO_DOWN:
        return replace(health, reason=problem, failed_probes=failed)
    return replace(
        health, standing=Standing.GONE, reason=problem, failed_requests=0, failed_probes=failed, good_probes=0
    )


def ended(health: Health, outcome: str) -> Health:
    """After a request on this backend; `outcome` is one of gateway.lease.OUTCOMES.

    A client that left says nothing. A request that ends well on a suspect clears it; one that ends well on a backend that is
    gone was begun before and does not bring it back.
    """
    if outcome in _ANSWERED:
        if health.standing is Standing.SUSPECT:
            return replace(health, standing=Standing.GOOD, reason="", failed_requests=0)
        return replace(health, failed_requests=0) if health.failed_requests else health
    if outcome not in _FAILED or health.standing is not Standing.GOOD:
        return health
    failed = health.failed_requests + 1
    if failed < FAILED_REQUESTS_TO_SUSPECT:
        return replace(health, failed_requests=failed)
    reason = f"{failed} requests in a row could not connect or lost their connection"
    return replace(health, standing=Standing.SUSPECT, reason=reason, failed_requests=failed)


def listed(health: Health, problem: str) -> Health:
    """After its models were asked for (/api/tags); `problem` is "" where that worked."""
    if problem:
        return replace(health, failed_listings=health.failed_listings + 1, listing_problem=problem)
    return replace(health, failed_listings=0, listing_problem="") if health.failed_listings else health
