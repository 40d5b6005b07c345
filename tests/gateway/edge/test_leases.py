import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.backends import Asker, Backend, Backends, grant_fields, mode_fields, place
from olladist.gateway.lease import Backend as Row
from olladist.gateway.lease import Grant, Held, Table
from tests.gateway.edge.harness import (
    JSON_HEAD,
    LAST_CHUNK,
    MODEL,
    NDJSON_HEAD,
    PROMPT,
    Connection,
    Gateway,
    chunk,
    post,
    says_who,
    until,
)
from tests.gateway.edge.test_failover import asked, dies, hangs, refusing


async def test_before_there_was_a_table_clients_are_asked_to_come_again(gate: Gateway) -> None:
    """503 in the client's dialect with Retry-After, and the connection stays."""
    await gate.add("gpu1")
    client = await gate.client()
    client.send(post("/v1/chat/completions"))

    head = await client.head()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in head
    assert json.loads(await client.reader.readuntil(b"}\n"))["error"]["type"] == "api_error"
    await gate.joined()
    client.send(post())
    assert await client.answer() == (200, PROMPT)


async def test_streams_go_on_while_the_control_process_is_away(gate: Gateway) -> None:
    """It dies in the middle of a stream and the stream neither stops nor changes."""
    streaming: list[Connection] = []

    async def begins(connection: Connection, head: bytes, body: bytes) -> None:
        streaming.append(connection)
        await connection.send(NDJSON_HEAD)

    await gate.add("gpu1", begins)
    await gate.joined()
    client = await gate.client()
    client.send(post())
    await client.head()

    await gate.control.stop()
    await streaming[0].send(chunk(b"{}\n"), LAST_CHUNK)

    await client.exactly(chunk(b"{}\n") + LAST_CHUNK)


async def test_requests_are_placed_without_the_control_process(gate: Gateway) -> None:
    """On the last table, each where the fewest of this worker's own run; one that was waiting for a grant too."""
    nodes = [await gate.add(name, hangs) for name in ("gpu1", "gpu2", "gpu3")]
    await gate.joined()
    gate.control.decide = lambda _: None
    waiting = await gate.client()
    waiting.send(post())
    await until(lambda: gate.control.asks, "it waits")
    await gate.control.stop()
    await until(lambda: sum(len(node.requests) for node in nodes) == 1, "it was placed")

    for count in range(2, 10):
        client = await gate.client()
        client.send(post())
        await until(lambda wanted=count: sum(len(node.requests) for node in nodes) == wanted, "it was placed")  # type: ignore[misc]  # a default binds

    assert [len(node.requests) for node in nodes] == [3, 3, 3]


async def test_alone_the_worker_still_tries_another_host(gate: Gateway) -> None:
    """What died is passed over, what is down is not asked; where nobody is left there is a 503."""
    await gate.add("gpu1", dies)
    await gate.add("gpu2")
    gate.control.down = {"gpu3"}
    third = await gate.add("gpu3")
    await gate.joined()
    await gate.control.stop()

    assert await asked(gate) == (200, PROMPT)
    gate.control.nodes[1].script = dies
    status, text = await asked(gate)

    assert status == 502
    assert b"gpu1" in text
    assert b"gpu2" in text
    assert not third.connections


async def test_alone_an_unknown_model_is_refused_as_ollama_does(gate: Gateway) -> None:
    """In its words for each route, and a name that is none in others."""
    await gate.add("gpu1")
    await gate.joined()
    await gate.control.stop()
    client = await gate.client()
    client.send(post("/api/chat", b'{"model":"nobody"}') + post("/api/embed", b'{"model":"nobody"}'))
    client.send(post("/api/chat", b'{"model":"/"}'))

    assert await client.answer() == (404, b'{"error":"model \'nobody\' not found"}')
    assert await client.answer() == (404, b'{"error":"model \\"nobody\\" not found, try pulling it first"}')
    assert await client.answer() == (400, b'{"error":"model is required"}')


async def test_alone_what_was_down_is_asked_before_there_is_nobody(gate: Gateway) -> None:
    """The table is as old as the control process is away, and who was down in it may be up; one that is up in it is asked first."""
    await refusing(gate, "gpu1")
    back = await gate.add("gpu2")
    gate.control.down = {"gpu2"}
    await gate.joined()
    await gate.control.stop()

    assert await asked(gate) == (200, PROMPT)
    assert len(back.requests) == 1
    up = await gate.add("gpu3")
    await gate.joined()
    await gate.control.stop()
    gate.control.nodes[0].script = says_who
    assert await asked(gate) == (200, PROMPT)
    assert len(up.requests) == 1


async def test_alone_a_model_whose_hosts_cannot_be_reached_is_a_503(gate: Gateway) -> None:
    """It exists, so it is not a 404; the client may come again."""
    await refusing(gate, "gpu1")
    gate.control.down = {"gpu1"}
    await gate.joined()
    await gate.control.stop()

    status, text = await asked(gate)

    assert status == 503
    assert b"tiny" in text


