"""Three real hosts with a real Ollama each, behind a gateway: five models of which two fit into each memory, and requests at given times.

The hosts are the lab's (tests/lab/hosts), as slow as a PACE says (tests/lab/slow.py). Needs root and `tests/lab/prepare`.
"""

import asyncio
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from olladist.ollama.digests import digest_of
from olladist.sim import gguf
from olladist.sim.virtual.scenario import Job
from tests.lab.machines import KEY, RELEASE, Hosts, Operator, address
from tests.lab.slow import Pace, SlowHosts, held

SLOTS, LOADED = 2, 2
# Together less than one core, so that the gateway and who asks have the other; such a disk loads a model in 1 to 4 s.
PACES = (Pace(0.36, 20_000_000), Pace(0.29, 18_000_000), Pace(0.22, 16_000_000))
# MB of weights, the most asked for first. What a model costs is its size: a token and a load alike.
MODELS = {"m1": 40.0, "m2": 28.0, "m3": 50.0, "m4": 22.0, "m5": 34.0}
# No answer asks for as many words.
SENTENCE = " ".join(f"w{number}" for number in range(250))
# Longer than anybody waits under any strategy.
WAIT = 900.0
# What Ollama makes of a prompt: a token of each character, and so many more.
MORE_TOKENS = 4


class Account(NamedTuple):
    """Seconds, as Ollama's final chunk tells them: until the model was there, of the prompt, of the output, of everything."""

    load: float
    prompt: float
    output: float
    total: float


class Answer(NamedTuple):
    """Seconds from when it was to be asked until the first token and the last."""

    number: int
    node: str
    first: float
    total: float
    account: Account


@dataclass
class Fleet:
    """`digests` tell the models' weights, by which Ollama names what it has in memory; `sizes` are bytes."""

    hosts: Mapping[str, Pace]
    slow: SlowHosts
    operator: Operator
    digests: Mapping[str, str]
    sizes: Mapping[str, int]

    @contextlib.contextmanager
    def gateway(self, strategy: str) -> Iterator[str]:
        """The address of an `olladist proxy` that has just begun: it has learned nothing yet, and no model is loaded."""
        for host in self.hosts:
            self.unload(host)
        log = self.operator.home / f"{strategy}.log"
        process = self.operator.start("olladist", "proxy", "--strategy", strategy, log=log)
        try:
            _wait(lambda: "listening on http://" in log.read_text() or process.poll() is not None, "a gateway")
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-2000:])
            url = log.read_text().partition("listening on ")[2].split()[0].rstrip(",.")
            _wait(lambda: _up(url) == len(self.hosts), "hosts that are up")
            yield url
        finally:
            process.terminate()
            process.wait(60)

    def unload(self, host: str) -> None:
        """Nothing is in its memory afterwards."""
        with _client(host) as client:
            for name in MODELS:
                client.post("/api/generate", json={"model": name, "keep_alive": 0}).raise_for_status()
            _wait(lambda: client.get("/api/ps").json()["models"] == [], f"an empty memory of {host}")

    def ask(self, host: str, model: str, prompt: str, output: int) -> Answer:
        """One host, asked past the gateway."""
        first, last = 0.0, ""
        with _client(host) as client:
            begin = time.monotonic()
            with client.stream("POST", "/api/generate", json=_body(model, prompt, output)) as response:
                for line in response.iter_lines():
                    first = first or time.monotonic() - begin
                    last = line
            took = time.monotonic() - begin
        return Answer(0, host, first, took, _account(f"{host}, {model}", response.status_code, last, output))


def _account(what: str, status: int, last: str, output: int) -> Account:
    """Of an answer's last line. Raises where it is not 200, not whole or not of so many tokens."""
    end = json.loads(last or "{}")
    if status != 200 or not end.get("done") or end.get("eval_count") != output:
        raise RuntimeError(f"{what}: {status} {last[:500]!r}")
    names = ("load_duration", "prompt_eval_duration", "eval_duration", "total_duration")
    return Account(*(end[name] / 1e9 for name in names))


