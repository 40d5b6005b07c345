"""The corpus of requests that have been used to slip one request past a proxy inside another, each with what comes of it."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import h11
import pytest

from tests.gateway.edge.harness import JSON_HEAD, Client, Connection, Gateway, Node, post

INNER = '{"model":"tiny","prompt":"no"}'
PARTS = {
    "{inner}": f"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(INNER)}\r\n\r\n{INNER}",
    "{chunked}": "POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "{40000 bytes}": "y" * 40_000,
    "{9000 fields}": "a:b\r\n" * 9_000,
}
LAST = b'{"model":"tiny","prompt":"last"}'

CASES: dict[str, dict[str, Any]] = {
    f"{file.stem}/{name}": case
    for file in sorted((Path(__file__).parent / "smuggling").glob("*.toml"))
    for name, case in tomllib.loads(file.read_text()).items()
}


class Backend(Node):
    """An Ollama that reads with h11 and shows what it was sent, and what h11 could not read."""

    def __init__(self) -> None:
        super().__init__("gpu1", control)
        self.bodies: list[bytes] = []
        self.problems: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(Connection(reader, writer))
        try:
            await self._read(reader, writer)
        except h11.RemoteProtocolError as problem:
            self.problems.append(str(problem))
        except ConnectionError:
            pass
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        body = b""
        while (event := connection.next_event()) is not h11.PAUSED and not isinstance(event, h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.bodies.append(body)
                writer.write(JSON_HEAD % len(body) + body)
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
                body = b""


def written_out(case: dict[str, Any]) -> bytes:
    sent: str = case["sent"]
    for part, text in PARTS.items():
        sent = sent.replace(part, text)
    return sent.encode("latin-1")


async def control(connection: Connection, head: bytes, body: bytes) -> None:
    await connection.send(JSON_HEAD % 2 + b"{}")


async def answers(client: Client, count: int) -> list[int]:
    return [(await client.answer())[0] for _ in range(count)]


@pytest.mark.parametrize("name", CASES)
async def test_nothing_is_slipped_past(gate: Gateway, name: str) -> None:
    """Each gets exactly the answers it shall, a backend sees exactly the bodies it shall, and what comes next is answered or cut off."""
    case = CASES[name]
    backend = Backend()
    await backend.start()
    gate.control.nodes.append(backend)
    await gate.serve_api(control)
    await gate.joined()
    client = await gate.client()

    client.send(written_out(case))

    assert await answers(client, len(case["answers"])) == case["answers"]
    if case.get("open"):
        client.send(post(body=LAST))
        assert await client.answer() == (200, LAST)
        assert backend.bodies == [*(body.encode() for body in case.get("passed", [])), LAST]
    else:
        assert await client.rest() == b""
        assert backend.bodies == [body.encode() for body in case.get("passed", [])]
    assert backend.problems == []


# Where an answer ends the connection, what a client goes on sending afterwards meets a closed one: that is its own doing.
CUTTABLE = [
    name
    for name, case in CASES.items()
    if ("open" in case or case["answers"][-1] != 200) and not ("bytes}" in case["sent"] or "fields}" in case["sent"])
]


async def test_nothing_is_slipped_past_in_pieces(gate: Gateway) -> None:
    """The same, cut into pieces of 7 bytes: where the network cuts must not matter."""
    await gate.add("gpu1")
    await gate.serve_api(control)
    await gate.joined()
    for name in CUTTABLE:
        case, client = CASES[name], await gate.client()
        raw = written_out(case)

        for start in range(0, len(raw), 7):
            client.send(raw[start : start + 7])
            await asyncio.sleep(0)

        assert await answers(client, len(case["answers"])) == case["answers"], name
        if not case.get("open"):
            assert await client.rest() == b"", name
        client.leave()
