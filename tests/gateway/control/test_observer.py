from dataclasses import dataclass, field

import pytest

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.limits import RateLimits
from olladist.gateway.control.observer import MODELS_MAX, Observer
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import Ask, Done, Grant, Held, Hello, Refuse, Usage, Use, Used
from olladist.inventory.model import ApiKey, Host
from olladist.ollama.names import parse_name

USAGE = Usage(prompt_tokens=10, output_tokens=40, load=0.02, prompt=0.1, output=2.0)


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Fleet:
    """gpu0, gpu1 ..., each up and holding the models named; `ask` and `done` as workers say them."""

    clock: Clock = field(default_factory=Clock)
    asked: int = 0

    def __post_init__(self) -> None:
        self.roster = Roster(self.clock)
        keys = Keys([ApiKey("ci", sha256="0" * 64, requests_per_minute=100, tokens_per_minute=45)], {})
        self.observer = Observer(self.roster, RateLimits(keys, self.clock))

    def holds(self, *models: str) -> None:
        names = [f"gpu{n}" for n in range(len(models))]
        self.roster.swap(
            [Backend(n, name, Host(name=name, address=name), 11434, f"{name}:1", 2) for n, name in enumerate(names)]
        )
        for number, held in enumerate(models):
            self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, tuple(row(name) for name in held.split(",") if name))

    def ask(self, model: str = "tiny", backend: int = 0, *, tried: tuple[int, ...] = (), key: str = "") -> int:
        self.asked += 1
        ask = Ask(self.asked, model, "chat", tried, key=key)
        self.observer.answered(1, ask, Grant(self.asked, backend))
        return self.asked

    def value(self, name: str, **labels: str) -> float:
        """A sample of the registry; 0 for one that is not there."""
        return self.observer.metrics.registry.get_sample_value(name, labels) or 0.0


def row(name: str, digest: str = "a" * 64) -> Row:
    return Row(parse_name(name).key, digest, 1.0, {"name": name})


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.holds("tiny", "tiny,Big:7b")
    return made


def test_a_request_is_counted_when_it_ends(fleet: Fleet) -> None:
    """By route, model, node, outcome and status, with its times, its tokens and their speed."""
    number = fleet.ask("TINY", 1)
    fleet.observer.done(1, Done(number, 1, "served", 200, 0.3, 2.5, 99, USAGE))

    labels = {"route": "chat", "model": "tiny:latest"}
    assert fleet.value("olladist_requests_total", **labels, node="gpu1", outcome="served", status="200") == 1
    assert fleet.value("olladist_first_byte_seconds_bucket", **labels, le="0.25") == 0
    assert fleet.value("olladist_first_byte_seconds_bucket", **labels, le="0.5") == 1
    assert fleet.value("olladist_request_seconds_sum", **labels) == 2.5
    assert fleet.value("olladist_tokens_total", model="tiny:latest", node="gpu1", kind="output") == 40
    assert fleet.value("olladist_tokens_total", model="tiny:latest", node="gpu1", kind="prompt") == 10
    assert fleet.value("olladist_token_seconds_total", model="tiny:latest", node="gpu1", kind="output") == 2.0
    assert fleet.value("olladist_output_tokens_per_second_sum", model="tiny:latest") == 20
    assert fleet.value("olladist_prompt_tokens_per_second_sum", model="tiny:latest") == 100
    assert fleet.value("olladist_load_seconds_count", model="tiny:latest") == 1


def test_an_answer_that_says_nothing_counts_no_tokens(fleet: Fleet) -> None:
    """A client that left, an error, an answer without counts."""
    fleet.observer.done(1, Done(fleet.ask(), 0, "left", 200, 0.1, 1.0))

    assert fleet.value("olladist_tokens_total", model="tiny:latest", node="gpu0", kind="output") == 0
    assert fleet.value("olladist_request_seconds_count", route="chat", model="tiny:latest") == 0
    assert fleet.observer.stats.whole.ever().left == 1