def _body(model: str, prompt: str, output: int) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "options": {"num_predict": output}}


def _client(host: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://{address(host)}:11434", timeout=WAIT)


def prompt_of(number: int, tokens: int) -> str:
    """Text of so many tokens that begins like no other, so that no slot has any of it in its cache."""
    return f"{number:06d}"[::-1].ljust(max(6, tokens - MORE_TOKENS), "x")


def _wait(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        pause.wait(0.1)


def _up(url: str) -> int:
    nodes = httpx.get(f"{url}/api/distributed/nodes", timeout=10).json()["nodes"]
    return sum(node["state"] == "up" for node in nodes)


async def replay(url: str, jobs: Sequence[Job]) -> list[Answer]:
    """What became of each request, sent at its time whatever became of those before. An answer that is not 200 or not whole raises."""
    loop = asyncio.get_running_loop()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=WAIT, limits=limits) as client, asyncio.TaskGroup() as tasks:
        begin = loop.time() + 0.5
        asked = [tasks.create_task(_answer(client, job, begin + job.at)) for job in jobs]
    return [task.result() for task in asked]


async def _answer(client: httpx.AsyncClient, job: Job, at: float) -> Answer:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(at - loop.time())
    body = _body(job.model, prompt_of(job.number, job.prompt), job.output)
    first, last = 0.0, ""
    async with client.stream("POST", "/api/generate", json=body) as response:
        async for line in response.aiter_lines():
            first = first or loop.time() - at
            last = line
        took = loop.time() - at
        account = _account(f"request {job.number} for {job.model}", response.status_code, last, job.output)
        return Answer(job.number, response.headers.get("x-ollama-node", ""), first, took, account)


def _inventory(hosts: Sequence[str]) -> str:
    entries = [f'[hosts.{host}]\naddress = "{address(host)}"\nuser = "root"\n' for host in hosts]
    models = [f'[models.{name}]\nsource = "{name}.Modelfile"\non = "*"\n' for name in MODELS]
    env = f'OLLAMA_NUM_PARALLEL = {SLOTS}, OLLAMA_MAX_LOADED_MODELS = {LOADED}, OLLAMA_KEEP_ALIVE = "2h"'
    head = f"""[fleet]
name = "placement"
ollama = "{RELEASE}"
[defaults]
identity = "{KEY}"
host_keys = "accept-new"
env = {{ {env} }}
[gateway]
listen = "127.0.0.1:0"
transport = "direct"
"""
    return head + "".join(entries + models)


def _write_models(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """(digest of the weights, bytes) of each; read whole at a load, for pages that are mapped would be read at the first token."""
    digests, sizes = {}, {}
    for name, megabytes in MODELS.items():
        path = folder / f"{name}.gguf"
        gguf.write(path, SENTENCE, megabytes=megabytes, title=name)
        digests[name], sizes[name] = digest_of(path.read_bytes()), path.stat().st_size
        parameters = ("num_thread 1", "num_ctx 512", "use_mmap false")
        text = f"FROM ./{name}.gguf\n" + "".join(f"PARAMETER {parameter}\n" for parameter in parameters)
        (folder / f"{name}.Modelfile").write_text(text)
    return digests, sizes


@contextlib.contextmanager
def fleet(names: Sequence[str]) -> Iterator[Fleet]:
    """Booted, set up and held to their paces; powered off at the end."""
    hosts = Hosts()
    with tempfile.TemporaryDirectory(prefix="olladist-placement-") as scratch, contextlib.ExitStack() as stack:
        operator = Operator(Path(scratch))
        digests, sizes = _write_models(operator.home)
        (operator.home / "inventory.toml").write_text(_inventory(names))
        stack.callback(hosts.down, *names)
        hosts.up(*names)
        operator.olladist("up", "--yes", timeout=300)
        operator.olladist("models", "sync", "--yes", timeout=300)
        paces = dict(zip(names, PACES, strict=True))
        yield Fleet(paces, stack.enter_context(held(paces)), operator, digests, sizes)
