import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.inventory.model import Strategy
from olladist.scheduling.backend import Candidate
from olladist.scheduling.strategies import AFFINITY_LOAD_MAX, choose, load

STRATEGIES = list(Strategy)


@st.composite
def candidate(draw: st.DrawFn) -> Candidate:
    in_flight = draw(st.integers(0, 12))
    return Candidate(
        id=draw(st.integers(0, 500)),
        slots=draw(st.integers(1, 4)),
        in_flight=in_flight,
        in_flight_model=draw(st.integers(0, in_flight)),
        warm=draw(st.booleans()),
    )


fleets = st.lists(candidate(), min_size=1, max_size=12, unique_by=lambda c: c.id)
turns = st.integers(0, 10**9)
affinities = st.integers(0, 2**64 - 1)


def idle(count: int, *, slots: int = 2, warm: bool = False) -> list[Candidate]:
    return [Candidate(id=n, slots=slots, in_flight=0, in_flight_model=0, warm=warm) for n in range(count)]


def serve(fleet: list[Candidate], strategy: Strategy, requests: int, affinity: int = 0) -> list[Candidate]:
    """The fleet after so many requests for one model came and none has ended."""
    now = {c.id: c for c in fleet}
    for turn in range(requests):
        chosen = choose(strategy, list(now.values()), turn, affinity)
        assert chosen is not None
        c = now[chosen]
        now[chosen] = c._replace(in_flight=c.in_flight + 1, in_flight_model=c.in_flight_model + 1)
    return list(now.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_is_chosen_where_nobody_stands(strategy: Strategy) -> None:
    """Without a candidate there is no choice."""
    assert choose(strategy, [], 3, 7) is None


@given(st.sampled_from(STRATEGIES), fleets, turns, affinities)
def test_only_a_candidate_is_chosen(strategy: Strategy, fleet: list[Candidate], turn: int, affinity: int) -> None:
    """The choice is always one of those offered."""
    assert choose(strategy, fleet, turn, affinity) in {c.id for c in fleet}


@given(st.sampled_from(STRATEGIES), fleets, turns, affinities, st.randoms(use_true_random=False))
def test_order_does_not_matter(
    strategy: Strategy, fleet: list[Candidate], turn: int, affinity: int, rng: random.Random
) -> None:
    """The same candidates in another order give the same choice."""
    shuffled = list(fleet)
    rng.shuffle(shuffled)

    assert choose(strategy, fleet, turn, affinity) == choose(strategy, shuffled, turn, affinity)


@given(fleets, turns)
def test_round_robin_visits_everybody_once_a_round(fleet: list[Candidate], turn: int) -> None:
    """Over as many turns as there are backends, each gets one, however loaded it is."""
    chosen = [choose(Strategy.ROUND_ROBIN, fleet, turn + n, 0) for n in range(len(fleet))]

    assert sorted(c for c in chosen if c is not None) == sorted(c.id for c in fleet)


@given(fleets, turns, affinities)
def test_least_loaded_is_least_loaded(fleet: list[Candidate], turn: int, affinity: int) -> None:
    """Nobody offered has fewer requests per slot than the one chosen."""
    chosen = choose(Strategy.LEAST_LOADED, fleet, turn, affinity)

    assert load(next(c for c in fleet if c.id == chosen)) == min(map(load, fleet))


@given(st.lists(st.integers(1, 8), min_size=1, max_size=8), st.integers(1, 80))
def test_least_loaded_spreads_by_slots(slots: list[int], requests: int) -> None:
    """A burst on an idle fleet never leaves one backend a whole request per slot busier than another."""
    fleet = [Candidate(id=n, slots=s, in_flight=0, in_flight_model=0, warm=False) for n, s in enumerate(slots)]

    loads = [load(c) for c in serve(fleet, Strategy.LEAST_LOADED, requests)]

    assert max(loads) - min(loads) <= 1


def test_ties_rotate() -> None:
    """Equal backends take turns, so that none is always first."""
    fleet = idle(3, warm=True)
    for strategy in STRATEGIES:
        assert [choose(strategy, fleet, turn, 0) for turn in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_warm_backend_is_preferred_to_an_idle_cold_one() -> None:
    """One request running there is less wait than a load elsewhere."""
    warm = Candidate(id=4, slots=2, in_flight=1, in_flight_model=1, warm=True)

    assert choose(Strategy.MODEL_AFFINITY, [*idle(3), warm], 0, 0) == 4


def test_a_model_being_loaded_is_not_loaded_twice() -> None:
    """A burst for a cold model stays where the first request started the load, up to the bound."""
    after = serve(idle(4, slots=2), Strategy.MODEL_AFFINITY, int(2 * AFFINITY_LOAD_MAX))

    assert sorted(c.in_flight for c in after) == [0, 0, 0, 4]


def test_affinity_gives_way_beyond_its_bound() -> None:
    """Once the warm backend has a full batch waiting, the next request warms a free one."""
    warm = Candidate(id=9, slots=2, in_flight=4, in_flight_model=4, warm=True)

    assert choose(Strategy.MODEL_AFFINITY, [warm, *idle(1)], 0, 0) == 0


def test_a_backend_busy_with_other_models_is_no_warm_place() -> None:
    """The bound counts all that runs on the backend, not only this model."""
    warm = Candidate(id=9, slots=1, in_flight=5, in_flight_model=0, warm=True)

    assert choose(Strategy.MODEL_AFFINITY, [warm, *idle(1)], 0, 0) == 0


@given(fleets, turns, affinities)
def test_affinity_is_bounded_by_load(fleet: list[Candidate], turn: int, affinity: int) -> None:
    """A backend at or beyond the bound is chosen only when nobody is free, and then it is the least loaded one."""
    chosen = choose(Strategy.MODEL_AFFINITY, fleet, turn, affinity)
    taken = next(c for c in fleet if c.id == chosen)

    if load(taken) >= AFFINITY_LOAD_MAX:
        assert all(load(c) >= 1 for c in fleet)
        assert load(taken) == min(map(load, fleet))


@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 60), affinities)
def test_model_affinity_never_leaves_a_backend_idle_beside_a_long_queue(
    count: int, slots: int, requests: int, affinity: int
) -> None:
    """However a burst comes, no backend goes beyond the bound while another has a free slot."""
    after = serve(idle(count, slots=slots), Strategy.MODEL_AFFINITY, requests, affinity)

    if any(load(c) > AFFINITY_LOAD_MAX for c in after):
        assert all(load(c) >= 1 for c in after)


