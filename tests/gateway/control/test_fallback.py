"""Who takes a request, by mode, by what stands in, and by who is there."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control import fallback
from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import CACHE_ID, LOCAL_ID, Backend, Role, local_backend
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.fallback import Passed
from olladist.gateway.control.ledger import Lease
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import Ask, Done, Grant, Refuse
from olladist.inventory.model import Fallback, Host, Mode, Strategy
from olladist.ollama.names import is_cloud, parse_name
from olladist.scheduling.health import State

TINY = parse_name("tiny").key
BOTH = (Fallback.LOCAL, Fallback.CACHE)
URL = "http://127.0.0.1:11435"
DIGEST = "d" * 64


@dataclass
class Kept:
    """One answer, made with contents a."""

    there: bool = True

    def has(self, digest: str, contents: frozenset[str]) -> bool:
        return self.there and digest == DIGEST and fallback.may_be_given("a" * 64, contents)

    def expect(self, digest: str, contents: str) -> bool:
        return digest == DIGEST and contents == "a" * 64


def backend(number: int) -> Backend:
    return Backend(number, f"gpu{number}", Host(name=f"gpu{number}", address="h"), 11434, f"h:{number}", 1)


class Gateway:
    """gpu0, gpu1, gpu2 and a local Ollama; all are up and hold tiny unless a test says otherwise."""

    def __init__(self, mode: Mode = Mode.DISTRIBUTED, stands_in: tuple[Fallback, ...] = BOTH) -> None:
        self.roster = Roster(lambda: 100.0, Serving(mode, stands_in, URL))
        self.roster.cache = "/run/x/api.sock"
        self.kept = Kept()
        self.cloud: int | None = None
        self.dispatcher = Dispatcher(
            self.roster, Strategy.LEAST_LOADED, lambda: 100.0, kept=self.kept, designated=lambda: self.cloud
        )
        self.roster.swap([*map(backend, range(3)), local_backend(URL, ())])
        for number in self.roster.backends:
            self.roster.probed(number, "", "0.17.4")
            self.hold(number)

    def hold(self, number: int, digest: str = "a" * 64) -> None:
        self.roster.listed(number, (Row(TINY, digest, 1.0, {"name": "tiny"}),) if digest else ())

    def down(self, *numbers: int) -> None:
        for number in (*numbers, *numbers):
            self.roster.probed(number, "no connection")

    def ask(self, tried: tuple[int, ...] = (), only: str = "", cache: str = "", model: str = "tiny") -> Grant | Refuse:
        """Asks, and ends it at once."""
        answer = self.dispatcher.ask(1, Ask(7, model, "embed", tried, cache=cache, keep=bool(cache), only=only))
        assert answer is not None
        if isinstance(answer, Grant):
            self.dispatcher.done(1, Done(7, answer.backend, "left", 0))
        return answer

    def fail(self, number: int, outcome: str, status: int = 0) -> None:
        """A request for tiny ends like this on a backend."""
        self.dispatcher.ledger.hold(1, 8, Lease(number, TINY))
        self.dispatcher.done(1, Done(8, number, outcome, status))


def granted(answer: Grant | Refuse) -> tuple[int, str, str]:
    assert isinstance(answer, Grant), answer
    return answer.backend, answer.fallback, answer.reason


def refused(answer: Grant | Refuse) -> Refuse:
    assert isinstance(answer, Refuse), answer
    return answer


NODES = st.sets(st.integers(0, 2))
EVERYBODY = st.sets(st.sampled_from([0, 1, 2, LOCAL_ID]))


@given(
    mode=st.sampled_from(Mode),
    stands_in=st.sampled_from([(), (Fallback.LOCAL,), (Fallback.CACHE,), BOTH]),
    holders=EVERYBODY,
    down=EVERYBODY,
    drained=NODES,
    tried=st.lists(st.sampled_from([0, 1, 2, LOCAL_ID]), unique=True),
    only=st.sampled_from(["", "fallback", "cache"]),
    kept=st.booleans(),
)
def test_the_chain_has_no_gap_and_no_short_cut(
    mode: Mode,
    stands_in: tuple[Fallback, ...],
    holders: set[int],
    down: set[int],
    drained: set[int],
    tried: list[int],
    only: str,
    kept: bool,
) -> None:
    """The first role in the mode's order that has somebody takes it, then the cache; nobody who is down, drained, tried or barred does."""
    gateway = Gateway(mode, stands_in)
    for number in (0, 1, 2, LOCAL_ID):
        gateway.hold(number, "a" * 64 if number in holders else "")
    gateway.down(*down)
    gateway.roster.drain({f"gpu{number}" for number in drained})
    gateway.kept.there = kept
    roster, order = gateway.roster, gateway.roster.serving.order

    answer = gateway.ask(tuple(tried), only, DIGEST)

    able = (holders - down - drained - set(tried)) if only != "cache" else set()
    allowed = order[1:] if only else order
    expected = next((role for role in allowed if any(roster.backends[n].role is role for n in able)), None)
    if expected is not None:
        number, word, _ = granted(answer)
        assert number in able
        assert roster.backends[number].role is expected
        assert word == ("" if expected is order[0] else {Role.LOCAL: "local", Role.NODE: "nodes"}[expected])
    elif isinstance(answer, Grant):
        assert (answer.backend, answer.fallback) == (CACHE_ID, "cache")
        assert kept
        assert Fallback.CACHE in stands_in
        assert mode is not Mode.STANDALONE
    else:
        assert answer.status in {404, 503}
        assert (answer.retry_after > 0) == (answer.status == 503)
    if isinstance(answer, Grant):
        assert bool(answer.reason) == bool(answer.fallback)
        assert answer.reason.isascii()
        assert answer.reason == "" or answer.reason.isprintable()


