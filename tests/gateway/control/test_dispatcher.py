from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from olladist.gateway.control import refusals
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import LOCAL_ID, Backend, local_backend
from olladist.gateway.control.dispatcher import AVOID_SECONDS, Dispatcher
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import OUTCOMES, Ask, Done, Grant, Held, Hello, Refuse
from olladist.inventory.model import Fallback, Host, Mode, Strategy
from olladist.ollama.names import parse_name
from olladist.scheduling.health import State

TINY = parse_name("tiny").key


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def backend(number: int) -> Backend:
    node = f"gpu{number}"
    return Backend(number, node, Host(name=node, address=node), 11434, f"{node}:11434", 2)


def fleet(*holders: str, strategy: Strategy = Strategy.ROUND_ROBIN) -> tuple[Roster, Dispatcher, Clock]:
    """gpu0, gpu1 ..., each up and holding the models named, with commas."""
    clock = Clock()
    roster = Roster(clock)
    dispatcher = Dispatcher(roster, strategy, clock)
    roster.swap([backend(n) for n in range(len(holders))])
    for number, names in enumerate(holders):
        roster.probed(number, "", "0.17.4")
        rows = tuple(Row(parse_name(n).key, "a" * 64, 1.0, {"name": n}) for n in names.split(",") if n)
        roster.listed(number, rows)
    return roster, dispatcher, clock


def grant(dispatcher: Dispatcher, ask: Ask, worker: int = 1) -> int:
    answer = dispatcher.ask(worker, ask)
    assert isinstance(answer, Grant), answer
    assert answer.id == ask.id
    return answer.backend


def refuse(dispatcher: Dispatcher, ask: Ask) -> Refuse:
    answer = dispatcher.ask(1, ask)
    assert isinstance(answer, Refuse), answer
    assert answer.id == ask.id
    return answer


def test_any_spelling_finds_its_holder() -> None:
    """Default tag, registry, namespace and case do not matter."""
    _, dispatcher, _ = fleet("", "Tiny")

    for number, spelling in enumerate(
        ["tiny", "TINY:latest", "library/tiny", "registry.ollama.ai/library/Tiny:Latest"]
    ):
        assert grant(dispatcher, Ask(number, spelling, "chat")) == 1


def test_holders_take_turns() -> None:
    """Requests for each model rotate by themselves, and a retry does not shift whose turn it is."""
    _, dispatcher, _ = fleet("a,b", "a,b")

    assert [grant(dispatcher, Ask(n, "a", "chat")) for n in range(2)] == [0, 1]
    assert grant(dispatcher, Ask(2, "b", "chat")) == 0
    assert grant(dispatcher, Ask(3, "a", "chat", tried=(0,))) == 1
    assert grant(dispatcher, Ask(4, "a", "chat")) == 0


def test_what_was_tried_is_not_tried_again() -> None:
    """When all holders have been tried, the refusal names them."""
    _, dispatcher, _ = fleet("tiny", "tiny")

    assert grant(dispatcher, Ask(1, "tiny", "chat", tried=(1,))) == 0
    refused = refuse(dispatcher, Ask(2, "tiny", "chat", tried=(1, 0)))

    assert (refused.status, refused.text) == (503, "model 'tiny' could not be served by gpu0, gpu1")
    assert refused.retry_after > 0


