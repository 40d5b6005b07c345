"""Gateways as commands see them: those that run, and one for the length of a check."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import typer
from rich.text import Text

from olladist.cli.options import Globals
from olladist.errors import GatewayError, UsageError
from olladist.gateway.access import digest_of
from olladist.gateway.orders import Answer, Order, ask
from olladist.gateway.running import Running, find, is_alive
from olladist.inventory.find import find_inventory
from olladist.inventory.model import Inventory
from olladist.output.documents import (
    DrainedNode,
    GatewayNode,
    GatewayProcess,
    GatewayQueue,
    ProxyDocument,
    ProxyDrainDocument,
    RunningGateway,
)
from olladist.output.screen import Screen, open_screen

# A control process that is there answers at once; a reload of 10 000 hosts takes seconds.
_ANSWER_SECONDS = 30.0
# One that has died is there again within a second or two.
_COME_BACK_SECONDS = 5.0
# Who only looks does not wait for one that hangs.
_LOOK_SECONDS = 5.0
# What the end of streams and of processes is looked for.
_LOOK_EVERY = 0.2
# From the end of the workers to that of the gateway.
_GONE_SECONDS = 15.0


def host_and_port(listen: str) -> tuple[str, int]:
    """UsageError for what is not ADDRESS:PORT."""
    host, _, port = listen.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise UsageError(f"--listen {listen} is not ADDRESS:PORT", hint="--listen 127.0.0.1:11434, or [::]:11434")
    return host.strip("[]"), int(port)


def running_gateways(context: typer.Context, listen: str | None) -> tuple[Screen, tuple[Running, ...]]:
    """The gateways of the inventory, which itself need not be right; GatewayError where none runs."""
    options = context.find_object(Globals) or Globals()
    path = find_inventory(options.inventory, os.environ)
    found = find(path)
    wanted = tuple(each for each in found if listen is None or host_and_port(listen) == (each.host, each.port))
    if not wanted:
        elsewhere = f"; one listens on {found[0].host}:{found[0].port}" if found else ""
        where = f" on {listen}" if listen else ""
        raise GatewayError(
            f"no gateway of {path} runs{where} on this machine as this user{elsewhere}",
            hint="`olladist proxy` starts one",
        )
    return open_screen(json=options.json, verbose=options.verbose), wanted


def one_gateway(context: typer.Context, listen: str | None) -> tuple[Screen, Running]:
    """The one that is meant; UsageError where that could be several."""
    screen, running = running_gateways(context, listen)
    if len(running) > 1:
        where = [f"{each.host}:{each.port}" for each in running]
        raise UsageError(
            f"{len(running)} gateways of this inventory run, on {', '.join(where)}",
            hint=f"say which: --listen {where[0]}",
        )
    return screen, running[0]


class Operator:
    """Asks a running gateway over the socket that only its own user may open."""

    def __init__(self, running: Running, timeout: float = _ANSWER_SECONDS) -> None:
        self._running = running
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=running.settings.operator_socket),
            base_url="http://operator",
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._client.close()

    def answer(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and document; GatewayError where there is none."""
        try:
            answer = self._request(method, path, body)
            document = msgspec.json.decode(answer.content, type=dict[str, Any])
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise GatewayError(
                f"the control process of {self._running.url} does not answer: {error}",
                hint="its log says more; one that hangs is started again after 20 s",
            ) from error
        return answer.status_code, document

    def _request(self, method: str, path: str, body: object) -> httpx.Response:
        until = time.monotonic() + _COME_BACK_SECONDS
        while True:
            try:
                return self._client.request(method, path, json=body)
            except httpx.ConnectError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_EVERY)

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The document; GatewayError with the gateway's own words where it refuses."""
        status, document = self.answer(method, path, body)
        if status >= 400:
            kind = UsageError if status == 400 else GatewayError
            raise kind(str(document.get("error", f"status {status}")), hint=str(document.get("hint", "")))
        return document


def look_at(running: Running) -> RunningGateway:
    """All that is known of it; `problem` says what could not be found out."""
    problems, status, nodes = [], {}, []
    answer = Answer()
    try:
        answer = asyncio.run(ask(running, Order("status")))
    except GatewayError as error:
        problems.append(error.message)
    try:
        with Operator(running, _LOOK_SECONDS) as operator:
            status = operator.ask("GET", "/api/distributed/status")
            nodes = operator.ask("GET", "/api/distributed/nodes")["nodes"]
    except GatewayError as error:
        problems.append(error.message)
    return RunningGateway(
        url=running.url,
        pid=running.pid,
        olladist=running.version,
        uptime_seconds=round(max(0.0, time.time() - running.since), 1),
        run_dir=running.run_dir,
        processes=tuple(GatewayProcess(name=each.name, pid=each.pid) for each in answer.processes),
        mode=status.get("mode", ""),
        strategy=status.get("strategy", ""),
        transport=status.get("transport", ""),
        in_flight=status.get("in_flight", 0),
        queue=msgspec.convert(status.get("queue", {}), GatewayQueue),
        nodes=tuple(msgspec.convert({**node, "models": len(node["models"])}, GatewayNode) for node in nodes),
        problem="; ".join(problems),
    )