@pytest.mark.parametrize(
    ("only", "taken"),
    [("", (0, "", "")), ("fallback", (LOCAL_ID, "local", "gpu1: it answered 503; gpu2: no connection"))],
)
def test_enough_is_enough(only: str, taken: tuple[int, str, str]) -> None:
    """When enough hosts have failed with a request no further one is asked, only what stands in; the reason says what they answered."""
    gateway = Gateway()
    gateway.fail(1, "retryable", 503)
    gateway.fail(2, "connect")

    assert granted(gateway.ask((1, 2), only)) == taken


def test_what_killed_two_gets_a_kept_answer_or_none() -> None:
    """Neither a host nor the local Ollama is risked."""
    gateway = Gateway()
    gateway.fail(0, "died")
    gateway.fail(1, "died")

    assert granted(gateway.ask((0, 1), "cache", DIGEST)) == (
        CACHE_ID,
        "cache",
        "gpu0: it ended the connection; gpu1: it ended the connection",
    )
    assert refused(gateway.ask((0, 1), "cache")).status == 503


def test_reasons_of_the_distributed_mode() -> None:
    """Short, and without the name of the model."""
    gateway = Gateway()
    for number in range(3):
        gateway.hold(number, "")
    assert granted(gateway.ask()) == (LOCAL_ID, "local", "no host has the model")

    gateway.hold(0)
    gateway.roster.drain({"gpu0"})
    assert granted(gateway.ask()) == (LOCAL_ID, "local", "every host that has it is drained")

    gateway.hold(1)
    gateway.down(1)
    assert granted(gateway.ask()) == (LOCAL_ID, "local", "gpu0: is drained; gpu1: is down")

    gateway.roster.drain(())
    gateway.down(0, 2)
    assert granted(gateway.ask()) == (LOCAL_ID, "local", "every host that has it is down")

    for number in range(3):
        gateway.hold(number, "")
    assert granted(gateway.ask()) == (LOCAL_ID, "local", "no host can be reached")


def test_reasons_of_the_local_mode() -> None:
    """The fleet stands in for the local Ollama."""
    gateway = Gateway(Mode.LOCAL)
    assert granted(gateway.ask()) == (LOCAL_ID, "", "")

    gateway.hold(LOCAL_ID, "")
    assert granted(gateway.ask())[1:] == ("nodes", "the local Ollama has not got the model")

    gateway.hold(LOCAL_ID)
    gateway.fail(LOCAL_ID, "retryable", 500)
    assert granted(gateway.ask((LOCAL_ID,)))[1:] == ("nodes", "the local Ollama: it answered 500")

    gateway.down(LOCAL_ID)
    assert granted(gateway.ask())[1:] == ("nodes", "the local Ollama cannot be reached")


def test_standalone_stands_alone() -> None:
    """Nobody stands in: the refusal says who is away and when to come again."""
    gateway = Gateway(Mode.STANDALONE)
    gateway.down(LOCAL_ID)

    answer = refused(gateway.ask(cache=DIGEST))

    assert (answer.status, answer.text) == (503, "model 'tiny' is on local only, which cannot be reached")
    assert answer.retry_after > 0
    gateway.hold(LOCAL_ID, "")
    answer = refused(gateway.ask())
    assert (answer.status, answer.text) == (503, "no Ollama can be reached: local")