def test_what_cannot_be_true_counts_no_tokens_and_no_key_pays_for_it(fleet: Fleet) -> None:
    """A node that lies once would be in every sum for ever, and would lock a key with a rate out. Of one whose clock has jumped tokens count."""
    fleet.holds("tiny")
    lie = Usage(prompt_tokens=10, output_tokens=9 * 10**14, output=2.0)
    for usage in (lie, USAGE):
        lease = fleet.ask(key="ci")
        fleet.observer.done(1, Done(lease, 0, "served", 200, 0.1, 3.0, 5000, usage))
    lease = fleet.ask()
    fleet.observer.used(1, Used(lease, (Use(0.1, 3.0, 5000, lie), Use(0.1, 3.0, 5000, USAGE), Use(0.1, 1.0, 9, USAGE))))

    assert fleet.value("olladist_tokens_total", model="tiny:latest", node="gpu0", kind="output") == 120
    assert fleet.value("olladist_token_seconds_total", model="tiny:latest", node="gpu0", kind="output") == 4.0
    assert fleet.value("olladist_key_tokens_total", key="ci", kind="output") == 40
    assert fleet.observer.stats.whole.ever().output_tokens == 120
    assert fleet.observer.stats.whole.ever().requests == 5
    assert fleet.observer.admit(Ask(99, "tiny", "chat", key="ci")) is not None  # the 50 true ones are over its 45
    fleet.clock.time += 60
    assert fleet.observer.admit(Ask(99, "tiny", "chat", key="ci")) is None


def test_what_the_fleet_does_not_list_has_no_name(fleet: Fleet) -> None:
    """Names that clients make up are one series."""
    for name in ("nope", "a b", "x" * 1000):
        fleet.observer.done(1, Done(fleet.ask(name), 0, "retryable", 404))

    labels = {"route": "chat", "model": "other", "node": "gpu0", "outcome": "retryable", "status": "404"}
    assert fleet.value("olladist_requests_total", **labels) == 3


def test_models_that_come_and_go_do_not_grow_for_ever(fleet: Fleet) -> None:
    """Beyond the bound new names are counted together, known ones as ever."""
    fleet.holds(",".join(f"m{n}" for n in range(MODELS_MAX + 1)))
    labels = {fleet.observer.model_label(f"m{n}") for n in range(MODELS_MAX + 1)}

    assert len(labels) == MODELS_MAX + 1
    assert "other" in labels
    assert fleet.observer.model_label("M0:latest") == "m0:latest"


def test_a_status_of_a_backend_cannot_make_series_without_end(fleet: Fleet) -> None:
    """Statuses that HTTP does not know are one."""
    for status in (600, 999, 299):
        fleet.observer.done(1, Done(fleet.ask(), 0, "served", status))

    labels = {"route": "chat", "model": "tiny:latest", "node": "gpu0", "outcome": "served", "status": "other"}
    assert fleet.value("olladist_requests_total", **labels) == 3


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [("connect", -1, "connect"), ("died", -1, "died"), ("retryable", 503, "503"), ("retryable", 429, "other")],
)
def test_a_retry_has_the_reason_of_what_failed_before(fleet: Fleet, outcome: str, status: int, reason: str) -> None:
    """The worker says how the first try ended before it asks for the second."""
    fleet.observer.done(1, Done(fleet.ask(), 0, outcome, status))
    fleet.ask(backend=1, tried=(0,))

    assert fleet.value("olladist_retries_total", reason=reason) == 1
    assert fleet.observer.stats.whole.ever().retries == 1
    assert fleet.observer.stats.whole.ever().errors == 1


def test_a_refusal_is_counted_by_what_the_client_is_told(fleet: Fleet) -> None:
    """And its Done, which follows, is no request."""
    fleet.observer.answered(1, Ask(1, "nope", "embed"), Refuse(1, 404, "model 'nope' not found"))
    fleet.observer.done(1, Done(1, -1, "served", 404))

    assert fleet.value("olladist_refusals_total", route="embed", status="404") == 1
    assert fleet.observer.stats.whole.ever().refused == 1
    assert fleet.observer.stats.whole.ever().requests == 0


