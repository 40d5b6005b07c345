"""What `doctor` asks a gateway, as any client would, and what it concludes: the fleet as one Ollama."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import httpx
import msgspec

from olladist.fleet.findings import Area, Finding, Verdict

# The gateway probes its hosts as soon as it starts; tunnels through a bastion and a slow login take some seconds.
NODES_SECONDS = 15.0
# From a disk of 200 MB/s a model of 40 GB takes 200 s to load.
GENERATION_SECONDS = 300.0
GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class NodeSeen:
    name: str
    state: str
    reason: str
    host: str = ""


class _Nodes(msgspec.Struct):
    nodes: tuple[NodeSeen, ...]


class _Tag(msgspec.Struct):
    name: str
    size: int = 0


class _Tags(msgspec.Struct):
    models: tuple[_Tag, ...]


class _Part(msgspec.Struct):
    """A line of a streamed generation."""

    response: str = ""
    done: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class GatewayEvidence:
    """`problem` says why there is no gateway. `api` is each path asked and what was wrong with its answer, "" for nothing.

    `generated` is what a model said, `generation_problem` why it did not.
    """

    url: str = ""
    started: bool = False  # for this check, as none was running
    problem: str = ""
    nodes: tuple[NodeSeen, ...] = ()
    api: Mapping[str, str] | None = None
    model: str = ""
    node: str = ""
    generated: str = ""
    generation_problem: str = ""


# Path to the key that its answer must have: the Ollama and the OpenAI dialect.
PATHS = {"/api/version": "version", "/api/tags": "models", "/api/ps": "models", "/v1/models": "data"}


# ---- asking ----


async def is_gateway(url: str) -> bool:
    """Whether a gateway of ours, and not some Ollama, answers there."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=2.0, trust_env=False) as client:
            document = (await client.get("/api/distributed/status")).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(document, dict) and str(document.get("schema", "")).startswith("olladist.")


async def ask_gateway(url: str, hosts: Collection[str], wanted: Collection[str], *, started: bool) -> GatewayEvidence:
    """Nodes, the APIs, and one streamed generation with the first model of `wanted` that is there, else with any."""
    async with httpx.AsyncClient(base_url=url, timeout=20.0, trust_env=False) as client:
        evidence = GatewayEvidence(url.partition("/key/")[0], started)  # the key is not for reports
        try:
            evidence = replace(evidence, nodes=await _settled_nodes(client, hosts))
            evidence = replace(
                evidence, api={path: await _problem_at(client, path, key) for path, key in PATHS.items()}
            )
            if any((evidence.api or {}).values()):
                return evidence
            names = await _models(client)
            model = next((name for name in wanted if name in names), next(iter(names), ""))
            return await _generate(client, replace(evidence, model=model)) if model else evidence
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            return replace(
                evidence, problem=f"it answers no more, or not as it should: {error or type(error).__name__}"
            )


async def _settled_nodes(client: httpx.AsyncClient, hosts: Collection[str]) -> tuple[NodeSeen, ...]:
    """The nodes of these hosts, as soon as all of them are up, or as they are after a while."""
    deadline = asyncio.get_running_loop().time() + NODES_SECONDS
    while True:
        answer = await client.get("/api/distributed/nodes")
        nodes = tuple(node for node in msgspec.json.decode(answer.content, type=_Nodes).nodes if node.host in hosts)
        if all(node.state == "up" for node in nodes) or asyncio.get_running_loop().time() > deadline:
            return nodes
        await asyncio.sleep(0.1)


async def _problem_at(client: httpx.AsyncClient, path: str, key: str) -> str:
    response = await client.get(path)
    if response.status_code != httpx.codes.OK:
        return f"{response.status_code} {response.text[:200]}"
    document = msgspec.json.decode(response.content)
    return "" if isinstance(document, dict) and key in document else f"its answer has no {key!r}"


async def _models(client: httpx.AsyncClient) -> tuple[str, ...]:
    """The smallest first: it is the quickest to load."""
    answer = await client.get("/api/tags")
    tags = msgspec.json.decode(answer.content, type=_Tags).models
    return tuple(tag.name for tag in sorted(tags, key=lambda tag: tag.size))


