"""Whether a backend may be given work: probes we send and requests that ended, in; up, degraded or down, out.

A host whose power goes is down 6.3 s later at most:
    2.00 s   until the next probe (PROBE_EVERY)
  + 2.00 s   until it counts as failed (PROBE_TIMEOUT): suspect, new requests avoid it
  + 0.25 s   pause (RECHECK_AFTER)
  + 2.00 s   until the second fails: down
Under load it is sooner: two requests in a row that could not connect or died make it suspect at once, and then one failed
probe is enough.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

PROBE_EVERY = 2.0
PROBE_TIMEOUT = 2.0
RECHECK_AFTER = 0.25

# One failed request may be the request's own fault (some abort a whole Ollama); two in a row are the backend's.
FAILED_REQUESTS_TO_SUSPECT = 2
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


def probed(health: Health, problem: str) -> Health:
    """After a probe; `problem` is "" for a good one."""
    return _probe_failed(health, problem) if problem else _probe_good(health)


def _probe_good(health: Health) -> Health:
    match health.standing:
        case Standing.NEW | Standing.GOOD | Standing.SUSPECT:
            return replace(health, standing=Standing.GOOD, reason="", failed_requests=0, good_probes=0)
        case Standing.GONE | Standing.RECOVERING:
            good = health.good_probes + 1
            if good >= GOOD_PROBES_TO_RECOVER:
                return replace(health, standing=Standing.GOOD, reason="", failed_requests=0, good_probes=0)
            return replace(
                health, standing=Standing.RECOVERING, reason="answers again, not trusted yet", good_probes=good
            )


def _probe_failed(health: Health, problem: str) -> Health:
    match health.standing:
        case Standing.GOOD:
            return replace(health, standing=Standing.SUSPECT, reason=problem)
        case Standing.NEW:
            return replace(health, reason=problem)
        case Standing.SUSPECT | Standing.RECOVERING | Standing.GONE:
            return replace(health, standing=Standing.GONE, reason=problem, failed_requests=0, good_probes=0)


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
