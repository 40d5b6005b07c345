"""Plans as documents. Pure."""

from collections.abc import Iterable, Sequence

from olladist.errors import OlladistError
from olladist.gateway.control.moves.documents import Plan, Step
from olladist.gateway.control.moves.plan import Deed, MovePlan, Remove, reason
from olladist.modelstore.plan import SyncPlan
from olladist.modelstore.steps import Copy, Create, Follow, Pull, Transfer


def rebalancing(plan: MovePlan, unread: Iterable[OlladistError]) -> Plan:
    steps = tuple(_step(deed, reason(plan, deed)) for deed in plan.deeds)
    return _plan(steps, (*unread, *plan.problems))


def migrating(plan: SyncPlan, remove: Remove | None, why: Sequence[str]) -> Plan:
    """`why` are things that the caller should know beside the steps."""
    asked = "asked for"
    deeds: list[Deed] = [*plan.steps, *([remove] if remove else [])]
    made = _plan(tuple(_step(deed, asked) for deed in deeds), plan.problems)
    return Plan(steps=made.steps, bytes=made.bytes, problems=(*made.problems, *why))


def _plan(steps: tuple[Step, ...], problems: Iterable[OlladistError]) -> Plan:
    moved = sum(step.bytes for step in steps if step.to is not None)
    return Plan(steps=steps, bytes=moved, problems=tuple(told(problem) for problem in problems))


def told(problem: OlladistError) -> str:
    return f"{problem.message} ({problem.hint})" if problem.hint else problem.message


def _step(deed: Deed, why: str) -> Step:
    model = str(deed.model)
    match deed:
        case Remove():
            freed = deed.manifest.size
            return Step(
                action="delete",
                model=model,
                digest=deed.manifest.digest,
                bytes=freed,
                source=deed.host,
                to=None,
                why=why,
            )
        case Copy():
            same = deed.replaces == deed.manifest.digest
            return Step(
                action="copy" if deed.replaces is None else "repair" if same else "replace",
                model=model,
                digest=deed.manifest.digest,
                bytes=_bytes(deed.transfers),
                source=_origin(deed.transfers),
                to=deed.host,
                why=why,
            )
        case Pull():
            return Step(action="pull", model=model, digest=None, bytes=0, source=deed.model.host, to=deed.host, why=why)
        case Create() | Follow():
            return Step(
                action="create" if isinstance(deed, Create) else "copy",
                model=model,
                digest=None,
                bytes=_bytes(deed.transfers),
                source=deed.recipe.source if isinstance(deed, Create) else deed.maker,
                to=deed.host,
                why=why,
            )


def _bytes(transfers: Sequence[Transfer]) -> int:
    return sum(transfer.left for transfer in transfers)


def _origin(transfers: Sequence[Transfer]) -> str | None:
    """Where most of it comes from; None where all of it is there."""
    found = max(transfers, key=lambda transfer: transfer.left, default=None)
    if found is None:
        return None
    return str(found.file) if found.file else next(iter(found.holders), None)
