"""What the doctor asks a gateway, and what it concludes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from olladist.fleet.findings import Verdict
from olladist.fleet.gateway_checks import (
    GatewayEvidence,
    NodeSeen,
    ask_gateway,
    is_gateway,
    judge_gateway,
)

Answers = Mapping[str, tuple[int, str]]

NODES = [
    {"name": "gpu1", "host": "gpu1", "state": "up", "reason": ""},
    {"name": "other", "host": "other", "state": "down", "reason": "not asked for"},
]
TAGS = [{"name": "big:latest", "size": 9}, {"name": "small:latest", "size": 1}]
WELL: Answers = {
    "/api/distributed/status": (200, '{"schema": "olladist.gateway.status"}'),
    "/api/distributed/nodes": (200, json.dumps({"nodes": NODES})),
    "/api/version": (200, '{"version": "0.17.4"}'),
    "/api/tags": (200, json.dumps({"models": TAGS})),
    "/api/ps": (200, '{"models": []}'),
    "/v1/models": (200, '{"data": []}'),
    "/api/generate": (200, '{"response": "Hello"}\n{"response": " there", "done": true}\n'),
    "/api/embed": (200, '{"embeddings": []}'),
}


@asynccontextmanager
async def gateway(answers: Answers) -> AsyncIterator[str]:
    """An HTTP server that gives these answers, and says which host they came from."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, body = answers.get(head.split()[1], (404, "404 page not found"))
        data = body.encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nX-Ollama-Node: gpu1\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def examined(answers: Answers, *wanted: str) -> GatewayEvidence:
    async with gateway(answers) as url:
        return await ask_gateway(url, {"gpu1"}, wanted, started=False)


async def test_a_gateway_is_told_from_an_ollama() -> None:
    """Only what answers with our own document is one; a closed port is none."""
    async with gateway(WELL) as ours, gateway({"/api/version": (200, "{}")}) as ollama:
        assert await is_gateway(ours)
        assert not await is_gateway(ollama)
    assert not await is_gateway(ours)


async def test_all_is_well() -> None:
    """The nodes asked about, the APIs, and words from the declared model."""
    evidence = await examined(WELL, "gone:latest", "big:latest")
    findings = judge_gateway(evidence)

    assert [finding.verdict for finding in findings] == [Verdict.OK] * 4
    assert [finding.text for finding in findings] == [
        f"{evidence.url}, which is running",
        "1 of 1 up",
        "/api/version, /api/tags, /api/ps, /v1/models answer",
        "big:latest on gpu1 answers: Hello there",
    ]


async def test_without_a_declared_model_the_smallest_is_asked() -> None:
    """It is the quickest to load."""
    assert (await examined(WELL)).model == "small:latest"


async def test_a_model_that_cannot_generate_is_asked_for_an_embedding() -> None:
    """An embedding model proves as much."""
    refused = {**WELL, "/api/generate": (400, '{"error": "\\"small\\" does not support generate"}')}

    assert judge_gateway(await examined(refused))[-1].text.endswith("answers: an embedding")


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"/api/tags": (500, '{"error": "no"}')}, "APIs", "/api/tags: 500"),
        ({"/api/distributed/nodes": (500, "no")}, "gateway", "it answers no more, or not as it should"),
        ({"/api/tags": (200, '{"models": [7]}')}, "gateway", "it answers no more, or not as it should"),
        ({"/v1/models": (503, "busy")}, "APIs", "/v1/models: 503 busy"),
        ({"/api/ps": (200, "[]")}, "APIs", "/api/ps: its answer has no 'models'"),
        ({"/api/generate": (500, '{"error": "out of memory"}')}, "generation", "out of memory"),
        ({"/api/generate": (200, '{"response": "He"}\n{"error": "cut off"}\n')}, "generation", "cut off"),
        ({"/api/generate": (200, '{"response": "He"}\n')}, "generation", "the stream ended before it was done"),
        ({"/api/tags": (200, '{"models": []}')}, "generation", "there is no model on any host"),
        ({"/api/distributed/nodes": (200, '{"nodes": []}')}, "hosts", "it knows none of these hosts"),
    ],
)
async def test_what_is_wrong_is_named_with_its_fix(change: Answers, check: str, says: str) -> None:
    """The check that fails says what was answered, and what to do."""
    failed = [f for f in judge_gateway(await examined({**WELL, **change})) if f.verdict is Verdict.FAILED]

    assert [finding.check for finding in failed] == [check]
    assert says in failed[0].text
    assert failed[0].fix


def test_a_host_that_the_gateway_does_not_reach() -> None:
    """Its state and the reason."""
    evidence = GatewayEvidence("http://x", nodes=(NodeSeen("gpu1", "down", "connection refused"),), api={}, model="m")

    assert judge_gateway(evidence)[1].text == "gpu1 is down: connection refused"
    assert judge_gateway(replace(evidence, started=True))[0].text == "http://x, started for this check"


@pytest.mark.parametrize("evidence", [None, GatewayEvidence(problem="it did not start")])
def test_without_a_gateway_the_rest_is_not_checked(evidence: GatewayEvidence | None) -> None:
    """And counts as failed."""
    findings = judge_gateway(evidence)

    assert len(findings) == 4
    assert all(finding.verdict is not Verdict.OK for finding in findings)
    assert all(finding.text.startswith("not checked: needs ") for finding in findings[1:])
