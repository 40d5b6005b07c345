"""POST /api/pull: on all hosts that shall have the model, told as one pull."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control.backends import Backend, Role
from olladist.gateway.control.models.asking import (
    ANSWER_BYTES_MAX,
    Wanted,
    all_stores,
    as_it_is,
    error_text,
    look,
    read_request,
    roles,
    shown,
)
from olladist.gateway.control.models.progress import BadProgress, Line, Progress
from olladist.gateway.control.models.targets import Store, Targets, placement, pull_targets
from olladist.gateway.control.moves.copying import sha256
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.refusals import RETRY_AFTER
from olladist.gateway.control.roster import Seen
from olladist.gateway.control.telling import Teller, Telling
from olladist.gateway.control.uploads.unspread import Owed, Unspread
from olladist.gateway.control.upstreams import Answered, Exchange, Failed
from olladist.gateway.control.web import error_response
from olladist.ollama.routes import Route
from olladist.scheduling.health import State

# The model is listed before the client hears `success`. Reading every manifest of a large store on a slow disk takes seconds.
LISTED_WITHIN = 10.0
# A host that hangs keeps its connection. One that has not answered a probe for so long is not waited for: a restart takes less,
# and so does a disk that is busy with the pull itself.
GIVEN_UP = 30.0

log = structlog.get_logger()


async def pull(parts: Parts, request: Request, route: Route) -> Response:
    read = await read_request(parts, request, route)
    if isinstance(read, Response):
        return read
    wanted, _ = read
    await look(parts)
    targets = _targets(parts, wanted.key)
    if not targets.now:
        why = f": {shown(store.host for store in targets.away)}" if targets.away else ""
        text = f"no host can be reached that shall have '{wanted.model}'{why}"
        return error_response(route.dialect, 503, text, retry_after=RETRY_AFTER)
    parts.pending.cancel(wanted.key, [node for store in targets.now for node in store.nodes])
    return Telling(Pulling(parts, route, wanted, targets).tell, stream=wanted.stream)


def _targets(parts: Parts, key: str) -> Targets:
    found = all_stores(parts, key)
    if Role.NODE not in roles(parts):  # the local Ollama is no part of the inventory's plans
        return Targets(tuple(s for s in found if s.backends), tuple(s for s in found if not s.backends))
    inventory = parts.declared.inventory
    names = [model.name.key for model in inventory.models]
    return pull_targets(found, placement(inventory, key), inventory.gateway.replicas, names)


def given_up(seen: Seen | None, now: float) -> bool:
    """Whether a host is not waited for any more: it has left the inventory, or been down for long."""
    return seen is None or (seen.state is State.DOWN and now - seen.since > GIVEN_UP)


class Pulling:
    """One pull under way."""

    def __init__(self, parts: Parts, route: Route, wanted: Wanted, targets: Targets) -> None:
        self._parts = parts
        self._route = route
        self._wanted = wanted
        self._targets = targets
        self._progress = Progress(store.host for store in targets.now)
        self._turn = asyncio.Lock()  # lines of one host go out before those of the next
        self._refused: dict[str, tuple[Answered, str]] = {}  # answers that are no progress, with their nodes
        self._heard = False
        self._lost: dict[str, str] = {}  # hosts whose answer has ended too soon, or never begun, and why
        self._waiting: dict[int, asyncio.Timeout] = {}  # for the backends that are pulling

    async def tell(self, teller: Teller) -> None:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._give_up())
            pulls = [tasks.create_task(self._pull_on(store, teller)) for store in self._targets.now]
            await asyncio.wait(pulls)
            watch.cancel()
        if self._progress.succeeded:
            await self._settle()
        elif not teller.began and (answer := self._refusal()):
            await teller.answer(answer)
            return
        away = {store.host: "it cannot be reached" for store in self._targets.away}
        await teller.say(*self._progress.finish(away | self._lost))

    async def _give_up(self) -> None:
        """Ends the wait for hosts that hang."""
        roster = self._parts.roster
        while True:
            await asyncio.sleep(1.0)
            for number, waiting in self._waiting.items():
                if given_up(roster.seen.get(number), roster.now()):
                    waiting.reschedule(asyncio.get_running_loop().time())

    async def _pull_on(self, store: Store, teller: Teller) -> None:
        """On the host's first Ollama that can be reached."""
        failed = "it cannot be reached"
        for backend in store.backends:
            failed, begun = await self._attempt(store.host, backend, teller)
            if begun:
                break
        if failed and store.host not in self._progress.succeeded:
            self._lost[store.host] = failed
            await self._say(teller, partial(self._progress.fail, store.host, failed))

    async def _attempt(self, host: str, backend: Backend, teller: Teller) -> tuple[str, bool]:
        """What went wrong, "" for nothing, and whether there was an answer."""
        begun = False
        route, body = self._route, self._wanted.body
        try:
            async with (
                asyncio.timeout(None) as self._waiting[backend.id],
                self._parts.upstreams.stream(backend, route.methods[0], route.path, content=body) as exchange,
            ):
                begun = True
                await self._hear(host, backend, exchange, teller)
        except BadProgress as bad:
            await self._say(teller, partial(self._progress.fail, host, str(bad)))
            return "", begun
        except Failed as failure:
            self._parts.roster.ended(backend.id, "cut" if begun else "connect")
            return str(failure), begun
        except TimeoutError:
            return f"has not answered for {GIVEN_UP:g} s", begun
        finally:
            del self._waiting[backend.id]
        return "", begun

    async def _hear(self, host: str, backend: Backend, exchange: Exchange, teller: Teller) -> None:
        if exchange.status != 200:
            answer = Answered(exchange.status, exchange.content_type, await exchange.body(ANSWER_BYTES_MAX))
            self._refused[host] = answer, backend.node
            await self._say(teller, partial(self._progress.fail, host, error_text(answer)))
            return
        self._heard = True
        async with aclosing(exchange.lines()) as lines:
            async for raw in lines:
                line = _decoded(raw)
                await self._say(teller, partial(self._progress.take, host, line))
        if host not in self._progress.succeeded and host not in self._progress.failed:
            raise Failed("its stream of progress ended without success")

    async def _say(self, teller: Teller, news: Callable[[float], list[Line]]) -> None:
        async with self._turn:
            await teller.say(*news(time.monotonic()))

    def _refusal(self) -> Response | None:
        """What all hosts have answered before any progress, as it is; 503 where none has answered."""
        if self._heard:
            return None
        if not self._refused:
            return error_response(self._route.dialect, 503, self._progress.error(), retry_after=RETRY_AFTER)
        bodies = {answer.body for answer, _ in self._refused.values()}
        if len(bodies) == 1 and len(self._refused) == len(self._progress.nodes):
            return as_it_is(*next(iter(self._refused.values())))
        return None

    async def _settle(self) -> None:
        """What has come is listed, and takes the place of what was to be done under that name; who is away gets it later."""
        key, parts = self._wanted.key, self._parts
        done = [store for store in self._targets.now if store.host in self._progress.succeeded]
        numbers = [n for n, b in parts.roster.backends.items() if any(b.node in store.nodes for store in done)]
        await parts.prober.read_tags(numbers, LISTED_WITHIN)
        parts.pending.cancel(key)
        unspread = Unspread(parts.state)
        unspread.cancel(key)
        digests = [
            row.digest for n in numbers if n in parts.roster.seen for row in parts.roster.seen[n].tags if row.key == key
        ]
        later = [store.host for store in self._targets.away] + list(self._lost)
        for host in later if digests else ():
            unspread.owe(Owed(host, key, sha256(digests[0])))
        failed = dict(self._progress.failed)
        log.info(
            "model pulled", model=key, hosts=shown(store.host for store in done), later=shown(later), failed=failed
        )


def _decoded(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadProgress(f"sent a line that is no JSON ({error})") from error
