"""Requests that wait for a slot, and what the roster's changes mean for them."""

from dataclasses import replace

import pytest

from olladist.gateway.control.answers import Row
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.learned import End
from olladist.gateway.control.ledger import Lease
from olladist.gateway.control.queue import Granted, Queue, machine_of
from olladist.gateway.control.roster import Roster
from olladist.gateway.lease import NO_USAGE, Ask, Usage
from olladist.inventory.model import Host, Instance
from olladist.ollama.names import parse_name

A, B = "a" * 64, "b" * 64


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Fleet:
    """gpu0, gpu1 … with one slot and one model in memory each, all up, all with the models named."""

    def __init__(self, nodes: int = 1, **contents: str) -> None:
        self.clock = Clock()
        self.roster = Roster(self.clock)
        self.granted: list[Granted] = []
        self.stranded: list[int] = []
        self.queue = Queue(
            self.roster, self.clock, self.granted.append, lambda _worker, ask: self.stranded.append(ask.id)
        )
        self.roster.swap([backend(number) for number in range(nodes)])
        for number in range(nodes):
            self.roster.probed(number, "", "0.17.4")
            self.roster.listed(number, tuple(row(name, digest) for name, digest in contents.items()))

    def ask(self, number: int, model: str, *, avoid: tuple[int, ...] = (), **more: object) -> None:
        ask = Ask(number, model, "chat", **more)  # type: ignore[arg-type]  # any field
        self.queue.arrive(1, ask, key(model), avoid)

    def end(self, number: int, usage: Usage = NO_USAGE) -> None:
        node = next(each.node for each in self.granted if each.ask.id == number)
        self.queue.ended(1, number, node, End(usage, "served"))

    @property
    def places(self) -> list[tuple[int, int]]:
        return [(each.ask.id, each.node) for each in self.granted]


def backend(number: int, **env: str) -> Backend:
    node = f"gpu{number}"
    host = Host(name=node, address=node, env={"OLLAMA_MAX_LOADED_MODELS": "1", **env})
    return Backend(number, node, host, 11434, f"{node}:11434", 1)


def row(name: str, digest: str) -> Row:
    return Row(key(name), digest, 1.0, {"name": f"{name}:latest", "size": 8 * 10**9})


def key(name: str) -> str:
    return parse_name(name).key


def test_a_second_request_waits_for_the_slot_of_the_first() -> None:
    """One slot; who comes later is granted when it is free."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny")
    assert (fleet.places, len(fleet.queue)) == ([(1, 0)], 1)

    fleet.end(1)
    assert fleet.places == [(1, 0), (2, 0)]
    assert [each.loads for each in fleet.granted] == [True, True]  # nobody has said that a first byte came


@pytest.mark.parametrize("rows", [(), (row("other", B),)])
def test_a_listing_that_is_the_same_again_says_what_is_gone(rows: tuple[Row, ...]) -> None:
    """A model that was loaded and unloaded between two listings is in neither of them, and they may be equal byte for byte."""
    fleet = Fleet(tiny=A, other=B)
    fleet.roster.loaded(0, rows)
    fleet.ask(1, "tiny")
    fleet.queue.started(1, 1)
    fleet.end(1)
    assert fleet.queue.loaded(key("tiny")) == [0]

    fleet.clock.time += 10
    fleet.roster.loaded(0, rows)

    assert fleet.queue.loaded(key("tiny")) == []


def test_a_place_is_the_one_in_which_it_came() -> None:
    """Among those who wait for the same model; whoever gets a slot at once has none, and who leaves moves nobody's."""
    fleet = Fleet(tiny=A, other=B)
    for number, model in enumerate(("tiny", "tiny", "other", "tiny", "tiny"), 1):
        fleet.ask(number, model)
    fleet.queue.leave(1, 2)
    fleet.ask(6, "tiny")
    for each in fleet.granted:  # grows by those whose turn it is then
        fleet.queue.started(1, each.ask.id)
        fleet.end(each.ask.id)

    assert {each.ask.id: each.position for each in fleet.granted} == {1: 0, 3: 1, 4: 2, 5: 3, 6: 3}


