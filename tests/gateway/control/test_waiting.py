"""What the status says of who waits."""

from dataclasses import replace

import msgspec

from olladist.gateway.control.app import make_app
from olladist.gateway.control.caller import KEY_HEADER
from olladist.gateway.control.documents import Status
from olladist.gateway.control.holdings import Models
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.waiting import QueueStatus
from olladist.gateway.lease import Ask, Done, First, Grant, Usage
from olladist.inventory.model import ApiKey, Strategy
from tests.gateway.control.nodes import loaded, tag
from tests.gateway.control.test_app import Gateway
from tests.gateway.control.test_holdings import fleet, holding

ADAPTIVE = Strategy.ADAPTIVE


async def seen(g: Gateway) -> QueueStatus:
    return msgspec.json.decode((await g.get("/api/distributed/status")).content, type=Status).queue


async def test_each_model_says_who_waits_and_how_long() -> None:
    """By all names of its contents; options make another of it. How long one more would wait is known after the first answer."""
    one = holding(tag("tiny:latest"), tag("alias:latest"))
    one.runs(loaded("tiny:latest"))
    async with fleet(one) as g:  # of two slots
        dispatcher = g.parts.dispatcher
        dispatcher.strategy = ADAPTIVE
        (free,) = (await seen(g)).models
        for number, model in enumerate(("tiny", "alias", "tiny", "alias"), 1):
            dispatcher.ask(1, Ask(number, model, "chat"))
        dispatcher.ask(1, Ask(5, "tiny", "chat", options="num_ctx=9"))
        queue = await seen(g)
        assert queue.models[0].estimated_wait is None
        dispatcher.done(1, Done(1, 0, "served", 200, usage=Usage(100, 100, 0.0, 1.0, 3.0)))
        then = await seen(g)
        models = msgspec.json.decode((await g.get("/api/distributed/models")).content, type=Models).models

    assert (free.waiting, free.running, free.slots, free.estimated_wait) == (0, 0, 2, 0.0)
    assert [(each.names, each.options, each.waiting, each.running, each.slots) for each in queue.models] == [
        (("alias:latest", "tiny:latest"), "", 2, 2, 2),
        (("alias:latest", "tiny:latest"), "num_ctx=9", 1, 0, 0),
    ]
    assert (queue.waiting, queue.waiting_max) == (3, dispatcher.waiting_max)
    assert queue.oldest_wait >= queue.models[0].oldest_wait >= 0.0
    assert then.models[0].waiting == 1
    wait = then.models[0].estimated_wait
    assert wait is not None
    assert 1.0 < wait < 9.0
    assert [(model.name, model.waiting, model.estimated_wait is not None) for model in models] == [
        ("alias:latest", 2, True),
        ("tiny:latest", 2, True),
    ]


async def test_a_load_is_waited_for() -> None:
    """Its slots count from the beginning; the time is known as soon as anything of the host is."""
    async with fleet(holding(tag("tiny:latest"))) as g:
        dispatcher = g.parts.dispatcher
        dispatcher.strategy = ADAPTIVE
        granted: list[Grant] = []
        dispatcher.answered = lambda worker, ask, answer, unload: granted.append(answer)
        dispatcher.ask(1, Ask(1, "tiny", "chat"))
        dispatcher.ask(1, Ask(2, "tiny", "chat"))
        (loading,) = (await seen(g)).models
        dispatcher.first(1, First(1))
        (there,) = (await seen(g)).models

    assert [each.id for each in granted] == [1, 2]
    assert (loading.waiting, loading.running, loading.slots, loading.estimated_wait) == (1, 1, 2, None)
    assert (there.waiting, there.running, there.slots) == (0, 2, 2)


async def test_where_nothing_waits_here_what_runs_is_said() -> None:
    """Other strategies send requests on at once; how long they wait on a host nobody knows."""
    one = holding(tag("tiny:latest"), tag("cold:latest", "c" * 64))
    one.runs(loaded("tiny:latest"))
    async with fleet(one, holding(tag("tiny:latest"))) as g:
        for number in (1, 2):
            g.parts.dispatcher.ask(1, Ask(number, "tiny", "chat"))
        (tiny,) = (await seen(g)).models

    assert (tiny.names, tiny.waiting, tiny.running, tiny.slots) == (("tiny:latest",), 0, 2, 4)
    assert tiny.estimated_wait is None


async def test_a_key_sees_the_queues_of_its_models_alone() -> None:
    """Nor are others in the sums, nor their names where contents are the same."""
    one = holding(tag("tiny:latest"), tag("secret:latest"), tag("hidden:latest", "b" * 64))
    async with fleet(one) as g:
        g.parts.dispatcher.strategy = ADAPTIVE
        for number, model in enumerate(("hidden", "hidden", "hidden", "hidden", "secret"), 1):
            g.parts.dispatcher.ask(1, Ask(number, model, "chat"))
        keys = Keys([ApiKey("ci", sha256="0" * 64, models=("tiny",))], {})
        g.client._transport.app = make_app(replace(g.parts, keys=keys))  # type: ignore[attr-defined]  # httpx.ASGITransport
        g.client.headers[KEY_HEADER] = "ci"
        queue = await seen(g)

    assert [each.names for each in queue.models] == [("tiny:latest",)]
    assert queue.waiting == sum(each.waiting for each in queue.models) <= 1
