"""Each row of docs/reference/failures.md, in each protocol, streaming and not."""

import asyncio
from pathlib import Path

import pytest

from tests.gateway.edge.harness import Client, Connection, Gateway, Node, Script, until
from tests.gateway.faults.speech import SPEECHES, End, Seen, Speech, see
from tests.gateway.faults.table import (
    AFTER,
    BEFORE,
    HALF,
    After,
    Before,
    Does,
    Sees,
    after_table,
    before_table,
    nothing,
    well,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "failures.md"
# Of those two that fail alike before an answer, one.
SHAPES = [speech for path, speech in SPEECHES.items() if path != "/api/generate"]
protocols = pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
streams = pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])


def script(does: Does, speech: Speech, *, stream: bool) -> Script:
    async def run(connection: Connection, _head: bytes, _body: bytes) -> None:
        await does(connection, speech, stream)

    return run


async def asking(gate: Gateway, speech: Speech, *, stream: bool) -> Client:
    await gate.joined()
    client = await gate.client()
    client.send(speech.request(stream=stream))
    return client


async def found_down(gate: Gateway, node: Node) -> None:
    await until(lambda: node.requests, "the host has the request")
    gate.control.down = {node.name}
    gate.control.push()
    await until(lambda: not all(backend.up for backend in gate.edge.worker.backends), "the worker knows")


def holds(sees: Sees, seen: Seen, speech: Speech, *, stream: bool, came: bytes = b"", said: bytes = b"") -> None:
    """What the words of the table mean; `came` is what the first host had sent, `said` its error."""
    whole = speech.body(stream=stream)
    error = speech.error(seen.body)
    if sees is Sees.OTHER:
        assert (seen.status, seen.body, seen.end) == (200, whole, End.WHOLE)
        assert b"X-Ollama-Node: well\r\n" in seen.head
    elif sees is Sees.WHOLE:
        assert (seen.status, seen.body, seen.end) == (200, whole, End.WHOLE)
    elif sees is Sees.SAME:
        assert seen.status >= 400
        assert (seen.body, seen.end) == (said, End.WHOLE)
    elif sees is Sees.UNAVAILABLE:
        assert (seen.status, seen.end) == (503, End.WHOLE)
        assert b"\r\nRetry-After: 1\r\n" in seen.head
        assert "(gpu1: " in error
    elif sees is Sees.TWO_DIED:
        assert (seen.status, seen.end) == (502, End.WHOLE)
        assert "gpu1: it ended" in error
        assert "gpu2: it ended" in error
    elif sees is Sees.ERROR_LINE:
        assert (seen.status, seen.end) == (200, End.WHOLE)
        assert seen.body.startswith(came)
        assert error.startswith("gpu1: ")
    else:
        assert sees is Sees.CUT
        assert (seen.status, seen.end) == (200, End.CUT)
        assert seen.body.startswith(came)
        assert not error


@pytest.mark.parametrize("speech", SHAPES, ids=lambda speech: speech.path)
@streams
@pytest.mark.parametrize("alone", [False, True], ids=["another", "alone"])
@pytest.mark.parametrize("fault", BEFORE, ids=lambda fault: fault.what)
async def test_before_an_answer_has_begun(
    gate: Gateway, fault: Before, speech: Speech, *, stream: bool, alone: bool
) -> None:
    """Another host answers where that can help; else the client is told, in its own protocol, and may ask again."""
    does = fault.does or well
    nodes = [await gate.add(f"gpu{n + 1}", script(does, speech, stream=stream)) for n in range(fault.hosts)]
    if fault.does is None:
        await nodes[0].stop()
    if not alone:
        await gate.add("well", script(well, speech, stream=stream))
    client = await asking(gate, speech, stream=stream)
    if fault.found_down:
        await found_down(gate, nodes[0])

    seen = await see(client)

    said = b""
    if fault.alone is Sees.SAME:
        said = await said_by(nodes[0])
    holds(fault.alone if alone else fault.another, seen, speech, stream=stream, said=said)
    await still_served(gate, client, speech, stream=stream)


async def still_served(gate: Gateway, client: Client, speech: Speech, *, stream: bool) -> None:
    """The connection is as good as before."""
    gate.control.down = {node.name for node in gate.control.nodes}
    await gate.add("well again", script(well, speech, stream=stream))
    gate.control.push()
    await until(lambda: any(b.node == "well again" for b in gate.edge.worker.backends), "the worker knows")
    client.send(speech.request(stream=stream))
    assert (await see(client)).body == speech.body(stream=stream)


async def said_by(node: Node) -> bytes:
    """What the host answers when it is asked without a gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.address.rpartition(":")[2]))
    direct = Client(reader, writer)
    direct.send(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    body = (await direct.answer())[1]
    direct.leave()
    return body


@protocols
@pytest.mark.parametrize(
    ("fault", "stream"),
    [(row, stream) for row in AFTER for stream in (True, False) if stream or row.plain],
    ids=lambda value: value.what if isinstance(value, After) else "stream" if value else "plain",
)
async def test_after_an_answer_has_begun(gate: Gateway, fault: After, speech: Speech, *, stream: bool) -> None:
    """No other host can go on with it: the client learns that it is not whole, and never takes half an answer for one."""
    sees = fault.stream if stream else fault.plain
    assert sees
    came = speech.line if stream else speech.whole[:HALF]
    if fault.begins is nothing:
        came = b""
    elif fault.begins is well:
        came = speech.body(stream=stream)
    begun = asyncio.Event()

    async def run(connection: Connection, _head: bytes, _body: bytes) -> None:
        await fault.begins(connection, speech, stream)
        if came:
            await asyncio.wait_for(begun.wait(), 10)
        if fault.found_down:
            await found_down(gate, node)
        await fault.does(connection, speech, stream)

    node = await gate.add("gpu1", run)
    other = await gate.add("well", script(well, speech, stream=stream))
    client = await asking(gate, speech, stream=stream)

    seen = await see(client, lambda body: begun.set() if len(body) >= len(came) else None)

    holds(sees, seen, speech, stream=stream, came=came)
    assert not other.requests
    await until(lambda: gate.control.dones, "the lease ends")
    assert gate.control.outcomes == ["served" if sees is Sees.WHOLE else "cut"]
    if sees is Sees.WHOLE:
        await still_served(gate, client, speech, stream=stream)


@pytest.mark.parametrize("table", [before_table(), after_table()], ids=["before", "after"])
def test_the_page_says_what_the_tests_hold(table: str) -> None:
    """Both tables stand in docs/reference/failures.md as they are here."""
    assert table in PAGE.read_text(), f"docs/reference/failures.md lacks this table:\n\n{table}"
