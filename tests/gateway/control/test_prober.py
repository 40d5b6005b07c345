import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from olladist.gateway.control.backends import Backend
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.roster import Roster, Seen
from olladist.gateway.control.watch import Pace, Way
from olladist.ollama.names import parse_name
from olladist.scheduling.health import State
from tests.gateway.control.nodes import CLOSE, FAST, HANG, Node, Raw, loaded, running, tag, task_group, wait_until

TINY = parse_name("tiny").key
# What is asked at all is asked once at the start; the rest of a test decides.
ONCE = replace(FAST, probe_every=3600, tags_every=3600, loaded_every=3600)
# For hosts that do not answer, and for nothing else.
SHORT = 0.3


class Probed:
    def __init__(self, roster: Roster, prober: Prober) -> None:
        self.roster, self.prober = roster, prober

    def seen(self, number: int = 0) -> Seen:
        return self.roster.seen[number]

    def is_(self, state: State, number: int = 0) -> Callable[[], bool]:
        return lambda: self.roster.seen[number].state is state


@asynccontextmanager
async def probing(*backends: Backend, pace: Pace = FAST, way: Way | None = None) -> AsyncIterator[Probed]:
    roster = Roster(time.monotonic)
    async with task_group() as tasks:
        prober = Prober(roster, tasks, pace=pace, way=way)
        roster.swap(backends)
        await prober.wait_first(10)
        yield Probed(roster, prober)


async def test_a_backend_is_up_with_its_models_known() -> None:
    """When a backend counts as up for the first time, its version, its models and what is in memory are known."""
    node = Node()
    node.holds(tag("tiny:latest"), tag("big:latest", "b" * 64))
    node.runs(loaded("tiny:latest"))
    async with running(node), probing(node.backend(), pace=ONCE) as probed:
        seen = probed.seen()

        assert (seen.state, seen.version) == (State.UP, "0.17.4")
        assert seen.keys == {TINY, parse_name("big").key}
        assert seen.warm == {TINY}
        assert node.asked == {"/api/version": 1, "/api/tags": 1, "/api/ps": 1}


