"""Carries out in real time what the scheduler decides: loads that take their time, waits, and timers of keep-alive."""

import asyncio
import functools
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from olladist.sim.golang import MAX_DURATION, Document, local
from olladist.sim.model import Model, details
from olladist.sim.reply import Refused
from olladist.sim.scheduler import Effect, Load, Options, Ready, Request, Runner, Scheduler, SlotGiven
from olladist.sim.scheduler import Refused as QueueFull
from olladist.sim.settings import Settings

# Ollama's own text, two blanks and all (server/sched.go ErrMaxQueue).
BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Hold:
    """A request that has its model loaded."""

    def __init__(self, runners: "Runners", ticket: int) -> None:
        self._runners = runners
        self._id = ticket

    async def slot(self) -> None:
        """Waits for a slot, first come first served; it is given back when the hold ends."""
        await self._runners.wait_slot(self._id)


class Runners:
    """Every runner of one server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scheduler = Scheduler(
            max_loaded=settings.max_loaded, max_queue=settings.max_queue, keep_alive=settings.keep_alive
        )
        self._tickets = itertools.count(1)
        self._wakers: dict[int, asyncio.Future[None]] = {}
        self._models: dict[str, Model] = {}  # the one that loaded the runner: /api/ps shows its name
        self._asking: dict[int, Model] = {}
        self._loads: dict[str, asyncio.TimerHandle] = {}
        self._expiry: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def hold(self, model: Model, options: Options, keep_alive: float | None) -> AsyncIterator[Hold]:
        """Waits until the model is loaded; Refused(503) where too many wait already. Leaving gives everything back."""
        request = Request(next(self._tickets), model.key, options, keep_alive, model.slots(self.settings.parallel))
        waker = self._wakers[request.ticket] = asyncio.get_running_loop().create_future()
        self._asking[request.ticket] = model
        try:
            self._carry_out(self.scheduler.submit(request, self._now()))
            await waker
            yield Hold(self, request.ticket)
        finally:
            self._wakers.pop(request.ticket, None)
            self._carry_out(self.scheduler.release(request.ticket, self._now()))
            self._asking.pop(request.ticket, None)

    async def wait_slot(self, ticket: int) -> None:
        waker = self._wakers[ticket] = asyncio.get_running_loop().create_future()
        self._carry_out(self.scheduler.want_slot(ticket))
        await waker

    def expire(self, model: Model) -> None:
        self._carry_out(self.scheduler.expire(model.key, self._now()))

    def listing(self) -> list[Document]:
        """What /api/ps shows, the one that stays longest first; a model that is still loading is not among them."""
        runners = [(key, runner) for key, runner in self.scheduler.runners.items() if not runner.loading]
        rows = [(self._expires(runner), self._models[key], runner) for key, runner in runners]
        rows.sort(key=lambda row: -int(row[0]))
        return [
            {
                "name": str(model.name),
                "model": str(model.name),
                "size": model.size,
                "digest": model.entry.manifest.digest.removeprefix("sha256:"),
                "details": details(model.config),
                "expires_at": local(int(expires * 1e9)),
                "size_vram": 0,
                "context_length": min(runner.options.num_ctx, model.trained_context),
            }
            for expires, model, runner in rows
        ]

    def close(self) -> None:
        for timer in (*self._loads.values(), *([self._expiry] if self._expiry else [])):
            timer.cancel()

    def _expires(self, runner: Runner) -> float:
        """Seconds since 1970; stands still once a runner was idle (server/sched.go, expiresAt), before it moves on with the clock."""
        ends = self._now() + runner.keep_alive if runner.expires is None else runner.expires
        return self._epoch + min(ends, MAX_DURATION)

    @functools.cached_property
    def _epoch(self) -> float:
        """When the loop's clock showed 0."""
        return time.time() - self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        loop = asyncio.get_running_loop()
        for effect in effects:
            match effect:
                case Ready(ticket=ticket) | SlotGiven(ticket=ticket):
                    self._wake(ticket, None)
                case QueueFull(ticket=ticket):
                    self._wake(ticket, Refused(503, BUSY))
                case Load(key=key):
                    loader = self.scheduler.runners[key].loader
                    model = self._models[key] = self._asking[loader if loader is not None else 0]
                    seconds = model.size / self.settings.load_rate if self.settings.load_rate else 0.0
                    self._loads[key] = loop.call_later(seconds, self._loaded, key)
                case _:
                    if load := self._loads.pop(effect.key, None):
                        load.cancel()
        self._set_expiry(loop)

    def _wake(self, ticket: int, error: Refused | None) -> None:
        waker = self._wakers.get(ticket)
        if waker is None or waker.done():
            return
        if error is None:
            waker.set_result(None)
        else:
            waker.set_exception(error)

    def _loaded(self, key: str) -> None:
        self._loads.pop(key, None)
        self._carry_out(self.scheduler.loaded(key, self._now()))

    def _set_expiry(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        at = self.scheduler.next_expiry()
        self._expiry = None if math.isinf(at) else loop.call_at(at, self._expired)

    def _expired(self) -> None:
        self._expiry = None
        self._carry_out(self.scheduler.tick(self._now()))
