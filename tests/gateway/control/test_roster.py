from dataclasses import replace

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.roster import Change, Roster
from olladist.inventory.model import Host
from olladist.scheduling.health import State


def backend(number: int) -> Backend:
    node = f"gpu{number}"
    return Backend(number, node, Host(name=node, address=node), 11434, f"{node}:11434", 2)


def row(key: str, digest: str = "a" * 64) -> Row:
    return Row(key, digest, 1.0, {"name": key})


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_holders_follow_the_listings() -> None:
    """Who holds a model is known from its last listing, and forgotten when it says that it has not got it."""
    roster = Roster(Clock())
    roster.swap([backend(1), backend(2)])
    roster.listed(1, (row("a"), row("b")))
    roster.listed(2, (row("a"),))
    assert sorted(roster.holders("a")) == [1, 2]

    roster.listed(1, (row("b"),))
    roster.forget(2, "a")

    assert not roster.holders("a")
    assert set(roster.holders("b")) == {1}


def test_content_in_memory_is_warm_under_every_name() -> None:
    """Names that share a digest share a runner, though /api/ps shows only the one that loaded it."""
    roster = Roster(Clock())
    roster.swap([backend(1)])
    roster.listed(1, (row("a", "1" * 64), row("copy-of-a", "1" * 64), row("b", "2" * 64)))
    roster.loaded(1, (row("a", "1" * 64),))

    assert roster.seen[1].warm == {"a", "copy-of-a"}


def test_since_is_the_last_change_of_state() -> None:
    """Only a change of state moves `since`."""
    clock = Clock()
    roster = Roster(clock)
    roster.swap([backend(1)])
    clock.time = 101
    roster.probed(1, "", "0.17.4")
    clock.time = 102
    roster.probed(1, "", "0.17.4")

    assert (roster.seen[1].state, roster.seen[1].since, roster.seen[1].version) == (State.UP, 101, "0.17.4")


def test_a_swap_keeps_what_is_known_of_those_that_stay() -> None:
    """An unchanged backend stays up with its models; a changed one begins anew; one that left is unknown."""
    roster = Roster(Clock())
    roster.swap([backend(1), backend(2), backend(3)])
    for number in (1, 2, 3):
        roster.probed(number, "", "0.17.4")
        roster.listed(number, (row("a"),))
    changes: list[Change] = []
    roster.listeners.append(changes.append)

    roster.swap([backend(1), replace(backend(2), slots=9), backend(4)])

    assert {n: s.state for n, s in roster.seen.items()} == {1: State.UP, 2: State.DOWN, 4: State.DOWN}
    assert set(roster.holders("a")) == {1}
    removed = [c.backend.id for c in changes if c.after is None]
    added = [c.backend.id for c in changes if c.before is None]
    assert (sorted(removed), sorted(added)) == ([2, 3], [2, 4])


def test_news_of_those_who_left_is_ignored() -> None:
    """Probes and requests that outlive a reload change nothing."""
    roster = Roster(Clock())
    roster.probed(1, "", "0.17.4")
    roster.ended(1, "died")
    roster.listed(1, (row("a"),))
    roster.listing_failed(1, "x")
    roster.loaded(1, ())
    roster.loaded_failed(1, "x")
    roster.forget(1, "a")

    assert roster.seen == {}
    assert not roster.holders("a")


def test_the_table_for_workers() -> None:
    """Workers get every backend that ever answered with its models, and whether it may be used."""
    roster = Roster(Clock())
    roster.swap([backend(3), backend(2), backend(1)])
    for number, problem in ((1, ""), (2, ""), (2, "x"), (2, "x"), (3, "x"), (3, "x")):
        roster.probed(number, problem)
    roster.listed(1, (row("b"), row("a")))

    one, two = roster.for_workers()

    assert (one.id, one.node, one.address, one.slots, one.up, one.models) == (
        1,
        "gpu1",
        "gpu1:11434",
        2,
        True,
        ("a", "b"),
    )
    assert (two.id, two.up, two.models) == (2, False, ())


def test_a_failed_ps_takes_nothing_away() -> None:
    """What was in memory stands, with the reason why it may be old; the next answer clears it."""
    roster = Roster(Clock())
    roster.swap([backend(1)])
    roster.probed(1, "", "0.17.4")
    roster.loaded(1, (row("a"),))
    for _ in range(9):
        roster.loaded_failed(1, "no answer")

    assert (roster.seen[1].state, roster.seen[1].loaded_problem, len(roster.seen[1].loaded)) == (
        State.UP,
        "no answer",
        1,
    )
    roster.loaded(1, ())
    assert roster.seen[1].loaded_problem == ""