async def test_a_new_control_process_hears_what_runs(gate: Gateway) -> None:
    """Leases of its predecessor and those placed alone are in the Hello, and each ends in a Done."""
    node = await gate.add("gpu1", hangs)
    await gate.joined()
    clients = [await gate.client() for _ in range(2)]
    clients[0].send(post())
    await until(lambda: len(node.requests) == 1, "one runs by grant")
    await gate.control.stop()
    clients[1].send(post())
    await until(lambda: len(node.requests) == 2, "one runs alone")

    await gate.joined()

    held = gate.control.hellos[-1].held
    assert sorted((one.node, one.model) for one in held) == [("gpu1", "tiny"), ("gpu1", "tiny")]
    for client in clients:
        client.leave()
    await until(lambda: {done.id for done in gate.control.dones} == {one.id for one in held}, "both end")
    assert all(isinstance(one, Held) for one in held)


async def test_what_waited_is_not_asked_again(gate: Gateway) -> None:
    """A request that was placed alone is not in the next control process' queue as well."""
    await gate.add("gpu1")
    await gate.joined()
    gate.control.decide = lambda _: None
    client = await gate.client()
    client.send(post())
    await until(lambda: gate.control.asks, "it waits")
    await gate.control.stop()
    assert await client.answer() == (200, PROMPT)
    gate.control.decide = gate.control.first_untried

    await gate.joined()

    assert await asked(gate) == (200, PROMPT)
    assert len(gate.control.asks) == 2


async def test_alone_a_backend_gets_no_more_than_its_slots(gate: Gateway) -> None:
    """Those who waited when the control process went go on waiting, and each end lets the next one through; other models have slots of their own."""
    node = await gate.add("gpu1", says_later := Later())
    gate.control.models = (MODEL, MODEL.replace("tiny", "other"))
    gate.control.late = True
    await gate.joined()
    gate.control.decide = lambda _: None
    clients = [await gate.client() for _ in range(4)]
    for count, client in enumerate(clients, 1):
        client.send(post())
        await until(lambda wanted=count: len(gate.control.asks) == wanted, "it waits")  # type: ignore[misc]  # a default binds
    await gate.control.stop()
    await until(lambda: len(node.requests) == 1, "one was placed")
    other = await gate.client()
    other.send(post(body=PROMPT.replace(b"tiny", b"other")))
    await until(lambda: len(node.requests) == 2, "another model was asked for")

    clients[1].leave()
    says_later.now()
    assert (await other.answer())[0] == (await clients[0].answer())[0] == 200
    await until(lambda: len(node.requests) == 3, "the next one's turn")
    says_later.now()

    assert await clients[2].answer() == (200, PROMPT)
    await until(lambda: len(node.requests) == 4, "the last one's turn")
    says_later.now()
    assert await clients[3].answer() == (200, PROMPT)


async def test_who_waits_alone_is_asked_for_again(gate: Gateway) -> None:
    """Of the next control process, with what runs told before; in the order in which they came."""
    node = await gate.add("gpu1", hangs)
    gate.control.late = True
    await gate.joined()
    for count in range(3):
        if count == 1:
            await gate.control.stop()
        client = await gate.client()
        client.send(post())
        await until(lambda: node.requests, "the first runs")
        await until(lambda wanted=count: len(gate.edge._clients) > wanted, "it is connected")  # type: ignore[misc]  # a default binds
        await until(lambda wanted=count: sum(map(len, waiting(gate))) == wanted, "the others wait")  # type: ignore[misc]  # a default binds
    gate.control.decide = lambda _: None

    await gate.joined()

    await until(lambda: len(gate.control.asks) == 3, "both are asked for")
    assert len(gate.control.hellos[-1].held) == 1
    ids = [ask.id for ask in gate.control.asks]
    assert ids == sorted(set(ids))
    assert len(node.requests) == 1


def waiting(gate: Gateway) -> list[dict[int, Asker]]:
    return list(gate.edge.worker.leases._alone.values())


class Later:
    """A script whose answers wait for a word."""

    def __init__(self) -> None:
        self._open: list[tuple[Connection, bytes]] = []

    async def __call__(self, connection: Connection, head: bytes, body: bytes) -> None:
        self._open.append((connection, body))

    def now(self) -> None:
        for connection, body in self._open:
            connection.writer.write(JSON_HEAD % len(body) + body)
        self._open.clear()


async def test_garbage_from_the_control_process_ends_the_connection_only(gate: Gateway) -> None:
    """The worker comes back with a new one and goes on."""
    await gate.add("gpu1")
    await gate.joined()
    for writer in gate.control._writers:
        writer.write(b"\xff" * 100)

    await until(lambda: len(gate.control.hellos) == 2, "a new Hello")

    assert await asked(gate) == (200, PROMPT)


def row(
    number: int,
    node: str,
    *,
    up: bool = True,
    address: str = "x:1",
    models: tuple[str, ...] = (MODEL,),
    role: str = "node",
) -> Row:
    return Row(number, node, address, 1, up, models, role)


