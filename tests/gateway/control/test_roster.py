from dataclasses import replace

import pytest

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import CACHE_ID, LOCAL_ID, Backend, local_backend
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.roster import Change, Roster
from olladist.inventory.model import Fallback, Host, Mode
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
    """Who is reached as before stays up with its models, whatever its slots are now; at another port it begins anew; who left is unknown."""
    roster = Roster(Clock())
    roster.swap([backend(1), backend(2), backend(3)])
    for number in (1, 2, 3):
        roster.probed(number, "", "0.17.4")
        roster.listed(number, (row("a"),))
    changes: list[Change] = []
    roster.listeners.append(changes.append)

    roster.swap([replace(backend(1), slots=9), replace(backend(2), port=9), backend(4)])

    assert {n: s.state for n, s in roster.seen.items()} == {1: State.UP, 2: State.DOWN, 4: State.DOWN}
    assert set(roster.holders("a")) == {1}
    assert roster.backends[1].slots == 9
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


BOTH = (Fallback.LOCAL, Fallback.CACHE)
LOCAL_URL = "http://127.0.0.1:11435"


def beside(mode: Mode = Mode.DISTRIBUTED, fallback: tuple[Fallback, ...] = BOTH) -> Roster:
    """gpu1 and gpu2 hold a, the local one a and b; all are up."""
    roster = Roster(Clock(), Serving(mode, fallback, LOCAL_URL))
    roster.cache = "/run/x/api.sock"
    roster.swap([backend(1), backend(2), local_backend(LOCAL_URL, ())])
    for number in (1, 2, LOCAL_ID):
        roster.probed(number, "", "0.17.4")
        roster.listed(number, (row("a"), row("b", "b" * 64)) if number == LOCAL_ID else (row("a"),))
    return roster


def lose(roster: Roster, *numbers: int) -> None:
    for number in (*numbers, *numbers):
        roster.probed(number, "no connection")


def test_the_local_ollama_is_no_part_of_the_fleet() -> None:
    """It is probed and listed like the others, and counts neither as a node nor as a holder."""
    roster = beside()

    assert list(roster.nodes) == [1, 2]
    assert sorted(roster.live()) == ["gpu1", "gpu2"]
    assert sorted(roster.holders("a")) == [1, 2]
    assert not roster.holders("b")
    assert roster.local
    assert (roster.local.node, roster.local.address, roster.local.url) == ("local", "127.0.0.1:11435", LOCAL_URL)
    assert roster.seen[LOCAL_ID].state is State.UP


@pytest.mark.parametrize(
    ("mode", "fallback", "in_play", "holders_of_b"),
    [
        (Mode.DISTRIBUTED, BOTH, (1, 2, LOCAL_ID), (LOCAL_ID,)),
        (Mode.DISTRIBUTED, (Fallback.CACHE,), (1, 2), ()),
        (Mode.LOCAL, BOTH, (LOCAL_ID, 1, 2), (LOCAL_ID,)),
        (Mode.LOCAL, (), (LOCAL_ID,), (LOCAL_ID,)),
        (Mode.STANDALONE, BOTH, (LOCAL_ID,), (LOCAL_ID,)),
    ],
)
def test_the_mode_says_who_answers(
    mode: Mode, fallback: tuple[Fallback, ...], in_play: tuple[int, ...], holders_of_b: tuple[int, ...]
) -> None:
    """The first choice of the mode comes first, and nobody answers whom the mode or the fallback leaves out."""
    roster = beside(mode, fallback)

    assert roster.in_play() == in_play
    assert roster.holders_in_play("b") == holders_of_b
    assert [b.id for b in roster.able(roster.backends)] == list(in_play)


@pytest.mark.parametrize(
    ("mode", "lost", "shown"),
    [
        (Mode.DISTRIBUTED, (), ["gpu1", "gpu2"]),
        (Mode.DISTRIBUTED, (1,), ["gpu2"]),
        (Mode.DISTRIBUTED, (1, 2), ["local"]),
        (Mode.DISTRIBUTED, (1, 2, LOCAL_ID), []),
        (Mode.LOCAL, (), ["local"]),
        (Mode.LOCAL, (LOCAL_ID,), ["gpu1", "gpu2"]),
        (Mode.STANDALONE, (), ["local"]),
        (Mode.STANDALONE, (LOCAL_ID,), []),
    ],
)
def test_listings_show_what_would_answer(mode: Mode, lost: tuple[int, ...], shown: list[str]) -> None:
    """The first choice of the mode, or what stands in for it once nobody of it can be reached."""
    roster = beside(mode)
    lose(roster, *lost)

    assert sorted(roster.shown()) == shown


def test_the_best_are_asked_first() -> None:
    """Who is not well comes after who is, but before what stands in; who is down is not asked."""
    roster = beside()
    roster.probed(1, "no answer within 2 s", silent=True)

    assert [b.id for b in roster.able(roster.backends)] == [2, 1, LOCAL_ID]
    lose(roster, 2)
    assert [b.id for b in roster.able(roster.backends)] == [1, LOCAL_ID]


def test_workers_are_told_of_roles() -> None:
    """Who the mode leaves out has no models in the table, who is drained no role; both stay in it. The cache is there while it is used."""
    roster = beside()
    assert [(r.id, r.role, len(r.models)) for r in roster.for_workers()] == [
        (1, "node", 1),
        (2, "node", 1),
        (LOCAL_ID, "local", 2),
        (CACHE_ID, "cache", 0),
    ]
    told: list[str] = []
    roster.told.append(lambda: told.append(roster.serving.mode))

    roster.serve(replace(roster.serving, mode=Mode.STANDALONE))
    roster.serve(replace(roster.serving, mode=Mode.STANDALONE))
    assert [(r.role, len(r.models)) for r in roster.for_workers()] == [("node", 0), ("node", 0), ("local", 2)]

    roster.serve(Serving(Mode.DISTRIBUTED, (Fallback.CACHE,), LOCAL_URL))
    roster.drain({"gpu2"})
    roster.drain({"gpu2"})
    assert [(r.role, r.up, len(r.models)) for r in roster.for_workers()] == [
        ("node", True, 1),
        ("drained", True, 1),
        ("local", True, 0),
        ("cache", True, 0),
    ]
    assert told == ["standalone", "distributed", "distributed"]


def test_contents_of_those_in_play() -> None:
    """What goes by a name, as far as anybody who answers requests has said."""
    roster = beside()
    roster.listed(2, (row("a", "c" * 64),))

    assert roster.digests("a") == {"a" * 64, "c" * 64}
    assert roster.digests("b") == {"b" * 64}
    assert roster.digests("nope") == frozenset()
    roster.serve(replace(roster.serving, mode=Mode.STANDALONE))
    assert roster.digests("a") == {"a" * 64}