def test_a_deleted_model_is_not_answered_out_of_the_cache() -> None:
    """Everybody can be asked and has not got it: 404, as one Ollama would say."""
    gateway = Gateway()
    for number in gateway.roster.backends:
        gateway.hold(number, "")

    assert refused(gateway.ask(cache=DIGEST)).status == 404
    gateway.down(1)
    assert granted(gateway.ask(cache=DIGEST)) == (CACHE_ID, "cache", "no host has the model")


def test_a_kept_answer_of_other_contents_is_not_given() -> None:
    """The model was replaced since: what it said before is not what it says."""
    gateway = Gateway(stands_in=(Fallback.CACHE,))
    for number in range(3):
        gateway.hold(number, "b" * 64)
    gateway.down(0, 1, 2)

    assert refused(gateway.ask(cache=DIGEST)).status == 503
    gateway.hold(1, "a" * 64)
    assert granted(gateway.ask(cache=DIGEST))[1] == "cache"


def test_answers_are_kept_as_those_of_the_contents_that_gave_them() -> None:
    """Those of the host that is asked, whatever others hold under the name; without the cache nothing is kept."""
    gateway = Gateway()
    gateway.hold(1, "b" * 64)

    def keeps(*tried: int) -> bool:
        answer = gateway.ask(tried, cache=DIGEST)
        assert isinstance(answer, Grant)
        return answer.keep

    assert keeps(1, 2)
    assert not keeps(0, 2)
    gateway.roster.serve(Serving(Mode.DISTRIBUTED, (Fallback.LOCAL,), URL))
    assert not keeps()


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "qwen3-coder:480B-Cloud", "acme/x:cloud"])
def test_cloud_models_go_to_the_host_that_is_signed_in(model: str) -> None:
    """Though nobody lists them; when it is away nobody else is asked, for he would want a sign-in of his own."""
    gateway = Gateway()
    assert "in Ollama's cloud" in refused(gateway.ask(model=model)).text

    gateway.cloud = 1
    assert {granted(gateway.ask(model=model)) for _ in range(4)} == {(1, "", "")}
    assert refused(gateway.ask((1,), model=model)).text.endswith("gpu1, which asks it, failed with this request")
    gateway.down(1)
    answer = refused(gateway.ask(model=model))
    assert (answer.status, answer.text) == (
        503,
        f"model '{model}' is in Ollama's cloud, and gpu1, which asks it, cannot be reached",
    )
    assert answer.retry_after > 0


@pytest.mark.parametrize("model", ["cloud", "tiny:latest", "cloud/tiny", "host:80/cloud", "x-cloud", "tiny:cloudy"])
def test_other_models_are_not_in_the_cloud(model: str) -> None:
    """Only the tag counts."""
    assert not is_cloud(model)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=30)).map(lambda p: Passed(*p)), max_size=9))
def test_a_reason_is_one_line_of_printable_ascii(passed: list[Passed]) -> None:
    """Whatever stands in a name or an answer, for it goes into a header; and it is never empty."""
    for first in (Role.NODE, Role.LOCAL):
        text = fallback.reason(first, passed, reachable=True)
        assert text.isascii()
        assert text.isprintable()
        assert text


def test_what_an_answer_says_of_where_it_is_from() -> None:
    """The first choice says nothing; what stands in says what it is, and why."""
    serving = Serving(Mode.DISTRIBUTED, BOTH, URL)

    assert fallback.header_fields(serving, Role.NODE, "x") == {}
    assert fallback.header_fields(serving, Role.LOCAL, "no host can be reached") == {
        "X-Ollama-Fallback": "local",
        "X-Ollama-Fallback-Reason": "no host can be reached",
    }


def test_long_lists_are_cut() -> None:
    """A header is not the place for a fleet."""
    passed = [Passed(f"gpu{n}", "it answered 500") for n in range(8)]

    assert fallback.reason(Role.NODE, passed, reachable=True).endswith("gpu4: it answered 500; and 3 more")


def test_who_is_not_well_is_asked_before_what_stands_in() -> None:
    """A degraded host is still the first choice."""
    gateway = Gateway()
    gateway.down(0, 1)
    gateway.roster.probed(2, "no answer within 2 s", silent=True)
    assert gateway.roster.seen[2].state is State.DEGRADED

    assert granted(gateway.ask()) == (2, "", "")