async def _generate(client: httpx.AsyncClient, evidence: GatewayEvidence) -> GatewayEvidence:
    """A few streamed words; a model that cannot generate is asked for an embedding."""
    body = {"model": evidence.model, "prompt": "Say hello.", "stream": True, "options": {"num_predict": 16}}
    said, done = "", False
    timeout = httpx.Timeout(GENERATION_SECONDS, connect=5.0)
    async with client.stream("POST", "/api/generate", json=body, timeout=timeout) as response:
        evidence = replace(evidence, node=response.headers.get("x-ollama-node", ""))
        if response.status_code != httpx.codes.OK:
            text = (await response.aread()).decode(errors="replace")
            if "does not support generate" in text:
                return await _embed(client, evidence)
            return replace(evidence, generation_problem=f"{response.status_code} {text[:300]}")
        async for line in response.aiter_lines():
            part = msgspec.json.decode(line, type=_Part)
            if part.error:
                return replace(evidence, generated=said, generation_problem=part.error)
            said += part.response
            done = part.done
    return replace(evidence, generated=said, generation_problem="" if done else "the stream ended before it was done")


async def _embed(client: httpx.AsyncClient, evidence: GatewayEvidence) -> GatewayEvidence:
    body = {"model": evidence.model, "input": "hello"}
    response = await client.post("/api/embed", json=body, timeout=httpx.Timeout(GENERATION_SECONDS, connect=5.0))
    if response.status_code != httpx.codes.OK:
        return replace(evidence, generation_problem=f"{response.status_code} {response.text[:300]}")
    return replace(evidence, generated="an embedding")


# ---- concluding: pure ----


def judge_gateway(evidence: GatewayEvidence | None) -> tuple[Finding, ...]:
    """Gateway, hosts behind it, APIs, and the generation; None: no Ollama answers, so there is nothing to ask for."""
    if evidence is None:
        return _not_checked("an Ollama that answers", _ALL)
    if evidence.problem:
        fix = "`olladist proxy -v` says more"
        return (
            Finding(Area.DISTRIBUTED, GATEWAY, "gateway", Verdict.FAILED, evidence.problem, fix),
            *_not_checked("gateway", _ALL[1:]),
        )
    where = f"{evidence.url}, started for this check" if evidence.started else f"{evidence.url}, which is running"
    return (
        Finding(Area.DISTRIBUTED, GATEWAY, "gateway", Verdict.OK, where),
        _judge_nodes(evidence),
        _judge_api(evidence),
        _judge_generation(evidence),
    )


_ALL = (
    (Area.DISTRIBUTED, "gateway"),
    (Area.DISTRIBUTED, "hosts"),
    (Area.API, "APIs"),
    (Area.END_TO_END, "generation"),
)


def _not_checked(needs: str, checks: Iterable[tuple[Area, str]]) -> tuple[Finding, ...]:
    return tuple(
        Finding(area, GATEWAY, name, Verdict.NOT_CHECKED, f"not checked: needs {needs}") for area, name in checks
    )


def _judge_nodes(evidence: GatewayEvidence) -> Finding:
    away = [node for node in evidence.nodes if node.state != "up"]
    if not evidence.nodes:
        text = "it knows none of these hosts"
        fix = "it runs with another inventory: restart `olladist proxy` with this one"
        return Finding(Area.DISTRIBUTED, GATEWAY, "hosts", Verdict.FAILED, text, fix)
    if away:
        text = "; ".join(f"{node.name} is {node.state}: {node.reason}" for node in away)
        fix = "`olladist status` says what is wrong with them"
        return Finding(Area.DISTRIBUTED, GATEWAY, "hosts", Verdict.FAILED, text, fix)
    return Finding(Area.DISTRIBUTED, GATEWAY, "hosts", Verdict.OK, f"{len(evidence.nodes)} of {len(evidence.nodes)} up")


def _judge_api(evidence: GatewayEvidence) -> Finding:
    bad = {path: problem for path, problem in (evidence.api or {}).items() if problem}
    if bad:
        text = "; ".join(f"{path}: {problem}" for path, problem in bad.items())
        return Finding(Area.API, GATEWAY, "APIs", Verdict.FAILED, text, "`olladist proxy -v` says more")
    return Finding(Area.API, GATEWAY, "APIs", Verdict.OK, f"{', '.join(PATHS)} answer")


def _judge_generation(evidence: GatewayEvidence) -> Finding:
    check = (Area.END_TO_END, GATEWAY, "generation")
    if any((evidence.api or {}).values()):
        return Finding(*check, Verdict.NOT_CHECKED, "not checked: needs APIs")
    if not evidence.model:
        fix = 'declare one in the inventory ([models."llama3.2:3b"]), then olladist models sync'
        return Finding(*check, Verdict.FAILED, "there is no model on any host", fix)
    on = f"{evidence.model} on {evidence.node or 'a host'}"
    if evidence.generation_problem:
        return Finding(*check, Verdict.FAILED, f"{on}: {evidence.generation_problem}", "`olladist logs` says why")
    return Finding(*check, Verdict.OK, f"{on} answers: {' '.join(evidence.generated.split())[:60]}")
