"""A fleet at night: clients of all kinds keep asking while hosts lose power, the gateway's own processes are killed, it is reloaded and drained.

Nothing of that may cost a client more than docs/reference/failures.md says: a stream whose host dies ends with an error, connections of a worker that is killed
end with it, and listings that the control process was sending; every other request is served, with the words that its model says. Anything else fails the run, which names what had happened just before.
"""

import asyncio
import json
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench import markdown
from bench.cpu import tree
from olladist.demo.shell import Shell
from olladist.demo.stage import HOSTS, SENTENCES, Stage, set_up

# A client sees the end of a connection that late, at most, on a busy machine.
SEEN_WITHIN = 1.0
BACK_WITHIN = 30.0
LISTINGS = ("/api/tags", "/api/ps", "/v1/models", "/api/version", "/healthz", "/api/distributed/status")


@dataclass(frozen=True, slots=True)
class Sizes:
    seconds: float
    clients: int  # of each kind


SIZES = {"full": Sizes(600, 2), "quick": Sizes(100, 2), "tiny": Sizes(6, 1)}


class Wrong(Exception):
    """An answer that it should not have been."""


@dataclass
class Night:
    """What was done to the gateway and when, and what became of requests."""

    stage: Stage
    shell: Shell
    done: list[tuple[float, str]] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.done.append((time.monotonic(), what))

    def lost(self, kind: str, why: str) -> None:
        """A request came to nothing: with the process that was killed over it, or as it should not."""
        now = time.monotonic()
        lately = {what for when, what in self.done if now - when < SEEN_WITHIN}
        if "kill a worker" in lately:
            self.ends["lost with their worker"] += 1
            return
        if kind == "lists" and "kill the control process" in lately and "without sending complete" in why:
            self.ends["lost with the control process"] += 1
            return
        before = ", ".join(f"{what} {now - when:.1f} s before" for when, what in self.done[-3:])
        self.problems.append(f"{kind}: {why} ({before})")


# Clients. Each asks once; what it returns is how it ended.


async def _chat(client: httpx.AsyncClient, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": str(random.randrange(50))}]}
    text, last = "", dict[str, Any]()
    async with client.stream("POST", "/api/chat", json=body) as answer:
        await _is_200(answer)
        async for line in answer.aiter_lines():
            last = json.loads(line)
            text += last.get("message", {}).get("content", "")
    return "cut with an error" if "error" in last else _said(model, text, whole=bool(last.get("done")))


async def _openai(client: httpx.AsyncClient, model: str) -> str:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "?"}]}
    text, last = "", ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        await _is_200(answer)
        async for line in answer.aiter_lines():
            last = line.removeprefix("data: ") or last
            if last.startswith("{") and line:
                event = json.loads(last)
                if "error" in event:
                    return "cut with an error"
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return _said(model, text, whole=last == "[DONE]")


async def _generate(client: httpx.AsyncClient, model: str) -> str:
    answer = await client.post("/api/generate", json={"model": model, "prompt": "?", "stream": False})
    await _is_200(answer)
    return _said(model, answer.json()["response"], whole=True)


async def _on_a_new_connection(client: httpx.AsyncClient, model: str) -> str:
    async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as another:
        return await _generate(another, model)


async def _leave(client: httpx.AsyncClient, model: str) -> str:
    try:
        async with asyncio.timeout(random.uniform(0.01, 0.3)):
            return await _generate(client, model)
    except TimeoutError:
        return "left"


async def _list(client: httpx.AsyncClient, model: str) -> str:
    await _is_200(await client.get(random.choice(LISTINGS)))
    return "listed"


