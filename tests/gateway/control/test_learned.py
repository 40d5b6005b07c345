"""What is learned of nodes while they are used, and what the queue makes of it."""

from dataclasses import replace

from olladist.gateway.control.answers import Row
from olladist.gateway.control.learned import SETTLES, End
from olladist.gateway.lease import Usage, Use
from olladist.scheduling.parallel import RETRIED
from tests.gateway.control.test_queue import A, B, Fleet, backend, key

C = "c" * 64
GB = 10**9


def in_memory(name: str, digest: str, expires: float = 9e9, gigabytes: int = 8) -> Row:
    return Row(
        key(name), digest, expires, {"name": f"{name}:latest", "size": gigabytes * GB, "size_vram": gigabytes * GB}
    )


class Busy(Fleet):
    """One node of four slots and four models in memory, `tiny` in memory, known for long."""

    def __init__(self) -> None:
        super().__init__(tiny=A, other=B, third=C)
        self.roster.swap([replace(backend(0, OLLAMA_MAX_LOADED_MODELS="4"), slots=4)])
        self.queue.resize()
        self.pass_time(SETTLES)
        self.list_memory(in_memory("tiny", A))

    def list_memory(self, *rows: Row) -> None:
        """The next listing; the node's clock is a day late."""
        self.pass_time(2.0)
        self.roster.loaded(0, rows, self.clock.time - 86_400.0)

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds
        self.queue.tick()

    @property
    def slots(self) -> int:
        """How many requests for `tiny` it is given at once."""
        before = len(self.granted)
        for number in range(900, 910):
            self.ask(number, "tiny")
        given = self.granted[before:]
        for number in range(900, 910):
            self.queue.leave(1, number)
        for each in given:
            self.queue.ended(1, each.ask.id, each.node, End(outcome="served"))
        return len(given)


def test_others_who_use_a_node_take_a_slot_of_it() -> None:
    """Its time moves, and nothing of ours is there; when nothing has moved for a while all slots are ours again."""
    fleet = Busy()
    assert fleet.slots == 4
    fleet.pass_time(30.0)
    fleet.list_memory(in_memory("tiny", A))
    fleet.list_memory(in_memory("tiny", A))
    fleet.list_memory(in_memory("tiny", A, 9.1e9))
    assert fleet.queue.learned.node(0).trust.traces == 1
    assert fleet.slots == 3

    fleet.pass_time(60.0)
    assert fleet.slots == 4


def test_a_node_of_one_slot_that_others_use_is_asked_last() -> None:
    """There is no slot that could be left to them: it counts for slower."""
    fleet = Fleet(2, tiny=A)
    fleet.clock.time += SETTLES
    for turn in range(60):
        fleet.clock.time += 2.0
        fleet.roster.loaded(0, (in_memory("tiny", A, 9e9 + turn),))
        fleet.roster.loaded(1, (in_memory("tiny", A),))
    assert fleet.queue.learned.node(0).trust.traces > 50
    for number in range(4):
        fleet.ask(number, "tiny")
        assert fleet.granted[-1].node == 1
        fleet.end(number)

    fleet.ask(8, "tiny")
    fleet.ask(9, "tiny")
    assert [node for _, node in fleet.places[-2:]] == [1, 0]


def test_our_own_requests_take_nothing() -> None:
    """They move the time as well."""
    fleet = Busy()
    for turn in range(10):
        fleet.ask(turn, "tiny")
        fleet.list_memory(in_memory("tiny", A, 9e9 + turn))
        fleet.end(turn)
        fleet.list_memory(in_memory("tiny", A, 9e9 + turn + 0.5))

    assert fleet.queue.learned.node(0).trust.traces == 0


def test_a_gateway_that_has_just_started_suspects_nobody() -> None:
    """What its workers have placed alone meanwhile is not known to it."""
    fleet = Busy()
    fleet.queue.count([])
    for turn in range(10):
        fleet.list_memory(in_memory("tiny", A, 9e9 + turn))

    assert fleet.queue.learned.node(0).trust.traces == 0


def test_where_nothing_is_counted_nobody_is_suspected() -> None:
    """Another strategy does not say here what it sends."""
    fleet = Busy()
    fleet.queue.count(None)
    fleet.pass_time(100.0)
    for turn in range(10):
        fleet.list_memory(in_memory("tiny", A, 9e9 + turn))

    assert fleet.queue.learned.node(0).trust.traces == 0


def test_a_node_that_was_down_starts_anew() -> None:
    """What is in its memory then was loaded by somebody at some time."""
    fleet = Busy()
    for _ in range(2):
        fleet.roster.probed(0, "no answer")
    fleet.roster.probed(0, "", "0.17.4")
    fleet.list_memory(in_memory("other", B), in_memory("third", C))

    assert fleet.queue.learned.node(0).trust.traces == 0


