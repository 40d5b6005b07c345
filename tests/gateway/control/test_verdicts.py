"""Why a node is where a request would go, or is not, in words."""

from dataclasses import replace

import pytest

from olladist.gateway.control.verdicts import Facts, absent, away, doubt, queued, sent_on
from olladist.inventory.model import Strategy
from olladist.scheduling.explain import Prospect, Verdict

FACTS = Facts(
    node="gpu1",
    has_model=True,
    warm=True,
    slots=4,
    in_flight=2,
    down="",
    drained=False,
    poorly="",
    avoided=False,
    declared=False,
    other="qwen:7b",
)
PROSPECT = Prospect(Verdict.TAKES, True, 2, 1, "x", 3.0, 5.0, 40.0, True, None)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict.TAKES, "would go here now: in memory, 1 of 2 slots free"),
        (Verdict.LOADS, "would go here now: qwen:7b is unloaded, then the model is loaded in about 5.0 s"),
        (Verdict.SWITCHES, "would go here when qwen:7b is idle, in about 3.0 s; the load takes about 5.0 s then"),
        (Verdict.FREE, "in memory, 1 of 2 slots free: not chosen, another answers as fast or faster"),
        (Verdict.FULL, "in memory, 2 slots taken: the next is free in about 3.0 s"),
        (Verdict.LOADING, "is being loaded for others, for about 5.0 s more"),
        (Verdict.LEAVING, "in memory, but it makes room for qwen:7b"),
        (Verdict.BUSY, "not now: it loads qwen:7b, and one at a time"),
        (Verdict.KEPT, "not now: requests wait for qwen:7b, which would have to be unloaded"),
        (Verdict.FAILED, "has the model by another name only"),
        (
            Verdict.UNNEEDED,
            "not needed: it would have to load the model (5.0 s) and to unload qwen:7b, and a slot is free elsewhere",
        ),
        (
            Verdict.WORSE,
            "not chosen: it would have to load the model (5.0 s) and to unload qwen:7b, and a load elsewhere gains as much or more",
        ),
        (
            Verdict.HARMS,
            "not chosen: it would have to load the model (5.0 s) and to unload qwen:7b, which harms those who use qwen:7b more than it gains",
        ),
    ],
)
def test_each_verdict_has_its_words(verdict: Verdict, text: str) -> None:
    """With the figures that it was reached by."""
    assert queued(FACTS, replace(PROSPECT, verdict=verdict)) == text


def test_what_nobody_knows_is_not_said() -> None:
    """When a slot is free on a host whose answers have shown nothing yet."""
    assert queued(FACTS, replace(PROSPECT, verdict=Verdict.FULL, wait=None)) == "in memory, 2 slots taken"


def test_what_is_degraded_says_why() -> None:
    """Under every strategy."""
    facts = replace(FACTS, poorly="two requests failed")
    text = "degraded (two requests failed): it gets work only where no other can take it"

    assert queued(facts, replace(PROSPECT, verdict=Verdict.POORLY)) == text
    assert [sent_on(facts, FACTS, strategy) for strategy in Strategy] == [text] * len(Strategy)


def test_what_is_away_or_has_not_got_it_says_what_to_do() -> None:
    """A drained node is that first."""
    assert away(FACTS) == ""
    assert away(replace(FACTS, down="for 12.0 s: no answer")) == "down for 12.0 s: no answer"
    assert "undrain gpu1" in away(replace(FACTS, drained=True, down="for 12.0 s: no answer"))
    assert "sync" in absent(FACTS)
    assert absent(FACTS) != absent(replace(FACTS, declared=True))


def test_fewer_slots_than_the_inventory_says_are_explained() -> None:
    """As many need no word."""
    assert doubt(FACTS, PROSPECT).startswith(" (4 by the inventory, but others use the node too")
    assert doubt(FACTS, replace(PROSPECT, slots=4)) == ""


def test_whose_turn_it_is_is_said_where_requests_are_sent_on() -> None:
    """By turns, by load, by memory."""
    busy, cold = replace(FACTS, node="gpu2", in_flight=3), replace(FACTS, node="gpu3", warm=False)

    assert sent_on(busy, FACTS, Strategy.ROUND_ROBIN) == "not chosen: it is another's turn; 3 requests on 4 slots"
    assert sent_on(busy, FACTS, Strategy.LEAST_LOADED) == "not chosen: busier, 3 requests on 4 slots"
    assert sent_on(cold, FACTS, Strategy.MODEL_AFFINITY) == (
        "not chosen: it has to load the model, and gpu1 has it in memory"
    )
    assert sent_on(cold, FACTS, Strategy.LEAST_LOADED).endswith("as good as gpu1, whose turn it is")
    assert sent_on(cold, cold, Strategy.LEAST_LOADED).startswith("would go here now: it has to load the model, 2 req")
    assert sent_on(replace(FACTS, slots=1), None, Strategy.LEAST_LOADED).endswith("2 on 1 slot")
