"""Answers of a host that has gone mad: a good one, changed at random and cut into reads at random."""

import json
from random import Random

import pytest

from tests.gateway.edge.harness import LAST_CHUNK, Connection, Gateway, chunk
from tests.gateway.faults.speech import SPEECHES, End, Speech, see

ROUNDS = 25
# What changes an answer's meaning more often than any byte would.
SCRAPS = [
    b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r", b"\n", b"\0", b"{", b"}", b'"', b"data: ", b"ffffffffffffffff\r\n", b"-1\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"event: error\n", b'{"error":"x"}\n', b"\xff\xfe",
]  # fmt: skip


def changed(good: bytes, random: Random) -> bytes:
    """With up to four places overwritten, cut out, doubled, or stuffed with something."""
    data = good
    for _ in range(random.randint(0, 4)):
        at = random.randrange(len(data) + 1)
        to = min(len(data), at + random.choice([1, 1, 2, 10, 60]))
        put = random.choice([b"", data[at:to] * 2, random.randbytes(random.randint(1, 4)), *SCRAPS])
        data = data[:at] + put + data[to if random.random() < 0.5 else at :]
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
async def test_whatever_a_host_sends_a_client_gets_http(gate: Gateway, speech: Speech, seed: int) -> None:
    """Each answer is whole or visibly cut, and none of it turns up in somebody else's."""
    random = Random(seed)  # noqa: S311  the same each time
    words: list[bytes] = []

    async def mad(connection: Connection, _head: bytes, body: bytes) -> None:
        stream = json.loads(body)["stream"]
        data = changed(speech.answer(stream=stream).replace(b"one", words[-1]), random)
        while data:
            size = random.choice([1, 7, 50, 1000])
            await connection.send(data[:size])
            data = data[size:]
        connection.writer.close()

    await gate.add("gpu1", mad)
    await gate.joined()
    for _ in range(ROUNDS):
        words.append(random.randbytes(8).hex().encode())
        client = await gate.client()
        client.send(speech.request(stream=bool(random.randrange(2))))
        seen = await see(client)
        client.leave()
        assert seen.end is End.CUT or seen.status >= 200, seen
        assert not any(word in seen.body for word in words[:-1]), seen


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("speech", SPEECHES.values(), ids=SPEECHES)
async def test_an_answer_passes_however_it_is_cut_into_reads(gate: Gateway, speech: Speech, size: int) -> None:
    """Also within its head, its chunk sizes and its line ends."""
    usage = {
        "/api/chat": b'{"done":true,"prompt_eval_count":7,"eval_count":9}\n',
        "/api/generate": b'{"done":true,"prompt_eval_count":7,"eval_count":9}\n',
        "/v1/chat/completions": b'data: {"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n',
        "/v1/responses": b'data: {"response":{"usage":{"input_tokens":7,"output_tokens":9}}}\n\n',
        "/v1/messages": b'data: {"usage":{"input_tokens":7,"output_tokens":9}}\n\n',
    }[speech.path]
    answer = speech.head + chunk(speech.line) + chunk(usage) + LAST_CHUNK

    async def in_pieces(connection: Connection, _head: bytes, _body: bytes) -> None:
        for at in range(0, len(answer), size):
            await connection.send(answer[at : at + size])

    await gate.add("gpu1", in_pieces)
    await gate.joined()
    client = await gate.client()
    client.send(speech.request(stream=True))

    seen = await see(client)

    assert (seen.status, seen.end, seen.body) == (200, End.WHOLE, speech.line + usage)
