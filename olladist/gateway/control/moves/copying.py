"""One model from one host to others, byte for byte, and the proof that their Ollamas list it."""

from collections.abc import Sequence

from olladist.errors import HostError, OlladistError, StoreError
from olladist.fleet.events import Event, Moving
from olladist.gateway.control.answers import LISTING_BYTES_MAX, BadAnswer, Row, read_tags
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.moves.bar import Bar
from olladist.gateway.control.moves.hearing import Tell
from olladist.gateway.control.moves.plan import plan_copy
from olladist.gateway.control.moves.stores import Opened
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.upstreams import Failed, fetch
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Step
from olladist.ollama.digests import Digest
from olladist.scheduling.health import State

# As a probe's: Ollama reads each manifest for it.
_LISTING_SECONDS = 20.0


class Watching:
    """Turns what happens on hosts into lines, of whichever bar is being filled."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._bar: Bar | None = None

    def __call__(self, event: Event) -> None:
        if self._bar and isinstance(event, Moving) and (line := self._bar.moved(event.host, event.done)):
            self._tell(line)

    async def carry_out(self, opened: Opened, plan: SyncPlan, status: str, digest: Digest) -> dict[str, OlladistError]:
        """Does the steps of one model with one bar; the hosts where that failed."""
        bar = self._bar = Bar(status, digest, _missing(plan.steps))
        self._tell(bar.start())
        try:
            outcomes = await opened.carry_out(plan)
        finally:
            self._bar = None
        failed: dict[str, OlladistError] = {host: error for host, error in outcomes.items() if error is not None}
        if not failed and (line := bar.finish()):
            self._tell(line)
        return failed


async def copy_model(
    parts: Parts, key: str, digest: Digest, source: str, targets: Sequence[str], tell: Tell
) -> dict[str, OlladistError]:
    """The hosts that could not get it; the others list it now. HostError where `source` itself does not give it."""
    watching = Watching(tell)
    if parts.stores.moving.locked():
        tell({"status": "waiting for other copies to end"})
    async with parts.stores.moving, parts.stores.opened((source, *targets), watching) as opened:
        if error := opened.problems.get(source):
            raise error
        _must_hold(opened, source, key, digest)
        plan = plan_copy(parts.declared.inventory, opened.contents, key, source, targets)
        failed: dict[str, OlladistError] = {h: error for h, error in opened.problems.items() if h in targets}
        failed |= {problem.host: problem for problem in plan.problems if isinstance(problem, HostError)}
        if plan.steps:
            failed |= await watching.carry_out(opened, plan, f"copying to {hosts_of(plan.steps)}", digest)
    for host in targets:
        if host not in failed and (unlisted := await unlisted_on(parts, host, key, digest)):
            failed[host] = StoreError(host, "looking for the model", unlisted)
    return failed


async def unlisted_on(parts: Parts, host: str, key: str, digest: Digest) -> str:
    """Why a host that has got the model does not list it with that digest, for each of its Ollamas that answers; "" where all do."""
    for backend in nodes_of(parts, host):
        try:
            rows = await list_again(parts, backend)
        except Failed as failed:
            if parts.roster.seen[backend.id].state is State.DOWN:
                continue  # its files are there; it lists them when it is back
            return f"its Ollama did not say what it has: {failed}"
        if digest not in {sha256(row.digest) for row in rows if row.key == key}:
            return f"{backend.node} does not list it: is models_dir what its Ollama uses (OLLAMA_MODELS)?"
    return ""


async def list_again(parts: Parts, backend: Backend) -> tuple[Row, ...]:
    """What a node lists now, which the roster knows from here on; Failed where it does not say."""
    client = parts.upstreams.client(backend)
    answer = await fetch(client, "GET", "/api/tags", bytes_max=LISTING_BYTES_MAX, within=_LISTING_SECONDS)
    if answer.status != 200:
        raise Failed(f"/api/tags answered {answer.status}")
    try:
        rows = read_tags(answer.body)
    except BadAnswer as error:
        raise Failed(f"/api/tags: its answer {error}") from error
    parts.roster.listed(backend.id, parts.prober.sift(backend, rows))
    return rows


def nodes_of(parts: Parts, host: str) -> list[Backend]:
    return [backend for backend in parts.roster.nodes.values() if backend.host.name == host]


def hosts_of(steps: Sequence[Step]) -> str:
    """In words that fit before a bar."""
    hosts = list(dict.fromkeys(step.host for step in steps))
    return f"{len(hosts)} hosts" if len(hosts) > 3 else " and ".join(hosts)


def sha256(digest: str) -> Digest:
    """/api/tags says the hex alone."""
    return digest if digest.startswith("sha256:") else f"sha256:{digest}"


def _must_hold(opened: Opened, host: str, key: str, digest: Digest) -> None:
    contents = opened.contents[host]
    if not contents.holds(key, digest):
        there = key in contents.models
        cause = "it has changed or is damaged there" if there else "it is not in its store"
        hint = "" if there else "is models_dir what its Ollama uses (OLLAMA_MODELS)?"
        raise StoreError(host, "looking for the model", f"{host} cannot give it: {cause}", hint=hint)


def _missing(steps: Sequence[Step]) -> dict[str, int]:
    """As modelstore.progress counts: whole blobs, what is staged of them among it."""
    missing: dict[str, int] = {}
    for step in steps:
        missing[step.host] = missing.get(step.host, 0) + sum(transfer.blob.size for transfer in step.transfers)
    return missing
