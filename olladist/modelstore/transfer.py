"""Carries out a plan: hosts side by side, one host's blobs one after the other, a failure kept to the host it struck."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

from olladist.errors import AuthRefused, ConnectionLost, HostError, HostKeyRefused, StoreError, Unreachable
from olladist.host.api import OllamaAPI
from olladist.modelstore.contents import StorePlace
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.progress import Meter, OnProgress, unwatched
from olladist.modelstore.relay import Relay
from olladist.modelstore.scan import scan
from olladist.modelstore.stage import Stage, WrongContent
from olladist.modelstore.steps import Copy, Create, Follow, Pull, Step
from olladist.ollama.manifest import Layer, Manifest
from olladist.ollama.names import ModelName
from olladist.ssh.runner import Runner

# Copies and pulls that move bytes at a time. All of them share the operator's uplink; more do not make it faster, and
# each costs an ssh process.
AT_ONCE = 8
# A blob can go away between its copy and the manifest that needs it (Ollama deletes the layers of a model that is
# replaced or removed, notes in stage.py). It happens once; a third time is something else.
TRIES = 3

OpenAPI = Callable[[str], AbstractAsyncContextManager[OllamaAPI]]
"""The Ollama on a host, by the host's name."""
OnStep = Callable[[Step], None]

_GONE = (Unreachable, ConnectionLost, AuthRefused, HostKeyRefused)


async def sync(
    plan: SyncPlan,
    runners: Mapping[str, Runner],
    stores: Mapping[str, StorePlace],
    api: OpenAPI,
    *,
    on_progress: OnProgress = unwatched,
    on_step: OnStep = lambda step: None,
    spool: Path | None = None,
    at_once: int = AT_ONCE,
) -> dict[str, HostError | None]:
    """What became of each host of the plan; None: all its steps are done.

    `runners` and `stores` hold the hosts that blobs come from as well. `on_step` gets a step when it begins.
    """
    relay = Relay(runners, stores, spool)
    work = _Sync(plan, runners, stores, api, relay, on_progress, on_step, at_once)
    try:
        return await work.run()
    finally:
        relay.close()


