"""The gateway beside a real Ollama 0.17.4: the same requests in the same order, the same answers."""

import json
from dataclasses import replace

import pytest

from tests.lab.conformance import plain
from tests.lab.conformance.differences import BESIDE, DIFFERENCES
from tests.lab.conformance.readable import Answer, readable, unlike
from tests.lab.conformance.servers import Pair, Server, Side, unload
from tests.lab.conformance.tables import asking, bodies, changes, compatible, doors, front, inference, library
from tests.lab.conformance.wire import Request, ask
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

# Requests of one table are made in its order, for one may stand on what another did.
TABLES = {
    "front": front.FRONT,
    "doors": front.DOORS,
    "paths": doors.PATHS,
    "methods": doors.METHODS,
    "browsers": doors.BROWSERS,
    "bodies": bodies.SYNTAX,
    "travels": bodies.TRAVELS,
    "syntax": inference.SYNTAX,
    "generate": inference.GENERATE,
    "keeping": inference.KEEPING,
    "chat": inference.CHAT,
    "embed": inference.EMBED,
    "library": library.LIBRARY,
    "create": library.CREATE,
    "generate-more": asking.GENERATE,
    "chat-more": asking.CHAT,
    "openai-more": asking.OPENAI,
    "anthropic-more": asking.ANTHROPIC,
    "openai": compatible.OPENAI,
    "anthropic": compatible.ANTHROPIC,
}

FLOWS = {"blobs": changes.BLOBS, "copies": changes.COPIES, "registry": changes.REGISTRY, "cloud": changes.CLOUD}


def answered(pair: Pair, server: Server, request: Request) -> Answer:
    return readable(ask(server.port, request), pair.names)


def expected(request: Request, answer: Answer) -> Answer:
    """What the gateway shall answer, given what the Ollama did: the same, but for what is written down as different."""
    for difference in DIFFERENCES:
        if difference.applies(request, answer):
            answer = difference.alter(request, answer)
    return answer


def without_our_own(answer: Answer) -> Answer:
    """Without the fields that say which host it was, and lines of progress from host to host: tests of the gateway hold those."""
    headers = {key: value for key, value in answer.headers.items() if not key.startswith("x-ollama-")}
    body = answer.body
    if isinstance(body, list):
        body = [line for line in body if not (isinstance(line, dict) and BESIDE.match(str(line.get("status"))))]
    return replace(answer, headers=headers, body=body)


@pytest.mark.parametrize("table", TABLES)
def test_the_gateway_answers_as_a_real_ollama(pair: Pair, table: str) -> None:
    """Status, header fields, content type, body and each chunk of a stream are equal, but for times and random names."""
    unload(pair)
    different = []
    for request in TABLES[table]:
        if request.path == "/api/ps":  # a real Ollama unloads in the background
            wait_until(lambda: settled(pair), "what is loaded to be the same", 10)
        want = expected(request, answered(pair, pair.direct, request))
        got = without_our_own(answered(pair, pair.gateway, request))
        if found := unlike(want, got):
            different.append(f"  {request}\n{found}")

    assert not different, "\n".join([f"{len(different)} of {len(TABLES[table])} differ", *different])


def test_models_are_listed_alike(pair: Pair) -> None:
    """The newest first, each with the time that it was made on a host, to the last digit, and as Ollama writes it."""
    direct, gateway = (listed(server) for server in (pair.direct, pair.gateway))

    assert list(direct) == ["sky2:latest", "sky:latest"]
    assert list(gateway.items()) == list(direct.items())


def listed(server: Server) -> dict[str, str]:
    rows = json.loads(ask(server.port, Request("GET", "/api/tags")).body)["models"]
    return {row["name"]: row["modified_at"] for row in rows if row["name"].startswith("sky")}


@pytest.mark.parametrize("flow", FLOWS)
def test_what_changes_models_changes_them_alike(pair: Pair, sides: tuple[Side, Side], flow: str) -> None:
    """The same flow has the same answers and leaves the same models; of progress the steps, in their order."""
    different = []
    for request in FLOWS[flow]:
        if request.path == "/api/ps":
            wait_until(lambda: settled(pair), "what is loaded to be the same", 10)
        want, got = (without_our_own(stepwise(side, request)) for side in sides)
        if found := unlike(want, got):
            different.append(f"  {request}\n{found}")

    assert not different, "\n".join([f"{len(different)} of {len(FLOWS[flow])} differ", *different])


def stepwise(side: Side, request: Request) -> Answer:
    """An answer whose progress is told in steps: how often each of them is told depends on how long it takes."""
    body = request.body
    if isinstance(body, dict):
        body = {
            key: value.replace("REGISTRY", side.registry) if isinstance(value, str) else value
            for key, value in body.items()
        }
    answer = readable(ask(side.server.port, replace(request, body=body)), side.names)
    lines = answer.body
    if isinstance(lines, list) and lines and all(isinstance(line, dict) and "status" in line for line in lines):
        return replace(answer, body=plain.progress(lines))
    return answer


def settled(pair: Pair) -> bool:
    request = Request("GET", "/api/ps")
    return bool(answered(pair, pair.direct, request).body == answered(pair, pair.gateway, request).body)
