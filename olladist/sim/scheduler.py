"""Which model is loaded, who runs and who waits on one Ollama: server/sched.go of 0.17.4 as values and decisions.

Nothing here has a clock or does anything: events go in with `now` (seconds of any clock), effects come out in the order in which
they shall be carried out. The simulated server gives it real time; a simulation of a fleet can give it its own.

What is kept from Ollama, because a gateway in front can see it:
- a request for a loaded model with the same options passes all that wait for a load, and then waits for a slot, first come first
  served and without bound; only requests that wait for a load are counted against OLLAMA_MAX_QUEUE;
- that queue is strictly first in first out: while its head waits for a victim to become idle, nothing behind it is loaded;
- while a model loads it is not among the loaded ones yet, so whoever asks for it then waits in that queue too, behind those who came before
  for other models (llm/server.go: llamaServer.Load returns when the runner runs; Ollama's own engine lists earlier, which is left out here);
- one load at a time; a model that is in use is never unloaded, so a hot one starves a cold one for as long as it is hot;
- the victim is the idle runner with the shortest keep-alive; options that change the runner (num_ctx …) reload it.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Options:
    """The options that belong to a runner (api.Runner): other values mean another runner."""

    num_ctx: int = 4096
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0

    def satisfied_by(self, running: "Options") -> bool:
        """False where a runner with the options `running` has to be loaded anew (needsReload)."""
        if self.num_gpu < 0:  # "as many layers as fit" is content with whatever is loaded
            return self == Options(
                running.num_ctx, running.num_batch, self.num_gpu, running.main_gpu, running.use_mmap, running.num_thread
            )
        return self == running


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a runner; `key` is the weights it needs, `keep_alive` None leaves that to the server."""

    ticket: int
    key: str
    options: Options = Options()
    keep_alive: float | None = None
    slots: int = 1


@dataclass(slots=True)
class Runner:
    """A model in memory, or on its way there."""

    key: str
    options: Options
    slots: int
    keep_alive: float
    loader: int | None = None  # the request whose load this is, until it is done
    users: dict[int, Request] = field(default_factory=dict)  # requests that hold it, running or not
    running: set[int] = field(default_factory=set)  # those with a slot
    waiting: deque[int] = field(default_factory=deque)  # those that wait for one
    expires: float | None = None  # when it is unloaded if nobody asks for it; None before it was idle once

    @property
    def loading(self) -> bool:
        return self.loader is not None

    @property
    def idle(self) -> bool:
        return not self.users


@dataclass(frozen=True, slots=True)
class Ready:
    """The request has its runner; it may ask for a slot."""

    ticket: int


@dataclass(frozen=True, slots=True)
class SlotGiven:
    ticket: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The queue for loads is full: 503."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Load:
    """Start to load; tell `loaded` when it is done."""

    key: str


@dataclass(frozen=True, slots=True)
class Unloaded:
    """The model is out of memory; a load that was under way is to be given up."""

    key: str


Effect: TypeAlias = Ready | SlotGiven | Refused | Load | Unloaded


def choose_victim(runners: Iterable[Runner]) -> Runner | None:
    """The idle runner with the shortest keep-alive, else the one with the shortest at all (findRunnerToUnload)."""
    ordered = sorted(runners, key=lambda runner: (runner.keep_alive, runner.key))
    return next((runner for runner in ordered if runner.idle), ordered[0] if ordered else None)


