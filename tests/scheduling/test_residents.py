"""What has changed in a host's memory without us, told from its listings."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.residents import JUMP, LINGERS, LISTING, NOTHING, Changes, Resident, Residents

NEVER = 9.2e9 + 1.7e9  # keep_alive -1: the year 2318


def listed(residents: Residents, now: float, *, clock: float | None = None, **expires: float) -> Changes:
    return residents.listed({model: Resident(at) for model, at in expires.items()}, now, clock)


def test_the_first_listing_says_nothing() -> None:
    """Whatever it shows was there before."""
    residents = Residents()
    assert listed(residents, 10.0, a=100.0) == NOTHING

    residents.forget()
    assert listed(residents, 20.0, a=200.0, b=1.0) == NOTHING


def test_a_time_that_moves_is_somebody_elses_request() -> None:
    """Nothing of ours is there."""
    residents = Residents()
    listed(residents, 10.0, a=100.0, b=100.0)
    changes = listed(residents, 12.0, a=101.0, b=100.0)

    assert changes == Changes(used=frozenset("a"))
    assert changes.foreign == 1
    assert listed(residents, 14.0, a=101.0, b=100.0).foreign == 0


def test_ours_moves_it_too() -> None:
    """While it runs, and until a listing that was asked for after its end has come."""
    residents = Residents()
    residents.begins("a")
    listed(residents, 10.0, a=100.0)
    assert listed(residents, 12.0, a=101.0).foreign == 0

    residents.ends("a", 13.0)
    assert listed(residents, 14.0, a=102.0).foreign == 0
    assert listed(residents, 16.0, a=103.0).foreign == 0
    listed(residents, 14.0 + LISTING, a=103.0)
    listed(residents, 16.0 + LISTING, a=103.0)
    assert listed(residents, 18.0 + LISTING, a=104.0).foreign == 1


def test_a_request_that_was_given_up_counts_for_longer() -> None:
    """A host that reads a prompt notices late."""
    residents = Residents()
    residents.begins("a")
    listed(residents, 10.0, a=100.0)
    residents.ends("a", 11.0, lingers=True)
    listed(residents, 10.0 + LINGERS, a=100.0)

    assert listed(residents, 12.0 + LINGERS, a=160.0).foreign == 0


def test_a_model_that_comes_unasked_was_asked_for_by_others() -> None:
    """One that we load is ours."""
    residents = Residents()
    listed(residents, 10.0)
    assert listed(residents, 12.0, a=100.0).came == {"a"}

    residents.begins("b")
    changes = listed(residents, 14.0, a=100.0, b=100.0)
    assert changes == Changes(ours=frozenset("b"))


def test_the_runner_of_ours_may_go_by_another_name() -> None:
    """Two names may have the same weights, and the one that loaded them is shown: while one of ours is not listed, nobody can tell."""
    residents = Residents()
    listed(residents, 10.0, alias=100.0)
    residents.begins("a")

    assert listed(residents, 12.0, alias=101.0).foreign == 0
    assert listed(residents, 14.0, alias=102.0, b=1.0).foreign == 0


def test_what_leaves_before_its_time_was_sent_away() -> None:
    """By the host's own clock, which may be years wrong; what leaves at its time has only been idle."""
    residents = Residents()
    listed(residents, 10.0, clock=1000.0, a=1300.0, b=1002.0, c=NEVER, d=NEVER)
    assert listed(residents, 12.0, clock=1002.0, a=1300.0, c=NEVER, d=NEVER).gone == frozenset()
    changes = listed(residents, 14.0, clock=1004.0, d=NEVER)

    assert changes == Changes(gone=frozenset("ac"))
    assert changes.foreign == 1


def test_what_we_have_unloaded_was_sent_away_by_us() -> None:
    """And what goes while we load makes room: no sign of others."""
    residents = Residents()
    listed(residents, 10.0, clock=0.0, a=300.0, b=300.0, d=300.0)
    residents.unloads("a", 11.0)
    assert listed(residents, 12.0, clock=2.0, b=300.0, d=300.0).gone == frozenset()

    residents.begins("c")
    changes = listed(residents, 14.0, clock=4.0, d=300.0)
    assert changes == Changes(gone=frozenset("b"), ours=frozenset("c"))
    assert changes.foreign == 0


def test_a_clock_that_jumps_says_nothing_of_what_went() -> None:
    """Nor does a host that does not say what time it is, nor one that has lost everything: it was restarted."""
    for clock, rest in ((10_000.0, True), (-10_000.0, True), (None, True), (2.0, False)):
        residents = Residents()
        listed(residents, 10.0, clock=0.0, a=300.0, b=300.0)
        changes = listed(residents, 12.0, clock=clock, **({"b": 300.0} if rest else {}))
        assert changes.gone == frozenset()


_models = st.sampled_from("abc")
_events = st.one_of(
    st.tuples(st.just("runs"), _models, st.floats(0.0, 5.0)),
    st.tuples(st.just("listing"), _models, st.floats(0.1, 5.0)),
    st.tuples(st.just("jump"), _models, st.floats(-1e9, 1e9)),
)


@given(st.lists(_events, max_size=40), st.floats(-1e9, 1e9))
def test_without_others_there_is_no_trace_of_them(events: list[tuple[str, str, float]], offset: float) -> None:
    """However wrong the host's clock is, and whenever it is set: its own requests alone, each moving its model's time as Ollama does."""
    residents, now = Residents(), 0.0
    memory: dict[str, float] = {}
    for event, model, seconds in events:
        if event == "runs":
            residents.begins(model)
            now += seconds
            memory[model] = now + offset + 300.0
            residents.ends(model, now)
        elif event == "jump":
            offset += seconds
        else:
            now += seconds
            memory = {name: at for name, at in memory.items() if at > now + offset}
            rows = {name: Resident(at) for name, at in memory.items()}
            assert residents.listed(rows, now, now + offset).foreign == 0


def test_a_small_drift_of_a_clock_is_no_jump() -> None:
    """It is set by a second or two now and then."""
    residents = Residents()
    listed(residents, 10.0, clock=0.0, a=300.0, b=300.0)

    assert listed(residents, 12.0, clock=JUMP, b=300.0).gone == {"a"}
