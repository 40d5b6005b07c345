"""GET /admin/explain: where a request for a model would go now, and why there. Decided by what decides about requests, on a copy."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.gateway import access
from olladist.gateway.control import verdicts
from olladist.gateway.control.backends import CACHE_ID
from olladist.gateway.control.dispatcher import Wait
from olladist.gateway.control.models.targets import placement
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_administrate, who
from olladist.gateway.control.verdicts import Facts
from olladist.gateway.control.web import JSON, json_response, response
from olladist.gateway.lease import Ask, Grant, Refuse
from olladist.inventory.model import Strategy
from olladist.ollama.names import is_cloud, parse_name, split_name
from olladist.ollama.request import runner_options
from olladist.scheduling.explain import Explained, Prospect, Verdict
from olladist.scheduling.health import State
from olladist.units import duration

# Nodes that are shown: those that have the model in memory, then those that have it, then others. To look at one takes some 50 us.
NODES_MAX = 200

Count = Annotated[int, msgspec.Meta(ge=0)]


class NodeExplained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node. `verdict` says what it is to the request, `text` in words.

    `slots` for this model are those that are counted on, `declared_slots` what the inventory says; `running` of them are taken.
    `makes_room` is the model that would have to go, or goes, or is loaded. `wait` are seconds until a slot is free or the other model is idle,
    `load` those of the load after that; `tokens_per_second` of answers, `learned` from them. A load there would save those who
    wait `gain` request-seconds, cost others `harm` and is worth `net`. Null where there is no such thing.
    """

    node: str
    state: Literal["up", "degraded", "down"]
    drained: bool
    verdict: str
    text: str
    has_model: bool
    in_memory: bool
    slots: Count
    declared_slots: Count
    running: Count
    in_flight: Count
    makes_room: str
    wait: float | None
    load: float | None
    tokens_per_second: float | None
    learned: bool
    gain: float | None
    harm: float | None
    net: float | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`goes` to `node` at once, to wait (as number `position` for the model, `before` of them first by priority and key, about
    `estimated_wait` seconds), to what stands in, or nowhere.

    `nodes` begin with where it goes; `left_out` says how many more there are.
    """

    schema: Literal["olladist.gateway.explanation"] = "olladist.gateway.explanation"
    version: Literal[1] = 1
    model: str
    key: str
    options: str
    strategy: str
    mode: str
    goes: Literal["node", "waits", "fallback", "refused"]
    node: str
    text: str
    position: Count
    before: Count
    estimated_wait: float | None
    nodes: tuple[NodeExplained, ...]
    left_out: Count


class Unknown(Exception):
    """A model or a key that there is not; `hint` names what comes near."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def pages(parts: Parts) -> Sequence[WebRoute]:
    async def answer(request: Request) -> Response:
        if refused := must_administrate(who(request, parts), parts.settings):
            return refused
        asked = request.query_params
        options = runner_options(asked["options"].encode()) if "options" in asked else ""
        await parts.leases.idle_back()
        try:
            explanation = explain(parts, asked.get("model", ""), asked.get("key", ""), options)
        except Unknown as unknown:
            return json_response({"error": str(unknown), "hint": unknown.hint}, 400)
        return response(msgspec.json.encode(explanation), JSON)

    return [WebRoute("/admin/explain", answer)]


def explain(parts: Parts, model: str, key: str = "", options: str = "") -> Explanation:
    """`options` as Ask has them. Raises Unknown for a model that nobody has and the inventory does not name, and for such a key."""
    ask = Ask(0, _known_model(parts, model), "chat", key=_known_key(parts, key), options=options)
    answer = _answer(parts, ask)
    explained = _foreseen(parts, ask, answer)
    rows = [*_rows(parts, ask, answer, explained)]
    rows.sort(key=lambda row: (row.verdict not in {Verdict.TAKES, Verdict.LOADS}, row.verdict != Verdict.SWITCHES))
    goes, node, text = _outcome(parts, ask, answer, explained)
    waits = explained if goes == "waits" else None
    return Explanation(
        model=ask.model,
        key=key,
        options=options,
        strategy=parts.dispatcher.strategy.value,
        mode=parts.roster.serving.mode.value,
        goes=goes,
        node=node,
        text=text,
        position=waits.position if waits else 0,
        before=waits.before if waits else 0,
        estimated_wait=None if explained is None or explained.wait is None else round(explained.wait, 3),
        nodes=tuple(rows),
        left_out=max(0, len(parts.roster.nodes) - len(rows)),
    )


