"""One simulated host: Ollama's own scheduler (sim/scheduler.py), the time that loading and answering take, and slots with a prompt cache."""

from collections.abc import Iterator
from typing import NamedTuple

from olladist.sim.scheduler import Effect, Load, Ready, Refused, Request, Scheduler, SlotGiven
from olladist.sim.virtual.scenario import Host, Job, Model, load_seconds, seconds_of

# Ollama's default, long enough that only room decides here.
KEEP_ALIVE = 300.0
# More than any scenario has: what a peer parks at a host waits there for ever, as it would.
QUEUE_MAX = 10**9


class Loading(NamedTuple):
    model: str
    seconds: float


class Running(NamedTuple):
    """A request has its slot: `prompt` seconds to its first token, `output` more to its last."""

    number: int
    prompt: float
    output: float


class VirtualHost:
    """Events in, with `now`; what begins to happen out, with how long it takes."""

    def __init__(self, number: int, host: Host, models: dict[str, Model]) -> None:
        self.number = number
        self.host = host
        self.up = True
        self.total = 0  # requests that are here
        self.by_model: dict[str, int] = {}
        self.loads = 0
        self.busy = 0.0  # seconds of slots
        self._models = models
        self._jobs: dict[int, Job] = {}
        self._slots: dict[str, list[tuple[int, int, int]]] = {}  # (job or -1, conversation, tokens of it) for each
        self._scheduler = self._new()

    def _new(self) -> Scheduler:
        return Scheduler(max_loaded=self.host.models_max, max_queue=QUEUE_MAX, keep_alive=KEEP_ALIVE)

    @property
    def loaded(self) -> list[str]:
        """The models in its memory, as /api/ps lists them: those that are loading are not."""
        return [key for key, runner in self._scheduler.runners.items() if not runner.loading]

    def submit(self, job: Job, now: float) -> list[Loading | Running]:
        self._jobs[job.number] = job
        self.total += 1
        self.by_model[job.model] = self.by_model.get(job.model, 0) + 1
        request = Request(job.number, job.model, slots=self.host.slots)
        return list(self._carry_out(self._scheduler.submit(request, now)))

    def finish(self, number: int, now: float) -> list[Loading | Running]:
        job = self._jobs.pop(number)
        self.total -= 1
        self.by_model[job.model] -= 1
        slots = self._slots.get(job.model, [])
        for index, slot in enumerate(slots):
            if slot[0] == number:
                slots[index] = (-1, slot[1], job.prompt + job.output)
        return list(self._carry_out(self._scheduler.release(number, now)))

    def loaded_now(self, model: str, now: float) -> list[Loading | Running]:
        return list(self._carry_out(self._scheduler.loaded(model, now)))

    def unload(self, model: str, now: float) -> list[Loading | Running]:
        return list(self._carry_out(self._scheduler.expire(model, now)))

    def fail(self) -> list[Job]:
        """The power goes; returns what was here."""
        self.up = False
        lost = list(self._jobs.values())
        self._jobs.clear()
        self._slots.clear()
        self.by_model.clear()
        self.total = 0
        self._scheduler = self._new()
        return lost

    def _carry_out(self, effects: list[Effect]) -> Iterator[Loading | Running]:
        todo = list(effects)
        while todo:
            match todo.pop(0):
                case Ready(ticket):
                    todo += self._scheduler.want_slot(ticket)
                case SlotGiven(ticket):
                    yield self._run(self._jobs[ticket])
                case Load(key):
                    self.loads += 1
                    yield Loading(key, load_seconds(self.host, self._models[key]))
                case Refused():
                    raise AssertionError("the queue of a simulated host has no end")
                case unloaded:
                    self._slots.pop(unloaded.key, None)

    def _run(self, job: Job) -> Running:
        """In the slot that shares most with its conversation, as llama-server picks one; else in the first free."""
        slots = self._slots.setdefault(job.model, [(-1, 0, 0)] * self.host.slots)
        free = [index for index, slot in enumerate(slots) if slot[0] < 0]
        same = [index for index in free if job.conversation and slots[index][1] == job.conversation]
        unused = [index for index in free if not slots[index][1]]
        index = (same or unused or free)[0]
        cached = min(slots[index][2], job.prefix) if same else 0
        slots[index] = (job.number, job.conversation, job.prompt)
        prompt, output = seconds_of(self.host, self._models[job.model], max(1, job.prompt - cached), job.output)
        self.busy += prompt + output
        return Running(job.number, prompt, output)