def test_a_key_pays_for_its_tokens(fleet: Fleet) -> None:
    """What its answers say is charged, and the next request is refused; requests and tokens are counted by key."""
    ask = Ask(7, "tiny", "chat", key="ci")
    assert fleet.observer.admit(ask) is None
    fleet.observer.done(1, Done(fleet.ask(key="ci"), 0, "served", 200, 0.1, 1.0, 9, USAGE))
    refused = fleet.observer.admit(ask)

    assert refused is not None
    assert refused.status == 429
    fleet.observer.answered(1, ask, refused)
    assert fleet.observer.limits.limited == {("ci", "tokens"): 1}
    assert fleet.value("olladist_key_tokens_total", key="ci", kind="output") == 40
    assert fleet.observer.stats.periods["key"]["ci"].ever().rate_limited == 1


def test_fallbacks_say_why_in_one_word(fleet: Fleet) -> None:
    """The text for people names hosts; the label does not."""

    def fall(model: str, tried: tuple[int, ...] = ()) -> None:
        fleet.asked += 1
        fleet.observer.answered(
            1, Ask(fleet.asked, model, "chat", tried), Grant(fleet.asked, 9, "cache", "gpu0 is away")
        )

    fall("nope")
    fall("tiny", (0, 1))
    fleet.roster.drain(["gpu1"])
    fall("big:7b")
    for _ in range(2):
        fleet.roster.probed(1, "refused")
    fall("big:7b")

    for reason in ("missing", "failed", "drained", "down"):
        assert fleet.value("olladist_fallbacks_total", kind="cache", reason=reason) == 1
    fleet.observer.done(1, Done(fleet.asked, 9, "served", 200, 0.01, 0.01))
    assert fleet.value("olladist_cache_hits_total") == 1


def test_a_kept_answer_costs_nothing(fleet: Fleet) -> None:
    """Its tokens were counted, and paid, when it was made."""
    fleet.observer.answered(
        1, Ask(1, "tiny", "embed", key="ci"), Grant(1, 9, "cache", "every host that has it is down")
    )
    fleet.observer.done(1, Done(1, 9, "served", 200, 0.01, 0.01, 99, USAGE))

    assert fleet.observer.admit(Ask(2, "tiny", "embed", key="ci")) is None
    assert fleet.value("olladist_tokens_total", model="tiny:latest", node="cache", kind="output") == 0
    assert fleet.observer.stats.whole.ever().output_tokens == 0


def test_loads_are_seen_in_what_nodes_have_in_memory(fleet: Fleet) -> None:
    """What is there at the first look was not loaded just now; what comes later was."""
    fleet.roster.loaded(0, (row("tiny"),))
    fleet.roster.loaded(0, (row("tiny"),))
    fleet.roster.loaded(0, ())
    fleet.roster.loaded(0, (row("tiny"),))

    assert fleet.value("olladist_model_loads_total", model="tiny:latest", node="gpu0") == 1


def test_a_worker_that_goes_leaves_nothing_behind(fleet: Fleet) -> None:
    """Its requests are forgotten; those that it holds when it comes back are counted at their end."""
    number = fleet.ask()
    fleet.observer.done(1, Done(fleet.ask(), 0, "died", -1))
    fleet.observer.gone(1)
    assert (fleet.observer._running, fleet.observer._failed) == ({}, {})
    fleet.observer.hello(2, Hello(0, 1, (Held(number, "gpu0", parse_name("tiny").key),)))
    fleet.observer.done(2, Done(number, 0, "served", 200, 0.1, 1.0))

    labels = {"route": "other", "model": "tiny:latest", "node": "gpu0", "outcome": "served", "status": "200"}
    assert fleet.value("olladist_requests_total", **labels) == 1


def test_workers_count_for_themselves(fleet: Fleet) -> None:
    """What they count is added up by worker; what nobody knows is left out."""
    fleet.observer.counted(0, {"connections": 2, "nonsense": 5})
    fleet.observer.counted(0, {"connections": 3})

    assert fleet.observer.counts == {(0, "connections"): 5}