def test_an_unload_that_was_asked_for_here_is_ours() -> None:
    """By a client of the gateway, or by the placement itself."""
    fleet = Busy()
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.pass_time(20.0)
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    traces = fleet.queue.learned.node(0).trust.traces
    fleet.queue.unloads(0, key("tiny"))
    fleet.list_memory(in_memory("other", B))
    assert fleet.queue.learned.node(0).trust.traces == traces

    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.pass_time(20.0)
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.list_memory(in_memory("other", B))
    assert fleet.queue.learned.node(0).trust.traces == traces + 2, "it came again, and went again, without us"


def rush(fleet: Busy, has: int) -> None:
    """As many at once as it is given of four; those beyond the slots that it really has wait there for two seconds."""
    before = len(fleet.granted)
    for number in range(4):
        fleet.ask(number, "tiny")
    given = fleet.granted[before:]
    for number in range(4):
        fleet.queue.leave(1, number)
    for place, each in enumerate(given):
        waited = 2.0 * (place // has)
        fleet.queue.ended(1, each.ask.id, 0, End(Usage(100, 50, 0.0, 0.2, 1.0), "served", 0.2 + waited, 1.2 + waited))


def test_a_node_that_lies_about_its_slots_is_found_out() -> None:
    """It says four and has two; ten minutes later three are tried."""
    fleet = Busy()
    for _ in range(3):
        rush(fleet, 2)
    assert fleet.slots == 2
    assert fleet.queue.learned.fewer(0, 4) == {A: 2}

    fleet.pass_time(RETRIED)
    assert fleet.slots == 3


def test_requests_that_follow_each_other_in_a_slot_find_it_out_too() -> None:
    """Four clients ask again and again, and each answer waits for another: leases are handed on, and still the slots become fewer."""
    fleet = Busy()
    for number in range(4):
        fleet.ask(number, "tiny")
    late = Use(5.0, 6.0, 100, Usage(10, 50, 0.0, 0.1, 1.0))
    for _ in range(8):
        for number in range(4):
            fleet.pass_time(1.0)
            fleet.queue.used(1, number, 0, [late])

    assert fleet.queue.slots(0) == 4
    assert {name: slots for _, name, slots in fleet.queue.fewer()}[key("tiny")] < 4
    assert not fleet.queue.used(1, 0, 0, [late]), "it is called back"


def test_a_model_that_gets_one_slot_anywhere_gets_one() -> None:
    """As Ollama does it with embedding models, whatever its settings say."""
    fleet = Busy()
    tags = fleet.roster.seen[0].tags
    fleet.roster.listed(0, (replace(tags[0], digest=C, fields={**tags[0].fields, "details": {"family": "bert"}}),))
    fleet.list_memory(in_memory("tiny", C))

    assert fleet.slots == 1


def test_final_chunks_that_cannot_be_true_teach_nothing() -> None:
    """Hours in a second, nothing at all, or no numbers: they are counted, and the next is placed as before."""
    fleet = Busy()
    lies = [
        Usage(100, 100, 0.0, 3600.0, 3600.0),
        Usage(100, 100, float("nan"), 0.1, 0.1),
        Usage(2**62, 100, 0.0, 0.1, 0.1),
        Usage(100, 100, 0.0, -7.0, 0.1),
    ]
    for number, usage in enumerate([*lies, Usage()]):
        fleet.ask(number, "tiny")
        fleet.queue.ended(1, number, 0, End(usage, "served", 0.5, 1.0))

    assert fleet.queue.learned.node(0).lies == len(lies)
    assert fleet.slots == 4


def test_room_that_is_not_there_is_not_counted_on() -> None:
    """A load has made another model go: the next time it is unloaded by name, and nobody is surprised."""
    fleet = Busy()
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.pass_time(20.0)
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.ask(1, "third")
    assert [each.unload for each in fleet.granted] == [()]
    fleet.list_memory(in_memory("other", B))
    fleet.queue.started(1, 1)
    fleet.list_memory(in_memory("other", B), in_memory("third", C))
    fleet.end(1)
    memory = fleet.queue.learned.node(0).memory
    assert (memory.proven, memory.refuted) == (16 * GB, 24 * GB)

    fleet.pass_time(60.0)
    fleet.ask(2, "tiny")
    assert [len(each.unload) for each in fleet.granted] == [0, 1]
    assert fleet.queue.learned.node(0).trust.traces == 1, "what has made room for ours was no request of others"


def test_what_fits_stays() -> None:
    """Nothing is unloaded where three were seen together."""
    fleet = Busy()
    fleet.list_memory(in_memory("tiny", A), in_memory("other", B))
    fleet.ask(1, "third")

    assert fleet.granted[-1].unload == ()


def test_a_node_that_leaves_is_forgotten() -> None:
    """With all that was learned of it."""
    fleet = Busy()
    fleet.ask(1, "tiny")
    fleet.roster.swap([])
    fleet.end(1)

    assert fleet.queue.learned.nodes == {}