def test_the_first_byte_says_that_a_model_is_loaded() -> None:
    """Later requests are told that they need no load."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.queue.started(1, 1)
    fleet.end(1)
    fleet.ask(2, "tiny")

    assert [each.loads for each in fleet.granted] == [True, False]


def test_a_listing_of_what_is_loaded_says_so_too() -> None:
    """Under whichever name it was loaded: contents count."""
    fleet = Fleet(tiny=A, alias=A)
    fleet.roster.loaded(0, (row("alias", A),))
    fleet.ask(1, "tiny")

    assert [each.loads for each in fleet.granted] == [False]


def test_contents_that_share_a_runner_are_one() -> None:
    """Two templates for the same weights: whoever has loaded them, both are warm; and each is unloaded by a name that is listed."""
    fleet = Fleet(tiny=A, persona=B, other="c" * 64)
    fleet.queue.same({A: "weights", B: "weights"})
    fleet.roster.loaded(0, (row("persona", B),))
    fleet.ask(1, "tiny")
    assert [each.loads for each in fleet.granted] == [False]

    fleet.end(1)
    fleet.ask(2, "other")
    assert fleet.granted[-1].unload == ("persona:latest",)


def test_contents_that_share_a_runner_share_its_slots() -> None:
    """And only who has the name is asked for it."""
    fleet = Fleet(2, tiny=A, persona=B)
    fleet.roster.listed(1, (row("persona", B),))
    fleet.queue.same({A: "weights", B: "weights"})
    for number, model in enumerate(("tiny", "persona", "tiny")):
        fleet.ask(number, model)
    assert fleet.places == [(0, 0), (1, 1)]

    fleet.end(1)
    assert len(fleet.places) == 2
    fleet.end(0)
    assert fleet.places[-1] == (2, 0)


def test_a_model_that_makes_room_is_named() -> None:
    """By the name under which the node lists it."""
    fleet = Fleet(tiny=A, other=B)
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.ask(1, "other")

    assert [(each.ask.id, each.unload, each.loads) for each in fleet.granted] == [(1, ("tiny:latest",), True)]


def test_nodes_that_mean_different_contents_by_a_name_all_serve_it() -> None:
    """As before: drift is shown, and takes no node out of work."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.listed(1, (row("tiny", B),))
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny", avoid=(fleet.granted[0].node,))

    assert sorted(node for _, node in fleet.places) == [0, 1]


def test_a_node_that_knows_the_contents_by_another_name_alone_is_not_asked() -> None:
    """It would answer that there is no such model."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.listed(1, (row("tiny", A), row("alias", A)))
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.ask(1, "alias")
    fleet.ask(2, "alias")
    fleet.end(1)

    assert fleet.places == [(1, 1), (2, 1)]


def test_a_node_that_is_drained_or_down_gets_nothing() -> None:
    """What waits goes where it can."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.drain(["gpu0"])
    fleet.ask(1, "tiny")
    assert fleet.places == [(1, 1)]

    fleet.roster.drain([])
    fleet.ask(2, "tiny")
    assert fleet.places == [(1, 1), (2, 0)]


def test_a_drained_node_keeps_the_slots_that_are_in_use() -> None:
    """When it is given back before what ran there has ended; in whatever order listings of it come."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.roster.drain(["gpu0"])
    fleet.clock.time += 2
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.roster.drain([])
    fleet.ask(2, "tiny")
    assert fleet.places == [(1, 0)]

    fleet.end(1)
    assert fleet.places == [(1, 0), (2, 0)]


def test_what_a_drained_node_has_in_memory_serves_nobody() -> None:
    """Another node loads it, however fast the drained one would be."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.ask(1, "tiny")
    fleet.end(1, Usage(100, 100, 0.0, 0.001, 0.01))
    fleet.roster.drain(["gpu0"])
    fleet.clock.time += 2
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.ask(2, "tiny")

    assert fleet.places == [(1, 0), (2, 1)]


def test_what_can_be_served_by_nobody_any_more_is_given_back() -> None:
    """The last node that has the model is found to be down: somebody must decide about those that wait."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny")
    for _ in range(2):
        fleet.roster.probed(0, "no answer")

    assert (fleet.stranded, len(fleet.queue)) == ([2], 0)


def test_a_model_that_is_deleted_while_requests_wait_strands_them() -> None:
    """They get the words for a model that is not there."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny")
    fleet.roster.listed(0, ())

    assert fleet.stranded == [2]