class Scheduler:
    """The state of one server; every method takes an event and returns what is to be done about it."""

    def __init__(self, *, max_loaded: int, max_queue: int, keep_alive: float) -> None:
        self.max_loaded = max_loaded
        self.max_queue = max_queue
        self.keep_alive = keep_alive
        self.runners: dict[str, Runner] = {}
        self.pending: deque[Request] = deque()  # waits for a load; the first is the one being worked on
        self._victim: str | None = None  # what has to become idle before that goes on; it is not chosen anew

    def submit(self, request: Request, now: float) -> list[Effect]:
        """A request asks for its model."""
        runner = self.runners.get(request.key)
        if runner is not None and not runner.loading and request.options.satisfied_by(runner.options):
            return self._attach(runner, request)
        # The channel holds max_queue beside the one in hand: that whose model loads, which does not wait here any more, or the first.
        if len(self.pending) >= self.max_queue + (0 if self._loads() else 1):
            return [Refused(request.ticket)]
        self.pending.append(request)
        return self._advance(now)

    def want_slot(self, ticket: int) -> list[Effect]:
        """A request that is ready wants to run; its slot comes at once or when others are done."""
        runner = self._runner_of(ticket)
        if runner is None:
            return []
        runner.waiting.append(ticket)
        return self._give_slots(runner)

    def release(self, ticket: int, now: float) -> list[Effect]:
        """The request is over: answered, failed, or its client has left, wherever it was."""
        runner = self._runner_of(ticket)
        if runner is None:
            self.pending = deque(request for request in self.pending if request.ticket != ticket)
            return self._advance(now)
        del runner.users[ticket]
        runner.running.discard(ticket)
        if ticket in runner.waiting:
            runner.waiting.remove(ticket)
        if runner.loader == ticket:  # "client connection closed before server finished loading, aborting load"
            return self._give_up_load(runner, now)
        effects = self._give_slots(runner)
        if runner.idle and not runner.loading:
            runner.expires = now + runner.keep_alive
        return effects + self.tick(now)

    def loaded(self, key: str, now: float) -> list[Effect]:
        """A load is done."""
        runner = self.runners.get(key)
        if runner is None or not runner.loading:
            return []
        runner.loader = None
        return [*(Ready(ticket) for ticket in runner.users), *self._advance(now)]

    def expire(self, key: str, now: float) -> list[Effect]:
        """Somebody asks for the model to be unloaded (keep_alive 0 and nothing to do): at once, or when it is idle."""
        runner = self.runners.get(key)
        if runner is None or runner.loading:
            return []
        runner.keep_alive, runner.expires = 0.0, now
        return self.tick(now)

    def tick(self, now: float) -> list[Effect]:
        """Unloads what has been idle for its keep-alive, and goes on with the queue."""
        due = [r for r in self.runners.values() if r.idle and r.expires is not None and r.expires <= now]
        effects: list[Effect] = []
        for runner in due:
            del self.runners[runner.key]
            effects.append(Unloaded(runner.key))
        return effects + self._advance(now)

    def next_expiry(self) -> float:
        """When `tick` is next needed; infinite where it is not."""
        return min((r.expires for r in self.runners.values() if r.idle and r.expires is not None), default=math.inf)

    def _runner_of(self, ticket: int) -> Runner | None:
        return next((runner for runner in self.runners.values() if ticket in runner.users), None)

    def _attach(self, runner: Runner, request: Request) -> list[Effect]:
        runner.users[request.ticket] = request
        if request.keep_alive is not None:
            runner.keep_alive = request.keep_alive
        return [Ready(request.ticket)]

    def _give_slots(self, runner: Runner) -> list[Effect]:
        effects: list[Effect] = []
        while runner.waiting and len(runner.running) < runner.slots:
            ticket = runner.waiting.popleft()
            runner.running.add(ticket)
            effects.append(SlotGiven(ticket))
        return effects

    def _give_up_load(self, runner: Runner, now: float) -> list[Effect]:
        """Whoever else waits for this model has it loaded anew when it is their turn."""
        del self.runners[runner.key]
        return [Unloaded(runner.key), *self._advance(now)]

    def _loads(self) -> bool:
        return any(runner.loading for runner in self.runners.values())

    def _advance(self, now: float) -> list[Effect]:
        """Works on the head of the queue until it has to wait for something."""
        effects: list[Effect] = []
        while self.pending and not self._loads():
            head = self.pending[0]
            if self._victim not in self.runners:
                self._victim = None
            runner = self.runners.get(head.key)
            if runner is not None and head.options.satisfied_by(runner.options):
                self.pending.popleft()
                effects += self._attach(runner, head)
                continue
            victim = self.runners.get(self._victim or "") or runner
            if victim is None and len(self.runners) >= self.max_loaded:
                victim = choose_victim(self.runners.values())
            if victim is None:
                self.pending.popleft()
                effects.append(self._start_load(head))
            elif victim.idle:
                del self.runners[victim.key]
                self._victim = None
                effects.append(Unloaded(victim.key))
            else:
                victim.keep_alive = 0.0
                self._victim = victim.key
                break
        return effects

    def _start_load(self, request: Request) -> Load:
        keep_alive = self.keep_alive if request.keep_alive is None else request.keep_alive
        self.runners[request.key] = Runner(
            request.key,
            request.options,
            request.slots,
            keep_alive,
            loader=request.ticket,
            users={request.ticket: request},
        )
        return Load(request.key)