def test_a_table_changes_what_it_says_and_nothing_else() -> None:
    """Backends keep their connections and running requests over tables, whatever number they get; moved ones lose the first."""
    backends = Backends()
    assert backends.apply(Table(1, "distributed", (row(0, "a"), row(1, "b"), row(2, "c")))) == []
    before = {backend.node: (backend, backend.pool) for backend in backends}

    went_down = backends.apply(Table(2, "local", (row(5, "b", up=False), row(6, "a"), row(7, "c", address="y:1"))))

    assert [backend.node for backend in went_down] == ["b"]
    after = {backend.node: backend for backend in backends}
    assert all(after[node] is before[node][0] for node in "abc")
    assert [after[node].pool is before[node][1] for node in "abc"] == [True, False, False]
    assert not before["c"][1].is_open
    assert backends.get(6) is after["a"]
    assert backends.get(0) is None
    assert backends.ids(["a", "gone", "b"]) == (6, 5)
    assert b"X-Ollama-Mode: local\r\n" in after["a"].fields


def test_a_backend_that_left_the_table_takes_no_more() -> None:
    """Its idle connections are closed, and what comes back later is too."""
    backends = Backends()
    backends.apply(Table(1, "distributed", (row(0, "a"),)))
    gone = next(iter(backends))

    backends.apply(Table(2, "distributed", ()))

    assert not gone.up
    assert not gone.pool.is_open


@given(st.integers(1, 64), st.integers(1, 16))
def test_workers_that_are_alone_share_the_slots(slots: int, workers: int) -> None:
    """None is left over, and no worker is without one; only what does not divide is given out once too often."""
    backends = Backends(workers)
    backends.apply(Table(1, "distributed", (Row(0, "a", "x:1", slots, up=True, models=(MODEL,)),)))
    (share,) = (backend.slots for backend in backends)

    assert share >= 1
    assert slots <= share * workers < slots + workers


def test_a_name_cannot_add_a_header() -> None:
    """Whatever stands in a table, a header value is one line."""
    backend = Backend(row(0, "evil\r\nX: y"), "distributed\r\n")

    assert backend.fields == b"X-Ollama-Node: evilX: y\r\nX-Ollama-Distributed: true\r\nX-Ollama-Mode: distributed\r\n"


class Running:
    """Stands for a running request; only its being there counts."""


ORDER = {"distributed": ["node", "local"], "local": ["local", "node"], "standalone": ["local"], "": ["node", "local"]}


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([(), ("m",), ("m", "n")]),
            st.integers(0, 5),
            st.sampled_from(["node", "local", "cache"]),
        ),
        max_size=8,
    ),
    st.sets(st.integers(0, 7)),
    st.sampled_from(sorted(ORDER)),
)
def test_alone_the_least_busy_eligible_backend_is_chosen(
    states: list[tuple[bool, tuple[str, ...], int, str]], tried: set[int], mode: str
) -> None:
    """Holding the model, not tried, up if there is one, of the role that the mode puts first, and none of those with fewer requests."""
    backends = []
    for number, (up, models, running, role) in enumerate(states):
        backend = Backend(row(number, str(number), up=up, models=models, role=role), mode)
        backend.running.update(Running() for _ in range(running))  # type: ignore[misc]  # see Running
        backends.append(backend)

    placed = place(backends, mode, "m", {str(number) for number in tried})

    holders = [b for b in backends if "m" in b.models and int(b.node) not in tried and b.role in ORDER[mode]]
    eligible = [b for b in holders if b.up] or holders
    role = next((role for role in ORDER[mode] if any(b.role == role for b in eligible)), "")
    assert (placed is None) == (not role)
    if placed is not None:
        chosen, fallback, reason = placed
        assert chosen in eligible
        assert chosen.role == role
        assert len(chosen.running) == min(len(b.running) for b in eligible if b.role == role)
        assert bool(fallback) == bool(reason) == (role != ORDER[mode][0])


@pytest.mark.parametrize(("mode", "distributed"), [("", b"true"), ("distributed", b"true"), ("local", b"false")])
def test_every_answer_says_in_which_mode_it_was_given(mode: str, distributed: bytes) -> None:
    """Before the first table there is no other mode to tell of than the usual one."""
    shown = mode.encode() or b"distributed"
    assert mode_fields(mode) == b"X-Ollama-Distributed: %b\r\nX-Ollama-Mode: %b\r\n" % (distributed, shown)


def test_a_fallback_gives_its_reason_in_one_line_of_ascii() -> None:
    """A reason may quote what a backend has said."""
    fields = grant_fields(Grant(1, 0, "local", "gpu1: \u00fc\r\nX: y"))

    assert fields == b"X-Ollama-Fallback: local\r\nX-Ollama-Fallback-Reason: gpu1: ?X: y\r\n"
    assert grant_fields(Grant(1, 0)) == b""


def test_an_answer_that_has_waited_says_in_which_place() -> None:
    """Whether somebody stands in or not."""
    assert grant_fields(Grant(1, 0, position=3)) == b"X-Ollama-Queue-Position: 3\r\n"
    assert grant_fields(Grant(1, 0, "local", "x", position=3)) == (
        b"X-Ollama-Queue-Position: 3\r\nX-Ollama-Fallback: local\r\nX-Ollama-Fallback-Reason: x\r\n"
    )
