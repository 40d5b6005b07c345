"""Room in the memory of nodes: models that go, and models that are loaded for requests to come."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.queue import Preloading
from olladist.gateway.control.room import make_room, preload
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import Upstreams
from olladist.ollama.request import RUNNER_OPTIONS, read_runner_options, runner_options
from tests.gateway.control.nodes import CLOSE, Answer, Node, running

LOADED: Answer = (200, {"done": True, "done_reason": "load"})


@asynccontextmanager
async def known(node: Node) -> AsyncIterator[tuple[Roster, Upstreams]]:
    async with running(node):
        roster = Roster(lambda: 0.0)
        upstreams = Upstreams(roster)
        roster.swap([node.backend()])
        try:
            yield roster, upstreams
        finally:
            await upstreams.close()


def load(model: str = "tiny:latest", options: str = "", node: int = 0) -> Preloading:
    return Preloading(-2, node, model, options, ())


async def test_each_model_is_unloaded_by_its_name() -> None:
    """One that has no name any more is left to Ollama, and so is one that Ollama does not unload."""
    node = Node({"/api/generate": (500, {"error": "no"})})
    async with known(node) as (roster, upstreams):
        await make_room(roster, upstreams, 0, ("tiny:latest", "", "other:latest"))
        await make_room(roster, upstreams, 7, ("tiny:latest",))
        node.answers["/api/generate"] = CLOSE
        await make_room(roster, upstreams, 0, ("last:latest",))

    asked = [json.loads(body) for body in node.bodies]
    assert asked == [{"model": f"{name}:latest", "keep_alive": 0} for name in ("tiny", "other", "last")]


async def test_a_model_is_loaded_as_the_requests_for_it_would_load_it() -> None:
    """With the options that make another runner, and nothing to answer."""
    node = Node({"/api/generate": LOADED})
    async with known(node) as (roster, upstreams):
        assert await preload(roster, upstreams, load(options="num_ctx=9000,use_mmap=false"))

    (body,) = (json.loads(body) for body in node.bodies)
    assert (body["model"], body["options"]) == ("tiny:latest", {"num_ctx": 9000, "use_mmap": False})
    assert "prompt" not in body


async def test_a_model_that_only_embeds_is_loaded_by_its_own_route() -> None:
    """It refuses to generate."""
    refuses: Answer = (400, {"error": '"tiny" does not support generate'})
    node = Node({"/api/generate": refuses, "/api/embed": (200, {"embeddings": []})})
    async with known(node) as (roster, upstreams):
        assert await preload(roster, upstreams, load())
        node.answers["/api/embed"] = refuses
        assert not await preload(roster, upstreams, load())


@pytest.mark.parametrize("answer", [(500, {"error": "out of memory"}), (404, {"error": "not found"}), CLOSE])
async def test_a_load_that_comes_to_nothing_is_said_to_be_one(answer: Answer) -> None:
    """And is no error of anybody's."""
    async with known(Node({"/api/generate": answer})) as (roster, upstreams):
        assert not await preload(roster, upstreams, load())


async def test_what_cannot_be_asked_for_is_not() -> None:
    """A node that has left the inventory, a model without a name, options that are none."""
    node = Node({"/api/generate": LOADED})
    async with known(node) as (roster, upstreams):
        for nothing in (load(node=7), load(model=""), load(options="num_ctx=[1"), load(options="num_ctx")):
            assert not await preload(roster, upstreams, nothing)
    assert not node.asked["/api/generate"]


values = st.one_of(st.integers(-(2**31), 2**31), st.booleans(), st.none())


@given(st.dictionaries(st.sampled_from((*RUNNER_OPTIONS, "temperature")), values))
def test_options_are_read_as_they_were_spelled(options: dict[str, object]) -> None:
    """Those that make another runner."""
    expected = {name: value for name, value in options.items() if name in RUNNER_OPTIONS}
    assert read_runner_options(runner_options(json.dumps(options).encode())) == expected