@pytest.mark.parametrize(
    ("route", "model", "status", "text"),
    [
        ("chat", "nope", 404, "model 'nope' not found"),
        ("v1/chat/completions", "NOPE:x", 404, "model 'NOPE:x' not found"),
        ("embed", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("generate", "", 404, "model '' not found"),
        ("chat", "", 400, "model is required"),
        ("generate", "../../etc", 404, "model '../../etc' not found"),
    ],
)
def test_an_unknown_model_is_refused_as_ollama_does(route: str, model: str, status: int, text: str) -> None:
    """When no host has the model, the words and the status are those of the route."""
    _, dispatcher, _ = fleet("tiny")

    refused = refuse(dispatcher, Ask(1, model, route))

    assert (refused.status, refused.text, refused.retry_after) == (status, text, 0)


def test_a_model_only_on_hosts_that_are_away_is_no_unknown_model() -> None:
    """503 with the names of the hosts and when to come again, not 404."""
    roster, dispatcher, _ = fleet("tiny", "", "tiny")
    for number in (0, 2, 0, 2):
        roster.probed(number, "no answer")

    refused = refuse(dispatcher, Ask(1, "tiny", "chat"))

    assert refused.status == 503
    assert refused.text == "model 'tiny' is on gpu0, gpu2 only, which cannot be reached"
    assert refused.retry_after > 0


def test_a_fleet_that_is_away_knows_of_no_model() -> None:
    """With every host down an unknown model may be on any of them: 503; the list of names is short."""
    roster, dispatcher, _ = fleet(*[""] * 7)
    for number in (*range(7), *range(7)):
        roster.probed(number, "no answer")

    refused = refuse(dispatcher, Ask(1, "tiny", "chat"))

    assert (refused.status, refused.text) == (503, "no host can be reached: gpu0, gpu1, gpu2, gpu3, gpu4 and 2 more")


def test_a_model_may_be_on_a_host_that_is_still_connecting() -> None:
    """Just after the start an unknown model is not refused for good; later a host that never came counts as away."""
    roster, dispatcher, clock = fleet("tiny")
    roster.swap([*roster.backends.values(), backend(7)])

    refused = refuse(dispatcher, Ask(1, "new", "chat"))
    assert (refused.status, refused.text) == (503, "model 'new' is not known yet, still connecting to gpu7")
    clock.time += refusals.STARTING
    assert refuse(dispatcher, Ask(1, "new", "chat")).status == 404


def test_a_refusal_says_who_failed_and_who_is_away() -> None:
    """A holder that was tried and one that is down are told apart."""
    roster, dispatcher, _ = fleet("tiny", "tiny")
    roster.probed(1, "x")
    roster.probed(1, "x")

    refused = refuse(dispatcher, Ask(1, "tiny", "chat", tried=(0,)))

    assert refused.text == "model 'tiny' could not be served by gpu0; gpu1 cannot be reached"


def test_a_suspect_is_a_last_resort() -> None:
    """A degraded backend gets work when no other can have it."""
    roster, dispatcher, _ = fleet("tiny", "tiny")
    roster.probed(0, "no answer within 2 s")
    assert roster.seen[0].state is State.DEGRADED

    assert {grant(dispatcher, Ask(n, "tiny", "chat")) for n in range(4)} == {1}
    assert grant(dispatcher, Ask(9, "tiny", "chat", tried=(1,))) == 0


def test_lost_requests_make_a_backend_suspect() -> None:
    """Two in a row, though it has not been probed."""
    roster, dispatcher, _ = fleet("tiny")
    for number, outcome in enumerate(("connect", "died")):
        grant(dispatcher, Ask(number, "tiny", "chat"))
        dispatcher.done(1, Done(number, 0, outcome, -1))

    assert roster.seen[0].state is State.DEGRADED


def test_a_404_is_believed() -> None:
    """A backend that answers 404 for a listed model is no holder any more, and is asked for its models."""
    missing: list[int] = []
    roster, _, clock = fleet("tiny")
    dispatcher = Dispatcher(roster, Strategy.ROUND_ROBIN, clock, missing.append)
    grant(dispatcher, Ask(1, "tiny", "chat"))

    dispatcher.done(1, Done(1, 0, "retryable", 404))

    assert missing == [0]
    assert refuse(dispatcher, Ask(2, "tiny", "chat")).status == 404


@pytest.mark.parametrize("status", sorted(AVOID_SECONDS))
def test_a_backend_that_could_not_load_a_model_rests_for_that_model(status: int) -> None:
    """After 500 or 503 others get the model for a while, but it stays a last resort, and other models are not touched."""
    _, dispatcher, clock = fleet("a,b", "a,b")
    assert grant(dispatcher, Ask(1, "a", "chat")) == 0
    dispatcher.done(1, Done(1, 0, "retryable", status))

    assert {grant(dispatcher, Ask(n, "a", "chat")) for n in range(2, 6)} == {1}
    assert grant(dispatcher, Ask(6, "a", "chat", tried=(1,))) == 0
    assert {grant(dispatcher, Ask(n, "b", "chat")) for n in range(7, 9)} == {0, 1}
    clock.time += AVOID_SECONDS[status]
    assert {grant(dispatcher, Ask(n, "a", "chat")) for n in range(10, 12)} == {0, 1}


def test_a_client_that_leaves_before_the_grant_arrives_is_no_evidence() -> None:
    """A Done that crosses its grant releases it and says nothing about the backend."""
    roster, dispatcher, _ = fleet("tiny")
    for number in range(3):
        grant(dispatcher, Ask(number, "tiny", "chat"))
        dispatcher.done(1, Done(number, -1, "left", -1))

    assert dispatcher.ledger.total == 0
    assert roster.seen[0].state is State.UP


def test_an_id_is_used_once_at_a_time() -> None:
    """A second ask under a held id is the worker's bug."""
    _, dispatcher, _ = fleet("tiny")
    grant(dispatcher, Ask(1, "tiny", "chat"))

    with pytest.raises(ValueError, match="ask 1"):
        dispatcher.ask(1, Ask(1, "tiny", "chat"))


def test_what_a_worker_runs_already_is_counted() -> None:
    """After a restart of the control process the leases a worker still has are load, and end like any other."""
    _, dispatcher, _ = fleet("tiny", "tiny", strategy=Strategy.LEAST_LOADED)
    dispatcher.hello(5, Hello(0, 99, (Held(7, "gpu0", TINY), Held(8, "gone", TINY))))

    assert dispatcher.ledger.in_flight.get(0, 0) == dispatcher.ledger.total == 1
    assert grant(dispatcher, Ask(9, "tiny", "chat"), worker=5) == 1
    dispatcher.done(5, Done(7, 0, "served", 200))
    assert dispatcher.ledger.in_flight.get(0, 0) == 0


def test_backends_with_the_model_in_memory_come_first() -> None:
    """Under model-affinity the warm holder takes what it has slots for."""
    roster, dispatcher, _ = fleet("tiny", "tiny", "tiny", strategy=Strategy.MODEL_AFFINITY)
    roster.loaded(1, (Row(TINY, "a" * 64, 1.0, {"name": "tiny"}),))

    assert [grant(dispatcher, Ask(n, "tiny", "chat")) for n in range(2)] == [1, 1]


def test_a_backend_that_left_the_inventory_gets_nothing_more() -> None:
    """After a swap it is not chosen, and what ran there still ends well."""
    roster, dispatcher, _ = fleet("tiny", "tiny")
    first = grant(dispatcher, Ask(1, "tiny", "chat"))
    roster.swap([b for n, b in roster.backends.items() if n != first])

    assert grant(dispatcher, Ask(2, "tiny", "chat")) == 1 - first
    dispatcher.done(1, Done(1, first, "died", -1))
    assert dispatcher.ledger.in_flight.get(first, 0) == 0


EVERYBODY = st.sampled_from([0, 1, 2, 3, LOCAL_ID])
URL = "http://127.0.0.1:11435"


class Machine(RuleBasedStateMachine):
    """Workers ask, retry, cancel, die and come back while hosts come and go and the mode changes: counts stay exact and no rule is broken."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.roster = Roster(self.clock)
        self.dispatcher = Dispatcher(self.roster, Strategy.MODEL_AFFINITY, self.clock)
        self.roster.swap([*map(backend, range(4)), local_backend(URL, ())])
        self.next_id = 0
        self.worker = 0
        self.running: dict[tuple[int, int], tuple[int, str, tuple[int, ...]]] = {}

    @rule(number=EVERYBODY, problem=st.sampled_from(["", "", "no answer"]))
    def probe(self, number: int, problem: str) -> None:
        self.roster.probed(number, problem, "" if problem else "0.17.4")

    @rule(number=EVERYBODY, names=st.sets(st.sampled_from("ab")))
    def list_models(self, number: int, names: set[str]) -> None:
        self.roster.listed(number, tuple(Row(parse_name(n).key, n * 64, 1.0, {"name": n}) for n in sorted(names)))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(numbers=st.sets(st.integers(0, 3), min_size=1))
    def reload(self, numbers: set[int]) -> None:
        self.roster.swap([*map(backend, sorted(numbers)), local_backend(URL, ())])

    @rule(mode=st.sampled_from(Mode), stands_in=st.sampled_from([(), (Fallback.LOCAL,), tuple(Fallback)]))
    def switch(self, mode: Mode, stands_in: tuple[Fallback, ...]) -> None:
        self.roster.serve(Serving(mode, stands_in, URL))

    @rule(numbers=st.sets(st.integers(0, 3), max_size=2))
    def drain(self, numbers: set[int]) -> None:
        self.roster.drain({f"gpu{number}" for number in numbers})

    @rule(model=st.sampled_from(["a", "B:latest", "nope"]), affinity=st.integers(0, 3))
    def ask(self, model: str, affinity: int) -> None:
        self._ask(model, (), affinity)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), status=st.sampled_from([200, 404, 500, 503]))
    def end(self, data: st.DataObject, outcome: str, status: int) -> None:
        """An exchange ends; where another backend may do better, it is tried there at once."""
        worker, number = data.draw(st.sampled_from(sorted(self.running)))
        chosen, model, tried = self.running.pop((worker, number))
        backend = -1 if outcome == "left" and data.draw(st.booleans()) else chosen
        self.dispatcher.done(worker, Done(number, backend, outcome, status))
        if outcome in {"connect", "died", "retryable"} and worker == self.worker:
            self._ask(model, (*tried, chosen), 0)

    @rule()
    def end_something_unknown(self) -> None:
        self.dispatcher.done(self.worker, Done(10**6, 2, "served", 200))

    @rule()
    def worker_dies_and_another_starts(self) -> None:
        held = [key for key in self.running if key[0] == self.worker]
        assert self.dispatcher.gone(self.worker) == len(held)
        for key in held:
            del self.running[key]
        self.worker += 1

    @rule()
    def connection_breaks_and_the_worker_returns(self) -> None:
        held = {key: value for key, value in self.running.items() if key[0] == self.worker}
        self.dispatcher.gone(self.worker)
        self.worker += 1
        nodes = {n: b.node for n, b in self.roster.backends.items()}
        leases = tuple(Held(key[1], nodes.get(value[0], "gone"), value[1]) for key, value in held.items())
        self.dispatcher.hello(self.worker, Hello(0, 1, leases))
        for key, value in held.items():
            del self.running[key]
            if value[0] in nodes:
                self.running[self.worker, key[1]] = value

    def _ask(self, model: str, tried: tuple[int, ...], affinity: int) -> None:
        self.next_id += 1
        key = parse_name(model).key
        roster = self.roster
        drained = {n for n, b in roster.backends.items() if b.node in roster.drained}
        able = {
            n
            for n, s in roster.seen.items()
            if s.state is not State.DOWN and key in s.keys and n not in {*tried, *drained}
        }
        able &= set(roster.in_play())
        first = {n for n in able if roster.backends[n].role is roster.serving.order[0]}
        answer = self.dispatcher.ask(self.worker, Ask(self.next_id, model, "chat", tried, affinity))
        assert answer is not None
        assert answer.id == self.next_id
        if isinstance(answer, Grant):
            assert answer.backend in (first or able)
            assert bool(answer.fallback) == (not first)
            self.running[self.worker, self.next_id] = (answer.backend, model, tried)
        else:
            assert not able
            assert (answer.status == 503) == (answer.retry_after > 0)
            assert answer.text

    @invariant()
    def counts_are_what_runs(self) -> None:
        ledger = self.dispatcher.ledger
        assert ledger.total == len(self.running)
        by_backend = Counter(value[0] for value in self.running.values())
        by_model = Counter((value[0], parse_name(value[1]).key) for value in self.running.values())
        for number in (0, 1, 2, 3, LOCAL_ID):
            assert ledger.in_flight.get(number, 0) == by_backend[number]
            assert ledger.models_in_flight(number) == {k[1]: c for k, c in by_model.items() if k[0] == number}


TestMachine = Machine.TestCase


def test_what_nobody_has_is_refused_by_a_node_that_is_well() -> None:
    """The least busy one that is up, once; nobody where a try has failed, or where none is up."""
    roster, dispatcher, clock = fleet("a", "", "")
    grant(dispatcher, Ask(1, "a", "chat"))
    roster.probed(1, "refused", "")
    clock.time += 1
    roster.probed(1, "refused", "")

    assert dispatcher.anybody(1, Ask(2, "nope", "chat")) == Grant(2, 2, final=True)
    assert dispatcher.anybody(1, Ask(3, "nope", "chat", (2,))) is None
    assert dispatcher.ledger.in_flight[2] == 1
    assert Dispatcher(Roster(clock), Strategy.ROUND_ROBIN, clock).anybody(1, Ask(4, "nope", "chat")) is None
