"""Which of several backends takes a request: a function of what they hold now and of two numbers, no clock, no dice.

Load is in-flight requests over slots, so a backend of four slots with two requests is as busy as one of two with one.
Nothing depends on the order in which candidates are given.
"""

from collections.abc import Sequence

from olladist.inventory.model import Strategy
from olladist.scheduling.backend import Candidate

# Affinity holds while a backend has one batch running and less than one batch waiting (load 2 = running + one full batch of
# waiting). Beyond it a free backend without the model in memory is the better place: a load takes 3-25 s once, the queue of
# a hot model grows without end, and Ollama never answers 503 for it (llm/llama_server.go, semaphore of NUM_PARALLEL).
AFFINITY_LOAD_MAX = 2.0

_MASK = 2**64 - 1


def load(candidate: Candidate) -> float:
    """Requests per slot; 1.0 is full. A backend without slots counts as one with one."""
    return candidate.in_flight / max(candidate.slots, 1)


def choose(strategy: Strategy, candidates: Sequence[Candidate], turn: int, affinity: int) -> int | None:
    """The id of the backend to take, None where there is no candidate.

    `turn` counts the requests for this model so far and breaks ties in rotation; `affinity` is a hash of what the request
    wants to stay near (0: nothing), used by model-affinity only.
    """
    if not candidates:
        return None
    match strategy:
        case Strategy.ROUND_ROBIN:
            chosen = _rotate(candidates, turn)
        case Strategy.LEAST_LOADED:
            chosen = _least_loaded(candidates, turn)
        case Strategy.MODEL_AFFINITY | Strategy.ADAPTIVE:  # which decides by itself, but where none is well
            chosen = _near_its_model(candidates, turn, affinity)
    return chosen.id


def _rotate(candidates: Sequence[Candidate], turn: int) -> Candidate:
    return sorted(candidates, key=_id)[turn % len(candidates)]


def _least_loaded(candidates: Sequence[Candidate], turn: int) -> Candidate:
    least = min(map(load, candidates))
    return _rotate([c for c in candidates if load(c) == least], turn)


def _near_its_model(candidates: Sequence[Candidate], turn: int, affinity: int) -> Candidate:
    """A backend that has the model in memory, as long as that is no longer wait than a load elsewhere.

    A model that is being loaded is not in /api/ps yet (server/sched.go), so a request of ours for it counts as holding it:
    otherwise every request of the first seconds would start one more load.
    """
    holders = [c for c in candidates if (c.warm or c.in_flight_model) and load(c) < AFFINITY_LOAD_MAX]
    pool = holders or [c for c in candidates if load(c) < 1] or candidates
    best = _least_loaded(pool, turn)
    if affinity:
        # The prompt cache of a conversation's last turn is worth a slot that is free anyway, never a wait: against least
        # outstanding, prefix affinity gains 3-12 % in the median and loses in the tail (notes: CHWBL, AIBrix, SGLang).
        owner = max(pool, key=lambda c: (_weight(affinity, c.id), c.id))
        if load(owner) < 1 or load(owner) == load(best):
            return owner
    return best


def _weight(affinity: int, backend: int) -> int:
    """Rendezvous hashing by splitmix64: when a backend comes or goes, only its own share of conversations moves."""
    x = (affinity ^ (backend + 1) * 0x9E3779B97F4A7C15) & _MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


def _id(candidate: Candidate) -> int:
    return candidate.id