def _known_model(parts: Parts, model: str) -> str:
    key = split_name(model).key
    declared = {each.name.key for each in parts.declared.inventory.models}
    known = declared.union(*(seen.keys for seen in parts.roster.seen.values()))
    if key in known or is_cloud(model):
        return model
    names = [str(parse_name(each)) for each in known]
    near = difflib.get_close_matches(model, {*names, *(name.removesuffix(":latest") for name in names)}, 3)
    raise Unknown(
        f"no host has a model {model!r}, and the inventory declares none",
        f"did you mean {', '.join(near)}?" if near else "`ollama list` shows what there is",
    )


def _known_key(parts: Parts, name: str) -> str:
    known = parts.keys.known
    if name and name not in known:
        near = difflib.get_close_matches(name, known, 1) or sorted(known)[:3]
        raise Unknown(
            f"there is no API key {name!r}", f"there is {', '.join(near)}" if near else "this gateway has no keys"
        )
    return name


def _answer(parts: Parts, ask: Ask) -> Grant | Refuse | Wait:
    key = parts.keys.known.get(ask.key)
    if key is not None and not access.may_use(key, ask.model):
        return Refuse(0, 403, f"the API key {ask.key!r} may not use the model {ask.model!r}")
    return parts.leases.observer.limits.foresee(ask) or parts.dispatcher.foresee(ask)


def _foreseen(parts: Parts, ask: Ask, answer: Grant | Refuse | Wait) -> Explained | None:
    """What the queue would do with it; None where no request waits there."""
    if parts.dispatcher.strategy is not Strategy.ADAPTIVE or is_cloud(ask.model):
        return None
    queue, key = parts.dispatcher.queue, split_name(ask.model).key
    avoid, priority = answer if isinstance(answer, Wait) else ((), 0)
    ready, holders = set(queue.loaded(key, ask.options)), parts.roster.holders(key)
    numbers = sorted(parts.roster.nodes, key=lambda number: (number not in ready, number not in holders, number))
    return queue.foresee(ask, key, avoid, priority, numbers[:NODES_MAX])


def _outcome(
    parts: Parts, ask: Ask, answer: Grant | Refuse | Wait, explained: Explained | None
) -> tuple[Literal["node", "waits", "fallback", "refused"], str, str]:
    backends = parts.roster.backends
    if isinstance(answer, Refuse):
        kept = parts.roster.serving.uses_cache and answer.status == 503
        unless = ", unless an answer to the same request has been kept" if kept else ""
        return "refused", "", f"it would be refused with {answer.status}: {answer.text}{unless}"
    if isinstance(answer, Grant):
        node = backends[answer.backend].node if answer.backend != CACHE_ID else "cache"
        if answer.fallback:
            return "fallback", node, f"it would go to {node}, which stands in: {answer.reason}"
        return "node", node, f"it would go to {node} now"
    if explained is None or explained.machine is None:
        position = explained.position if explained else 1
        wait = explained.wait if explained else None
        long = "for how long is not known yet" if wait is None else f"for about {duration(wait)}"
        before = explained.before if explained else 0
        turn = "" if before == position - 1 else f", with {before} before it in turn"
        return "waits", "", f"it would wait for a slot as number {position} of its model{turn}, {long}"
    node = backends[explained.machine].node
    loads = f", which loads the model first in about {duration(explained.wait)}" if explained.wait else ""
    return "node", node, f"it would go to {node} now{loads}"