async def test_a_tunnel_is_asked_under_a_loopback_name(tmp_path: Path) -> None:
    """Over a unix socket the Host header is the one that an Ollama on loopback accepts."""
    node = Node(path=tmp_path / "0.sock")
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend(), pace=ONCE) as probed:
        assert probed.seen().state is State.UP
        assert node.hosts == {"127.0.0.1:11434"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (HANG, "no answer to /api/version within 0.3 s"),
        (CLOSE, "closed the connection without an answer"),
        (Raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"), "before its answer was whole"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000), "more than 65536 bytes"),
        (Raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"), "does not speak HTTP"),
        ((500, {"error": "x"}), "/api/version answered 500"),
        ((302, {}), "/api/version answered 302"),
        ((403, {}), "does not accept the gateway's Host header"),
        ((200, {"hello": "world"}), "is no Ollama: its answer to /api/version has no version in it"),
    ],
)
async def test_a_bad_answer_is_a_failure_with_a_reason(answer: object, why: str) -> None:
    """Whatever stands at the address, the status says what is wrong there."""
    node = Node({"/api/version": answer})
    pace = replace(ONCE, probe_timeout=SHORT) if answer is HANG else ONCE
    async with running(node), probing(node.backend(), pace=pace) as probed:
        assert probed.seen().state is State.DOWN
        assert why in probed.seen().health.why


async def test_nobody_at_the_port() -> None:
    """A port where nothing listens is a connection that fails."""
    node = Node()
    async with running(node):
        pass
    async with probing(node.backend(), pace=ONCE) as probed:
        assert probed.seen().health.why.startswith("no connection")


async def test_the_reason_of_a_tunnel_comes_first() -> None:
    """Where it is known why a backend cannot be reached, that is said, not how the socket fails."""
    node = Node()
    async with running(node):
        pass
    way = Way(problem=lambda backend: f"{backend.node} refused the key")
    async with probing(node.backend(), pace=ONCE, way=way) as probed:
        assert probed.seen().health.why == "gpu1 refused the key"


async def test_a_way_that_is_being_opened_is_waited_for(tmp_path: Path) -> None:
    """While a tunnel opens a failed probe says nothing; the next one comes soon, and the first answer counts at once."""
    node = Node(path=tmp_path / "0.sock")
    node.holds(tag("tiny"))
    probes: list[str] = []

    def problem(backend: Backend) -> str:
        probes.append(backend.node)
        return "not open yet"

    way = Way(problem=problem, opening=lambda _: len(probes) < 3)
    async with probing(node.backend(), pace=ONCE, way=way) as probed:
        assert len(probes) == 3
        assert probed.seen().state is State.DOWN
    probes.clear()
    way = Way(problem=problem, opening=lambda _: True)
    roster = Roster(time.monotonic)
    async with task_group() as tasks:
        prober = Prober(roster, tasks, pace=ONCE, way=way)
        roster.swap([node.backend()])
        await wait_until(lambda: len(probes) > 1, "a second try")
        async with running(node):
            await prober.wait_first(10)
            assert roster.seen[0].state is State.UP


async def test_a_killed_node_goes_down_and_comes_back() -> None:
    """Down after two failed probes; when it is back, its new models are known before it is up."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend()) as probed:
        await node.stop()
        await wait_until(probed.is_(State.DOWN), "down")
        node.holds(tag("new"))
        states: list[tuple[State, frozenset[str]]] = []
        probed.roster.listeners.append(lambda c: states.append((c.after.state, c.after.keys)) if c.after else None)

        await node.start()
        await wait_until(probed.is_(State.UP), "up again")

        assert all(keys == {parse_name("new").key} for state, keys in states if state is not State.DOWN)


async def test_a_host_without_power_goes_down() -> None:
    """Something that accepts and never answers; after how long is scheduling.health's, in virtual time."""
    node = Node()
    node.holds(tag("tiny"))
    pace = replace(FAST, probe_timeout=SHORT)
    async with running(node), probing(node.backend(), pace=pace) as probed:
        node.answers = dict.fromkeys(node.answers, HANG)
        await wait_until(probed.is_(State.DOWN), "down")


async def test_lost_requests_are_followed_by_a_probe_at_once() -> None:
    """Two requests in a row that died: the backend is asked now, not at its next turn."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend(), pace=ONCE) as probed:
        probed.roster.ended(0, "died")
        assert node.asked["/api/version"] == 1
        probed.roster.ended(0, "died")
        await wait_until(lambda: node.asked["/api/version"] == 2, "the probe")
        await wait_until(probed.is_(State.UP), "its good name back")

        await node.stop()
        probed.roster.ended(0, "connect")
        probed.roster.ended(0, "connect")

        await wait_until(probed.is_(State.DOWN), "down by one probe")


async def test_listings_follow_the_host() -> None:
    """Models that come and go, and what is in memory, are seen without being asked for."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend()) as probed:
        node.holds(tag("tiny"), tag("new", "b" * 64))
        node.runs(loaded("new", "b" * 64, expires_at="2001-01-01T00:00:00Z"))

        await wait_until(lambda: len(probed.seen().keys) == 2, "the new model")
        await wait_until(lambda: probed.seen().warm == {parse_name("new").key}, "it is in memory, busy as it is")


async def test_garbage_in_listings_degrades_and_keeps_what_was_known() -> None:
    """A host whose models cannot be read any more keeps its last ones, and others are preferred to it."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend()) as probed:
        node.answers["/api/tags"] = (200, {"models": [{"name": 5}]})

        await wait_until(probed.is_(State.DEGRADED), "degraded")
        assert probed.seen().keys == {TINY}
        assert "cannot list its models: its answer lists a model without a name" in probed.seen().health.why
        node.holds(tag("tiny"))
        await wait_until(probed.is_(State.UP), "up again")


async def test_a_stalled_ps_does_not_degrade() -> None:
    """A host that is slow to say what is in memory stays up."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(node.backend(), pace=replace(FAST, listing_timeout=SHORT)) as probed:
        node.answers["/api/ps"] = HANG

        await wait_until(lambda: "no answer to /api/ps" in probed.seen().loaded_problem, "the problem is shown")

        assert probed.seen().state is State.UP


async def test_one_that_hangs_delays_nobody() -> None:
    """With a hundred backends of which half never answer, the others are up before the first of those has failed."""
    good = Node()
    good.holds(tag("tiny"))
    bad = Node({"/api/version": HANG})
    patient = replace(ONCE, probe_timeout=30)
    async with running(good, bad):
        backends = [(bad if n % 2 else good).backend(n, f"gpu{n}") for n in range(100)]
        roster = Roster(time.monotonic)
        async with task_group() as tasks:
            Prober(roster, tasks, pace=patient)
            roster.swap(backends)
            await wait_until(lambda: len(roster.live()) == 50, "the good ones")


async def test_waiting_for_the_first_answers_is_bounded() -> None:
    """A backend that does not answer holds up the start for the time given and no longer."""
    node = Node({"/api/version": HANG})
    async with running(node), task_group() as tasks:
        roster = Roster(time.monotonic)
        prober = Prober(roster, tasks, pace=replace(ONCE, probe_timeout=60))
        roster.swap([node.backend()])

        await prober.wait_first(0.05)

        assert roster.seen[0].state is State.DOWN


async def test_a_refresh_reads_what_is_old_and_waits_for_nobody_long() -> None:
    """Young listings are not read again; a slow host keeps what was known; who asks meanwhile shares the answer."""
    quick, slow = Node(), Node()
    for node in (quick, slow):
        node.holds(tag("tiny"))
    async with running(quick, slow), probing(quick.backend(0), slow.backend(1, "gpu2"), pace=ONCE) as probed:
        await probed.prober.refresh_tags(older_than=60, within=5)
        assert (quick.asked["/api/tags"], slow.asked["/api/tags"]) == (1, 1)

        slow.answers["/api/tags"] = HANG
        quick.holds(tag("new"))
        await asyncio.gather(*(probed.prober.refresh_tags(older_than=0, within=0.2) for _ in range(5)))

        assert probed.seen(0).keys == {parse_name("new").key}
        assert probed.seen(1).keys == {TINY}
        assert (quick.asked["/api/tags"], slow.asked["/api/tags"]) == (2, 2)


async def test_backends_come_and_go_with_the_roster() -> None:
    """After a swap the new backend is watched and the old one is left alone."""
    one, two = Node(), Node()
    for node in (one, two):
        node.holds(tag("tiny"))
    async with running(one, two), probing(one.backend(0, "one")) as probed:
        probed.roster.swap([two.backend(1, "two")])
        await wait_until(lambda: 1 in probed.roster.seen and probed.seen(1).state is State.UP, "the new one is up")
        probed.roster.swap([])
        asked = two.asked.total()
        probed.roster.swap([one.backend(2, "one")])
        await wait_until(lambda: probed.seen(2).state is State.UP, "the third is up")

        assert two.asked.total() - asked <= 3  # at most what was under way


async def test_backends_may_leave_at_any_moment() -> None:
    """A backend that is removed while its answer is on the way is forgotten, whichever comes first."""
    node = Node()
    node.holds(tag("tiny"))
    async with running(node), probing(pace=FAST) as probed:
        for generation in range(10):
            enough = node.asked.total() + generation % 7 + 1
            probed.roster.swap([node.backend(generation * 20 + n, f"g{generation}-{n}") for n in range(20)])
            await wait_until(partial(lambda enough: node.asked.total() >= enough, enough), "some are asked")
        probed.roster.swap([])

        assert probed.roster.seen == {}
