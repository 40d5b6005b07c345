from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from olladist.gateway.lease import OUTCOMES
from olladist.scheduling.health import (
    FAILED_LISTINGS_TO_DEGRADE,
    FAILED_REQUESTS_TO_SUSPECT,
    GOOD_PROBES_TO_RECOVER,
    PROBE_EVERY,
    PROBE_TIMEOUT,
    RECHECK_AFTER,
    SILENT_PROBES_TO_DOWN,
    Health,
    Standing,
    State,
    ended,
    listed,
    probed,
)

GOOD = probed(Health(), "")


def test_a_backend_nobody_has_asked_is_down() -> None:
    """Before its first answer a backend gets nothing, and says that it has not been asked."""
    assert (Health().state, Health().why) == (State.DOWN, "not probed yet")


def test_the_first_good_probe_is_enough_for_a_new_backend() -> None:
    """A start does not wait for two probes."""
    assert (GOOD.state, GOOD.why) == (State.UP, "")


def test_two_failed_probes_take_a_backend_down() -> None:
    """The first makes it suspect, to be asked again at once; the second, down with its reason."""
    once = probed(GOOD, "no answer within 2 s")
    twice = probed(once, "no answer within 2 s")

    assert (once.state, once.wants_recheck) == (State.DEGRADED, True)
    assert (twice.state, twice.why, twice.wants_recheck) == (State.DOWN, "no answer within 2 s", False)


def test_a_host_without_power_is_avoided_in_four_seconds_and_down_in_eleven() -> None:
    """The longest way from the last answer to down: wait, timeout, then pause and timeout three times."""
    more = SILENT_PROBES_TO_DOWN - 1

    assert PROBE_EVERY + PROBE_TIMEOUT <= 4
    assert PROBE_EVERY + PROBE_TIMEOUT + more * (RECHECK_AFTER + PROBE_TIMEOUT) <= 11


def test_two_lost_requests_in_a_row_make_suspect() -> None:
    """Passive evidence: one may be the request's own fault, two ask for a probe at once."""
    once = ended(GOOD, "died")
    twice = ended(once, "connect")

    assert once.state is State.UP
    assert (twice.state, twice.wants_recheck) == (State.DEGRADED, True)
    assert probed(twice, "connection refused").state is State.DOWN
    assert probed(twice, "").state is State.UP


def test_an_answer_between_two_losses_clears_the_first() -> None:
    """Only losses in a row count."""
    assert ended(ended(ended(GOOD, "died"), "served"), "died").state is State.UP


def test_recovery_takes_two_good_probes() -> None:
    """A host that comes back is a last resort after one answer and trusted after two."""
    gone = probed(probed(GOOD, "x"), "x")
    once = probed(gone, "")
    twice = probed(once, "")

    assert [gone.state, once.state, twice.state] == [State.DOWN, State.DEGRADED, State.UP]
    assert probed(once, "x").state is State.DOWN


def test_a_client_that_left_says_nothing() -> None:
    """The outcome "left" changes nothing."""
    suspect = probed(GOOD, "x")
    for health in (Health(), GOOD, ended(GOOD, "died"), suspect):
        assert ended(health, "left") is health


def test_a_backend_whose_models_cannot_be_listed_is_degraded() -> None:
    """One slow /api/tags is nothing; three in a row degrade; one good listing clears."""
    health = GOOD
    for _ in range(FAILED_LISTINGS_TO_DEGRADE):
        assert health.state is State.UP
        health = listed(health, "/api/tags: no answer within 10 s")

    assert (health.state, health.why) == (State.DEGRADED, "/api/tags: no answer within 10 s")
    assert listed(health, "").state is State.UP


events = st.one_of(
    st.tuples(st.just(probed), st.sampled_from(["", "refused"])),
    st.tuples(st.just(ended), st.sampled_from(OUTCOMES)),
    st.tuples(st.just(listed), st.sampled_from(["", "garbage"])),
)


def test_a_host_that_is_only_silent_keeps_its_waiting_requests_for_longer() -> None:
    """One silent probe keeps new requests away, three more are needed before what waits there is moved."""
    health, states = GOOD, []
    for _ in range(4):
        health = probed(health, "no answer within 2 s", silent=True)
        states.append(health.state)

    assert states == [State.DEGRADED, State.DEGRADED, State.DEGRADED, State.DOWN]
    assert health.why == "no answer within 2 s"


def test_a_refusal_after_silence_is_the_end() -> None:
    """Where the host then refuses connections, nothing waits there any more."""
    assert probed(probed(GOOD, "no answer", silent=True), "refused").state is State.DOWN


@given(st.lists(events, max_size=40))
def test_any_history_ends_in_recovery(history: list[tuple[Callable[[Health, str], Health], str]]) -> None:
    """Whatever happened, two good probes and one good listing make a backend up, and two failed probes make it down."""
    health = Health()
    for step, word in history:
        health = step(health, word)

    good = bad = health
    for _ in range(GOOD_PROBES_TO_RECOVER):
        good, bad = probed(good, ""), probed(bad, "refused")

    assert listed(good, "").state is State.UP
    assert bad.state is State.DOWN
    assert (health.why == "") == (health.state is State.UP)


class Machine(RuleBasedStateMachine):
    """The state against a model that only counts what happened in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health()
        self.bad_probes = self.good_probes = self.lost = 0
        self.ever = False

    @rule()
    def good_probe(self) -> None:
        self.health = probed(self.health, "")
        self.bad_probes, self.lost, self.ever = 0, 0, True
        self.good_probes += 1

    @rule()
    def bad_probe(self) -> None:
        self.health = probed(self.health, "refused")
        self.bad_probes += 1
        self.good_probes = 0

    @rule(outcome=st.sampled_from(["connect", "died", "cut"]))
    def lost_request(self, outcome: str) -> None:
        self.health = ended(self.health, outcome)
        self.lost += 1

    @rule(outcome=st.sampled_from(["served", "retryable"]))
    def answered_request(self, outcome: str) -> None:
        if self.health.standing is Standing.SUSPECT:
            self.bad_probes = 0  # it serves, so the probe that failed was only slow
        self.health = ended(self.health, outcome)
        self.lost = 0

    @invariant()
    def down_only_after_a_failed_probe(self) -> None:
        """Requests alone never take a backend down: something of ours must have asked it."""
        if self.ever and self.health.state is State.DOWN:
            assert self.bad_probes

    @invariant()
    def never_up_after_two_failed_probes(self) -> None:
        if self.bad_probes >= 2 or not self.ever:
            assert self.health.state is State.DOWN

    @invariant()
    def up_after_two_good_probes_unless_requests_are_lost(self) -> None:
        if self.good_probes >= GOOD_PROBES_TO_RECOVER and self.lost < FAILED_REQUESTS_TO_SUSPECT:
            assert self.health.state is State.UP

    @invariant()
    def suspects_are_rechecked(self) -> None:
        assert self.health.wants_recheck == (self.health.standing is Standing.SUSPECT)


TestMachine = Machine.TestCase