def _rows(
    parts: Parts, ask: Ask, answer: Grant | Refuse | Wait, explained: Explained | None
) -> Iterator[NodeExplained]:
    roster, key = parts.roster, split_name(ask.model).key
    if explained is not None and Strategy.ADAPTIVE is parts.dispatcher.strategy:
        for number, prospect in explained.machines.items():
            facts = _facts(parts, number, key, parts.dispatcher.queue.title(prospect.other) if prospect.other else "")
            verdict, text = _queued(facts, prospect)
            if not isinstance(answer, Wait) and verdict in {Verdict.TAKES, Verdict.LOADS}:
                verdict, text = Verdict.UNNEEDED, "not asked: what would be answered stands above"
            yield _row(parts, number, facts, verdict, text, prospect)
        return
    chosen = answer.backend if isinstance(answer, Grant) else -1
    everybody = {number: _facts(parts, number, key) for number in roster.in_play()}
    holders = sorted(everybody, key=lambda n: (n != chosen, not everybody[n].warm, not everybody[n].has_model, n))
    for number in holders[:NODES_MAX]:
        facts = everybody[number]
        verdict, text = _sent_on(facts, everybody.get(chosen), parts.dispatcher.strategy)
        yield _row(parts, number, facts, verdict, text, None)


def _facts(parts: Parts, number: int, key: str, other: str = "") -> Facts:
    roster = parts.roster
    backend, seen = roster.backends[number], roster.seen[number]
    wanted = placement(parts.declared.inventory, key)
    for_long = duration(max(0.0, parts.now() - seen.since))
    return Facts(
        node=backend.node,
        has_model=key in seen.keys,
        warm=key in seen.warm,
        slots=backend.slots,
        in_flight=parts.dispatcher.ledger.in_flight.get(number, 0),
        down=f"for {for_long}: {seen.health.why}" if seen.state is State.DOWN else "",
        drained=backend.node in roster.drained,
        poorly=seen.health.why if seen.state is State.DEGRADED else "",
        avoided=parts.dispatcher.avoids(number, key),
        declared=wanted is not None and backend.host.name in wanted.hosts,
        other=other,
    )


def _queued(facts: Facts, prospect: Prospect) -> tuple[Verdict, str]:
    if text := verdicts.away(facts):
        return Verdict.DOWN, text
    nameless = prospect.verdict is Verdict.FAILED and not facts.avoided  # it has the contents
    if prospect.verdict is Verdict.ABSENT or not (facts.has_model or nameless):
        return Verdict.ABSENT, verdicts.absent(facts)
    return prospect.verdict, verdicts.queued(facts, prospect) + verdicts.doubt(facts, prospect)


def _sent_on(facts: Facts, chosen: Facts | None, strategy: Strategy) -> tuple[Verdict, str]:
    if facts is not chosen:
        if text := verdicts.away(facts):
            return Verdict.DOWN, text
        if not facts.has_model:
            return Verdict.ABSENT, verdicts.absent(facts)
    text = verdicts.sent_on(facts, chosen, strategy)
    if facts is chosen:
        return (Verdict.TAKES if facts.warm else Verdict.LOADS), text
    if facts.avoided:
        return Verdict.FAILED, text
    return (Verdict.POORLY if facts.poorly else Verdict.WORSE), text


def _row(
    parts: Parts, number: int, facts: Facts, verdict: Verdict, text: str, prospect: Prospect | None
) -> NodeExplained:
    plan = prospect.plan if prospect is not None else None
    here = prospect is not None and facts.has_model
    return NodeExplained(
        node=facts.node,
        state=parts.roster.seen[number].state.value,
        drained=facts.drained,
        verdict=verdict.value,
        text=text,
        has_model=facts.has_model,
        in_memory=prospect.in_memory if prospect is not None else facts.warm,
        slots=prospect.slots if prospect is not None else facts.slots,
        declared_slots=facts.slots,
        running=prospect.running if prospect is not None else facts.in_flight,
        in_flight=facts.in_flight,
        makes_room=facts.other,
        wait=_rounded(prospect.wait) if prospect is not None and here else None,
        load=_rounded(prospect.load) if prospect is not None and here else None,
        tokens_per_second=_rounded(prospect.rate) if prospect is not None and here else None,
        learned=prospect.learned if prospect is not None else False,
        gain=_rounded(plan.gain) if plan else None,
        harm=_rounded(plan.harm) if plan else None,
        net=_rounded(plan.net) if plan else None,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