def drain_document(running: Running, answer: dict[str, Any]) -> ProxyDrainDocument:
    return ProxyDrainDocument(
        url=running.url,
        nodes=tuple(DrainedNode(name=node["name"], in_flight=node["in_flight"]) for node in answer["nodes"]),
        changed=tuple(answer["changed"]),
        unreachable_models=tuple(answer["unreachable_models"]),
    )


def wait_until_idle(
    screen: Screen, operator: Operator, answer: dict[str, Any], timeout: float | None
) -> dict[str, Any]:
    """Until nothing runs on drained nodes any more, saying how much still does; GatewayError after `timeout` seconds."""
    changed, unreachable = answer["changed"], answer["unreachable_models"]
    until = None if timeout is None else time.monotonic() + timeout
    said = ""
    try:
        while busy := [node for node in answer["nodes"] if node["in_flight"]]:
            text = ", ".join(f"{node['name']}: {node['in_flight']}" for node in busy)
            if text != said:
                screen.talk(Text(f"still running on {text}"))
                said = text
            if until is not None and time.monotonic() >= until:
                raise GatewayError(
                    f"after {timeout:g} s there still run on {text}",
                    hint="they get no new work; wait on with the same command",
                )
            time.sleep(_LOOK_EVERY)
            answer = operator.ask("GET", "/admin/drain")
    except KeyboardInterrupt:
        screen.talk(Text("not waited for the end; they stay drained"))
        raise typer.Exit(130) from None
    return {**answer, "changed": changed, "unreachable_models": unreachable}


def stop_gateway(screen: Screen, running: Running, *, now: bool) -> int:
    """Returns when it has ended, with how many answers were cut; GatewayError where it does not end."""

    async def stop() -> int:
        stopping = asyncio.create_task(ask(running, Order("stop", now), within=None))
        said = -1
        while not (await asyncio.wait([stopping], timeout=1.0))[0]:
            left = await asyncio.to_thread(answers_under_way, running)
            if left not in {0, said}:
                screen.talk(Text(f"waiting for {left} running answers; `olladist proxy stop --now` does not"))
                said = left
        return (await stopping).cut

    try:
        cut = asyncio.run(stop())
    except KeyboardInterrupt:
        screen.talk(Text("not waited for the end; it stops when its streams have ended"))
        raise typer.Exit(130) from None
    until = time.monotonic() + _GONE_SECONDS
    while is_alive(Path(running.run_dir)):
        if time.monotonic() > until:
            raise GatewayError(f"process {running.pid} does not end", hint=f"end it with `kill -KILL {running.pid}`")
        time.sleep(_LOOK_EVERY / 4)
    return cut


def answers_under_way(running: Running) -> int:
    """How much runs; 0 where it does not say."""
    try:
        with Operator(running, _LOOK_SECONDS) as operator:
            return int(operator.ask("GET", "/api/distributed/status")["in_flight"])
    except GatewayError:
        return 0


START_SECONDS = 30.0
# The check is over when it ends, so nothing is under way that it would have to wait for.
END_SECONDS = 10.0
SAID_BYTES = 4000


@asynccontextmanager
async def temporary_gateway(inventory: Inventory, limit: str | None) -> AsyncIterator[str]:
    """Its URL, once clients are served; GatewayError with what it said where it does not start.

    Whatever the inventory says of keys, it has one of its own, which is in the URL: nobody else on this machine can use it meanwhile.
    """
    secret = secrets.token_urlsafe(24)
    words = ["-m", "olladist", "--json", "-i", str(inventory.path.absolute())]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        *(["--limit", limit] if limit else []),
        "proxy",
        "--listen",
        "127.0.0.1:0",
        "--temporary",
        digest_of(secret.encode()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C comes to us, and we end it in order
    )
    said = asyncio.create_task(_tail(process))
    try:
        yield f"{await _url(process, said)}/key/{secret}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        await said


async def _url(process: asyncio.subprocess.Process, said: asyncio.Task[str]) -> str:
    """Reads the document that it prints when it is ready."""
    text = b""
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.stdout and (line := await process.stdout.readline()):
                text += line
                if line.strip() == b"}":
                    with contextlib.suppress(msgspec.ValidationError):  # an error's document: stderr says it in words
                        return msgspec.json.decode(text, type=ProxyDocument).url
                    break
            problem = (await said).strip()
    except TimeoutError:
        raise GatewayError(f"the gateway was not ready within {START_SECONDS:g} s") from None
    raise GatewayError(f"the gateway did not start: {problem[-500:]}")


async def _tail(process: asyncio.subprocess.Process) -> str:
    """The end of what it says on stderr, read to the end so that it never has to wait."""
    kept = b""
    while process.stderr and (chunk := await process.stderr.read(SAID_BYTES)):
        kept = (kept + chunk)[-SAID_BYTES:]
    return kept.decode(errors="replace")