class _Sync:
    """One run of a plan. Each step has a future with the manifest it left on its host, or the error that ended it."""

    def __init__(
        self,
        plan: SyncPlan,
        runners: Mapping[str, Runner],
        stores: Mapping[str, StorePlace],
        api: OpenAPI,
        relay: Relay,
        on_progress: OnProgress,
        on_step: OnStep,
        at_once: int,
    ) -> None:
        self._plan = plan
        self._runners = runners
        self._stores = stores
        self._api = api
        self._relay = relay
        self._on_progress = on_progress
        self._on_step = on_step
        self._moving = asyncio.Semaphore(at_once)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._meters = {
            (step.host, step.model.key): Meter(step.host, str(step.model), on_progress) for step in plan.steps
        }
        loop = asyncio.get_running_loop()
        self._left: dict[tuple[str, str], asyncio.Future[Manifest | HostError]] = {
            (step.host, step.model.key): loop.create_future() for step in plan.steps
        }

    async def run(self) -> dict[str, HostError | None]:
        steps: dict[str, list[Step]] = defaultdict(list)
        for step in self._plan.steps:
            steps[step.host].append(step)
        async with asyncio.TaskGroup() as hosts:
            tasks = {host: hosts.create_task(self._host(host, mine)) for host, mine in steps.items()}
        return {host: task.result() for host, task in tasks.items()}

    async def _host(self, host: str, steps: Sequence[Step]) -> HostError | None:
        stage = Stage(self._runners[host], self._stores[host])
        # Ollama keeps its own pulls apart; a host that only pulls needs no lock of ours.
        held = nullcontext() if all(isinstance(step, Pull) for step in steps) else stage.held()
        errors: list[HostError] = []
        try:
            async with held, asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._step(stage, step)) for step in steps]
            errors = [error for error in (task.result() for task in tasks) if error]
        except HostError as error:
            errors = [error]
            self._settle(steps, error)
        return _one(host, errors)

    def _settle(self, steps: Sequence[Step], error: HostError) -> None:
        for step in steps:
            if not (future := self._left[step.host, step.model.key]).done():
                future.set_result(error)

    async def _step(self, stage: Stage, step: Step) -> HostError | None:
        """Waits for what the step builds on, then for its host's turn: nobody waits with a turn in hand."""
        future = self._left[step.host, step.model.key]
        try:
            manifest = await self._done(stage, step)
        except HostError as error:
            future.set_result(error)
            return error
        except BaseException:
            future.cancel()
            raise
        future.set_result(manifest)
        return None

    async def _done(self, stage: Stage, step: Step) -> Manifest:
        turn = self._turns[step.host]
        if isinstance(step, Follow):
            async with turn:
                self._on_step(step)
                await self._bring(stage, [transfer.blob for transfer in step.transfers], step)
            manifest = await self._made(step, (step.maker, step.model.key), step.maker)
            async with turn:
                return await self._copy(stage, step, manifest, step.recipe.digest)
        if isinstance(step, Create) and step.recipe.base:
            await self._based(step, step.recipe.base)
        async with turn:
            self._on_step(step)
            if isinstance(step, Copy):
                return await self._copy(stage, step, step.manifest, step.recipe)
            if isinstance(step, Create):
                return await self._create(stage, step)
            return await self._pull(step)

    async def _made(self, step: Step, what: tuple[str, str], where: str) -> Manifest:
        outcome = await asyncio.shield(self._left[what])
        if isinstance(outcome, HostError):
            cause = f"{where} did not make it, so there is nothing to copy: {outcome.cause}"
            raise StoreError(step.host, f"copying {step.model}", cause, hint=outcome.hint)
        return outcome

    async def _based(self, step: Create, base: ModelName) -> None:
        """Waits for the model that this one is made from, where the plan brings it to the same host."""
        if (step.host, base.key) in self._left:
            outcome = await asyncio.shield(self._left[step.host, base.key])
            if isinstance(outcome, HostError):
                cause = f"its base {base} is not there: {outcome.cause}"
                raise StoreError(step.host, f"creating {step.model}", cause, hint=outcome.hint)

    async def _copy(self, stage: Stage, step: Copy | Follow, manifest: Manifest, recipe: str) -> Manifest:
        """Blobs, then the manifest, then a look whether all blobs are still there."""
        for _ in range(TRIES):
            await self._bring(stage, manifest.blobs, step)
            await stage.publish(step.model, manifest)
            if not await stage.lacking(manifest.blobs):
                if recipe:
                    await stage.remember(recipe, manifest.digest)
                return manifest
        cause = "its blobs go away as fast as they are copied"
        raise StoreError(stage.host, f"copying {step.model}", cause, hint="what else removes models there?")

    async def _create(self, stage: Stage, step: Create) -> Manifest:
        files = (*step.recipe.files, *step.recipe.adapters)
        await self._bring(stage, [Layer("", file.digest, file.size) for file in files], step)
        async with self._moving, self._api(step.host) as api:
            await api.create(step.recipe.body(step.model))
        manifest = await self._found(step)
        await stage.remember(step.recipe.digest, manifest.digest)
        return manifest

    async def _pull(self, step: Pull) -> Manifest:
        seen: dict[str, tuple[int, int]] = {}
        async with self._moving, self._api(step.host) as api:
            async for line in api.pull(str(step.model)):
                _note(seen, line)
                done, total = (sum(column) for column in zip(*seen.values(), strict=True)) if seen else (0, 0)
                self._on_progress(step.host, str(step.model), done, total)
        return await self._found(step)

    async def _found(self, step: Step) -> Manifest:
        """The manifest that Ollama says it has written."""
        contents = await scan(self._runners[step.host], self._stores[step.host])
        if manifest := contents.complete(step.model.key):
            return manifest
        place = self._stores[step.host].path
        hint = "is models_dir what that Ollama uses (its OLLAMA_MODELS)?"
        cause = f"Ollama says that it is there, and it is not in {place}"
        raise StoreError(step.host, f"looking for {step.model}", cause, hint=hint)

    async def _bring(self, stage: Stage, blobs: Sequence[Layer], step: Step) -> None:
        """Every blob of a list that the host lacks."""
        meter = self._meters[step.host, step.model.key]
        lacking = await stage.lacking(blobs)
        meter.expect(lacking)
        for blob, staged in lacking:
            await self._bring_one(stage, blob, staged, step, meter)

    async def _bring_one(self, stage: Stage, blob: Layer, staged: int, step: Step, meter: Meter) -> None:
        sources = self._sources(stage.host, blob, step)
        problem: HostError | None = None
        for source in sources:
            try:
                async with self._moving, self._here(source, blob, stage.host, staged, meter) as path:
                    await stage.receive(blob, path, staged, lambda here: meter.arrived(blob, here))
            except HostError as error:
                if error.host == stage.host and not isinstance(error, WrongContent):
                    raise
                problem = problem or error
            else:
                return
            if source != sources[-1]:
                [(_, staged)] = await stage.lacking((blob,)) or [(blob, 0)]
        if problem is None:
            raise StoreError(stage.host, f"copying {step.model}", f"nobody has its blob {blob.digest[:19]} any more")
        if problem.host == stage.host:
            raise problem
        cause = f"{problem.host}, where its blob comes from: {problem.cause}"
        raise StoreError(stage.host, f"copying {step.model}", cause, hint=problem.hint) from problem

    def _here(
        self, source: Path | str, blob: Layer, goal: str, staged: int, meter: Meter
    ) -> AbstractAsyncContextManager[Path]:
        """The blob as a file of this machine: it is one, or it is fetched from the host that is named."""
        if isinstance(source, Path):
            return nullcontext(source)
        return self._relay.fetched(source, blob, goal, lambda got: meter.fetched(blob, got, staged))

    def _sources(self, host: str, blob: Layer, step: Step) -> list[Path | str]:
        """Where the blob can be had: a file of this machine first, which has one way to go and not two."""
        sources: list[Path | str] = []
        if file := self._plan.files.get(blob.digest):
            sources.append(file)
        maker = [step.maker] if isinstance(step, Follow) else []
        named = dict.fromkeys([*maker, *self._plan.holders.get(blob.digest, ())])
        return sources + [holder for holder in named if holder != host and holder in self._runners]


def _note(seen: dict[str, tuple[int, int]], line: Mapping[str, Any]) -> None:
    """Adds one line of /api/pull to what is known of each blob: (completed, total)."""
    digest, total, completed = line.get("digest"), line.get("total"), line.get("completed", 0)
    if isinstance(digest, str) and isinstance(total, int) and isinstance(completed, int):
        seen[digest] = (min(completed, total), total)


def _one(host: str, errors: Sequence[HostError]) -> HostError | None:
    """A host's errors as one: the loss of the host says it all, others are told together."""
    gone = [error for error in errors if isinstance(error, _GONE)]
    if gone or len(errors) < 2:
        return next(iter([*gone, *errors]), None)
    causes = dict.fromkeys(f"{error.cause} (while {error.during})" for error in errors)
    return StoreError(host, "syncing models", "; ".join(causes), hint=errors[0].hint)
