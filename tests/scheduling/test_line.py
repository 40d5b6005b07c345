"""Who waits for one model, and whose turn it is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from olladist.scheduling.line import QUANTUM, Line, Waiting


def of(ticket: int, key: str = "", **more: float) -> Waiting:
    return Waiting(ticket, "m", float(ticket), key, **more)  # type: ignore[arg-type]  # any field


def emptied(line: Line, machine: int = 1) -> list[Waiting]:
    taken = []
    while chosen := line.pop(machine):
        taken.append(chosen)
    return taken


def test_without_keys_it_is_first_come_first_served() -> None:
    """One key, one class."""
    line = Line()
    for ticket in range(5):
        line.push(of(ticket))

    assert [waiting.ticket for waiting in emptied(line)] == [0, 1, 2, 3, 4]


def test_a_flood_of_one_key_does_not_hold_up_another() -> None:
    """A hundred of one, then one of another: that is served second at the latest."""
    line = Line()
    for ticket in range(100):
        line.push(of(ticket, "flood"))
    line.push(of(100, "one"))

    assert 100 in [line.pop(1).ticket for _ in range(2)]  # type: ignore[union-attr]


def test_tokens_are_shared_by_weight() -> None:
    """Three times the weight gets three times the tokens, whatever the sizes of requests."""
    line = Line({"heavy": 3.0, "light": 1.0})
    for ticket in range(400):
        line.push(of(ticket, "heavy", tokens=500))
        line.push(of(1000 + ticket, "light", tokens=2000))
    tokens: Counter[str] = Counter()
    for _ in range(200):
        chosen = line.pop(1)
        assert chosen
        tokens[chosen.key] += int(chosen.tokens)

    assert 2.5 < tokens["heavy"] / tokens["light"] < 3.5


def test_a_higher_priority_goes_first() -> None:
    """Whoever came before."""
    line = Line()
    line.push(of(1))
    line.push(of(2, priority=5))

    assert [waiting.ticket for waiting in emptied(line)] == [2, 1]


def test_who_has_failed_on_a_machine_does_not_go_there_again() -> None:
    """Others may, and it may go elsewhere."""
    line = Line()
    line.push(of(1, tried=frozenset({7})))  # type: ignore[arg-type]
    line.push(of(2))

    assert line.may_go(7)
    assert [waiting.ticket for waiting in emptied(line, 7)] == [2]
    assert not line.may_go(7)
    assert [waiting.ticket for waiting in emptied(line, 8)] == [1]


arrivals = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-1, 1), st.floats(1, 9000), st.sets(st.integers(1, 2), max_size=1)),
    max_size=40,
)


@given(arrivals, st.lists(st.integers(0, 39), max_size=10))
def test_everybody_is_served_once_and_in_the_order_of_their_key(
    arrivals: list[tuple[str, int, float, set[int]]], leaving: list[int]
) -> None:
    """Nothing is lost, nothing comes twice, whoever leaves in between; in a key and a class the first is first."""
    line = Line()
    for ticket, (key, priority, tokens, tried) in enumerate(arrivals):
        line.push(Waiting(ticket, "m", float(ticket), key, priority, tokens, 0, frozenset(tried)))
    left = {ticket for ticket in leaving if line.remove(ticket)}
    taken = [*emptied(line, 1), *emptied(line, 2)]

    assert len(line) == 0
    assert sorted(waiting.ticket for waiting in taken) == sorted(set(range(len(arrivals))) - left)
    for group in {(waiting.key, waiting.priority, waiting.tried) for waiting in taken}:
        tickets = [w.ticket for w in taken if (w.key, w.priority, w.tried) == group]
        assert tickets == sorted(tickets)


@given(st.lists(st.floats(1, 5000), min_size=20, max_size=60), st.lists(st.floats(1, 5000), min_size=20, max_size=60))
def test_two_keys_that_always_wait_get_the_same(first: list[float], second: list[float]) -> None:
    """The tokens that each has got differ by no more than a quantum and the largest request."""
    line = Line()
    for number, tokens in enumerate(first):
        line.push(of(number, "a", tokens=tokens))
    for number, tokens in enumerate(second):
        line.push(of(1000 + number, "b", tokens=tokens))
    got = {"a": 0.0, "b": 0.0}
    for _ in range(20):
        chosen = line.pop(1)
        assert chosen
        got[chosen.key] += chosen.tokens
        assert abs(got["a"] - got["b"]) <= QUANTUM + 2 * max(*first, *second)
        if {waiting.key for waiting in line} != {"a", "b"}:
            return


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=20), st.integers(0, 19))
def test_a_turn_is_known_beforehand(pushed: list[tuple[str, int]], which: int) -> None:
    """Who comes before whom, by priority and in the round of the keys; to ask changes nothing."""
    line = Line({"a": 2.0})
    for ticket, (key, priority) in enumerate(pushed):
        line.push(of(ticket, key, priority=priority, tokens=700.0))
    ticket = which % len(pushed)

    before = line.before(ticket)

    assert len(line) == len(pushed)
    assert [waiting.ticket for waiting in emptied(line)].index(ticket) == before