def test_a_node_that_leaves_the_inventory_strands_what_waits_for_it() -> None:
    """And is forgotten."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny")
    fleet.roster.swap([])

    assert fleet.stranded == [2]


def test_nodes_that_agree_again_serve_what_comes_then() -> None:
    """The one that meant something else by the name is gone."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.listed(1, (row("tiny", B),))
    fleet.ask(1, "tiny")
    fleet.roster.swap([backend(0)])
    fleet.ask(2, "tiny")
    if fleet.granted[0].node == 0:
        fleet.end(1)
        fleet.queue.tick()

    assert fleet.places[-1] == (2, 0)


def test_those_who_wait_are_counted_by_key() -> None:
    """However they stop waiting."""
    fleet = Fleet(tiny=A)
    for number in range(1, 6):
        fleet.ask(number, "tiny", key="team", deadline=5.0 if number == 3 else 0.0)
    assert fleet.queue.of_key("team") == 4

    fleet.queue.leave(1, 2)
    fleet.clock.time += 6
    fleet.queue.tick()
    fleet.end(1)
    assert (fleet.queue.of_key("team"), fleet.queue.of_key("other")) == (1, 0)

    fleet.queue.gone(1)
    assert fleet.queue.of_key("team") == 0


def test_a_client_that_leaves_frees_its_place() -> None:
    """In the queue, or in the slot."""
    fleet = Fleet(tiny=A)
    for number in (1, 2, 3):
        fleet.ask(number, "tiny")
    fleet.queue.leave(1, 2)
    fleet.end(1)

    assert fleet.places == [(1, 0), (3, 0)]


def test_a_deadline_ends_the_waiting() -> None:
    """Whoever has set none waits on."""
    fleet = Fleet(tiny=A)
    fleet.ask(1, "tiny")
    fleet.ask(2, "tiny", deadline=5.0)
    fleet.ask(3, "tiny")
    fleet.clock.time += 6

    assert [(ask.id, position) for _, ask, position in fleet.queue.tick()] == [(2, 1)]
    assert len(fleet.queue) == 1


def test_what_runs_already_takes_its_slot() -> None:
    """A worker says what it runs when the control process is new: the slot is not given out twice."""
    fleet = Fleet(tiny=A)
    fleet.queue.runs(1, 7, 0, key("tiny"))
    fleet.ask(8, "tiny")
    assert fleet.places == []

    fleet.queue.ended(1, 7, 0, End())
    assert fleet.places == [(8, 0)]


def test_nothing_is_counted_where_nothing_waits() -> None:
    """Under another strategy; what runs when late binding begins has its slots."""
    fleet = Fleet(tiny=A)
    fleet.queue.count(None)
    fleet.queue.runs(1, 7, 0, key("tiny"))
    fleet.ask(8, "tiny")
    assert fleet.places == [(8, 0)]

    fleet.end(8)
    fleet.queue.count([(1, 9, Lease(0, key("tiny")))])
    fleet.queue.count([(1, 9, Lease(0, key("tiny")))])
    fleet.ask(10, "tiny")
    assert fleet.places == [(8, 0)]

    fleet.queue.ended(1, 9, 0, End())
    assert fleet.places == [(8, 0), (10, 0)]


def test_final_chunks_teach_which_node_is_fast() -> None:
    """The next request goes there."""
    fleet = Fleet(2, tiny=A)
    fleet.roster.loaded(0, (row("tiny", A),))
    fleet.roster.loaded(1, (row("tiny", A),))
    fleet.ask(1, "tiny")
    first = fleet.granted[0].node
    fleet.ask(2, "tiny")
    fleet.end(1, Usage(100, 100, 0.0, 10.0, 50.0))
    fleet.end(2, Usage(100, 100, 0.0, 0.1, 1.0))
    fleet.ask(3, "tiny")

    assert fleet.granted[2].node == 1 - first


def test_slots_and_models_in_memory_are_those_of_the_environment() -> None:
    """Three models for each GPU where nothing is said."""
    many = backend(0, OLLAMA_MAX_LOADED_MODELS="5")
    silent = backend(0, OLLAMA_MAX_LOADED_MODELS="0")
    two = replace(silent, host=replace(silent.host, instances=(Instance(gpus=(0, 1)),)))

    assert machine_of(many).models_max == 5
    assert machine_of(silent).models_max == 3
    assert machine_of(two).models_max == 6