@given(st.integers(1, 2**64 - 1), st.integers(2, 10))
def test_a_conversation_stays_when_others_leave(affinity: int, count: int) -> None:
    """A conversation keeps its backend when any other backend goes."""
    fleet = idle(count, warm=True)
    home = choose(Strategy.MODEL_AFFINITY, fleet, 0, affinity)

    for gone in fleet:
        if gone.id != home:
            assert choose(Strategy.MODEL_AFFINITY, [c for c in fleet if c is not gone], 5, affinity) == home


def test_conversations_spread() -> None:
    """A thousand conversations are spread over ten backends, none with less than half or more than double its share."""
    fleet = idle(10, warm=True)

    homes = Counter(choose(Strategy.MODEL_AFFINITY, fleet, 0, n * 0x5DEECE66D + 11) for n in range(1, 1001))

    assert len(homes) == 10
    assert min(homes.values()) >= 50
    assert max(homes.values()) <= 200


def test_a_conversation_does_not_wait_for_its_backend() -> None:
    """When the conversation's own backend is full and another is free, the free one takes it."""
    fleet = idle(5, slots=1, warm=True)
    home = choose(Strategy.MODEL_AFFINITY, fleet, 0, 77)
    busy = [c._replace(in_flight=1, in_flight_model=1) if c.id == home else c for c in fleet]

    assert choose(Strategy.MODEL_AFFINITY, busy, 0, 77) != home