async def _is_200(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise Wrong(f"{answer.status_code} {(await answer.aread())[:300]!r}")


def _said(model: str, text: str, *, whole: bool) -> str:
    if not whole or text.strip() != SENTENCES[model]:
        raise Wrong(f"{model} said {text!r}")
    return "served"


KINDS: Mapping[str, Callable[[httpx.AsyncClient, str], Awaitable[str]]] = {
    "chat": _chat,
    "OpenAI": _openai,
    "generate": _generate,
    "new connection": _on_a_new_connection,
    "leaves": _leave,
    "lists": _list,
}


async def _ask_on(night: Night, client: httpx.AsyncClient, kind: str, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            night.ends[await KINDS[kind](client, random.choice(list(SENTENCES)))] += 1
        except (httpx.HTTPError, Wrong, ValueError, KeyError) as problem:
            night.lost(kind, f"{type(problem).__name__} {problem}")


# What is done to the gateway.


def _processes(name: str) -> list[int]:
    """Those of the gateway with that in their command lines, the one that was started first in front."""
    found = []
    for pid in sorted(tree(os.getpid())):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if name in words:
            found.append(pid)
    return found


async def _power_cut(night: Night, host: str) -> None:
    night.note(f"{host} loses power")
    await asyncio.to_thread(night.stage.hosts.kill, host)
    await asyncio.sleep(random.uniform(0.5, 4))
    await asyncio.to_thread(night.stage.hosts.start, host)
    up = await asyncio.to_thread(night.shell.olladist, "up", "--yes", "--no-models")
    night.note(f"{host} has power again")
    if up.status or not await _are_all_up(night):
        night.problems.append(f"{host} is not used again: {up.output[-500:]}")


async def _are_all_up(night: Night) -> bool:
    return await _comes_true(night, "nodes", lambda told: all(node["state"] == "up" for node in told["nodes"]))


async def _comes_true(night: Night, document: str, condition: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether what the gateway tells of itself meets the condition, within BACK_WITHIN."""
    deadline = time.monotonic() + BACK_WITHIN
    async with httpx.AsyncClient(base_url=night.stage.gateway, timeout=60) as client:
        while time.monotonic() < deadline:
            if condition((await client.get(f"/api/distributed/{document}")).json()):
                return True
            await asyncio.sleep(0.1)
    return False


async def _drain(night: Night, host: str) -> None:
    night.note(f"{host} is drained")
    for word in ("drain", "undrain"):
        if (ran := await asyncio.to_thread(night.shell.olladist, "proxy", word, host)).status:
            night.problems.append(ran.output)


async def _kill_control(night: Night, _: str) -> None:
    night.note("kill the control process")
    for pid in _processes("gateway.control"):
        os.kill(pid, signal.SIGKILL)


async def _kill_worker(night: Night, _: str) -> None:
    night.note("kill a worker")
    if workers := _processes("gateway.edge"):
        os.kill(random.choice(workers), signal.SIGKILL)


async def _reload(night: Night, _: str) -> None:
    night.note("reload")
    os.kill(_processes("\0proxy\0--workers")[0], signal.SIGHUP)


EVENTS = (_power_cut, _drain, _kill_control, _kill_worker, _reload)


async def _through(night: Night, sizes: Sizes) -> None:
    stop = asyncio.Event()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with (
        httpx.AsyncClient(base_url=night.stage.gateway, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for kind in KINDS:
            for _ in range(sizes.clients):
                tasks.create_task(_ask_on(night, client, kind, stop))
        end = time.monotonic() + sizes.seconds
        while time.monotonic() < end:
            await asyncio.sleep(random.uniform(1, 4))
            await random.choice(EVENTS)(night, random.choice(HOSTS))
        stop.set()
    if not await _comes_true(night, "status", lambda told: not (told["in_flight"] or told["waiting"])):
        night.problems.append("nobody asks, and yet requests run or wait")


def run(sizes: Sizes, seed: int) -> Night:
    """Raises AssertionError where a request came to nothing that should not have."""
    random.seed(seed)
    with tempfile.TemporaryDirectory(prefix="olladist-soak-") as folder, set_up(Path(folder), simulated=True) as stage:
        shell = Shell(stage, lambda _: None)
        for words in (("up", "--yes", "--accept-new", "--no-models"), ("models", "sync", "--yes")):
            assert not (ran := shell.olladist(*words)).status, ran.output
        night = Night(stage, shell)
        with shell.gateway():
            asyncio.run(_through(night, sizes))
    assert not night.problems, "\n".join([f"seed {seed}:", *night.problems])
    return night


def table(night: Night) -> str:
    events = Counter(re.sub(r"gpu\d", "a host", what) for _, what in night.done)
    happened = markdown.table(["what happened", "times"], [[what, str(n)] for what, n in sorted(events.items())])
    ended = markdown.table(["how requests ended", ""], [[end, str(n)] for end, n in sorted(night.ends.items())])
    return f"{happened}\n\n{ended}"
