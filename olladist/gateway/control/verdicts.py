"""Why a node is where a request would go, or is not: in words. Pure."""

from dataclasses import dataclass

from olladist.inventory.model import Strategy
from olladist.scheduling.explain import Prospect, Verdict
from olladist.units import duration


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node beside its place in the queue. `other` is what Prospect's is called, `declared` says that it should have the model."""

    node: str
    has_model: bool
    warm: bool
    slots: int
    in_flight: int
    down: str  # why it is down, "" for one that is not
    drained: bool
    poorly: str  # why it is degraded, "" for one that is not
    avoided: bool
    declared: bool
    other: str = ""


def away(facts: Facts) -> str:
    """Why a node gets nothing whatever is asked for; "" for one that may."""
    if facts.drained:
        return f"drained: it gets no new work until `olladist proxy undrain {facts.node}`"
    return f"down {facts.down}" if facts.down else ""


def absent(facts: Facts) -> str:
    if facts.declared:
        return "cannot: it should have the model and has not; `olladist models sync` brings it"
    return "cannot: it does not have the model; declare it for this host, and `olladist models sync` brings it"


def poorly(facts: Facts) -> str:
    return f"degraded ({facts.poorly}): it gets work only where no other can take it"


def queued(facts: Facts, prospect: Prospect) -> str:
    """Of a node that is up and has the model, where requests wait in the gateway."""
    free = max(0, prospect.slots - prospect.running)
    slots = "1 slot" if prospect.slots == 1 else f"{prospect.slots} slots"
    load, other = duration(prospect.load), facts.other
    soon = f"in about {duration(prospect.wait)}" if prospect.wait else "soon"
    match prospect.verdict:
        case Verdict.TAKES:
            return f"would go here now: in memory, {free} of {slots} free"
        case Verdict.LOADS:
            first = f"{other} is unloaded, then " if other else ""
            return f"would go here now: {first}the model is loaded in about {load}"
        case Verdict.SWITCHES:
            return f"would go here when {other} is idle, {soon}; the load takes about {load} then"
        case Verdict.FREE:
            return f"in memory, {free} of {slots} free: not chosen, another answers as fast or faster"
        case Verdict.FULL:
            return f"in memory, {slots} taken" + (f": the next is free {soon}" if prospect.wait is not None else "")
        case Verdict.LOADING:
            return f"is being loaded for others, for about {load} more"
        case Verdict.LEAVING:
            return f"in memory, but it makes room for {other}"
        case Verdict.BUSY:
            return f"not now: it loads {other or 'another model'}, and one at a time"
        case Verdict.KEPT:
            return f"not now: requests wait for {other or 'what is loaded there'}, which would have to be unloaded"
        case Verdict.FAILED:
            return "could not serve the model a moment ago" if facts.avoided else "has the model by another name only"
        case Verdict.POORLY:
            return poorly(facts)
        case _:
            return _passed_over(prospect, load, other)


def doubt(facts: Facts, prospect: Prospect) -> str:
    """Why fewer slots are counted on than the inventory says; "" where they are not."""
    if prospect.slots >= facts.slots:
        return ""
    return f" ({facts.slots} by the inventory, but others use the node too, or it has shown no more)"


def _passed_over(prospect: Prospect, load: str, other: str) -> str:
    """Of one that could load the model."""
    needs = f"it would have to load the model ({load})" + (f" and to unload {other}" if other else "")
    match prospect.verdict:
        case Verdict.UNNEEDED:
            return f"not needed: {needs}, and a slot is free elsewhere"
        case Verdict.WORSE:
            return f"not chosen: {needs}, and a load elsewhere gains as much or more"
        case _:
            worth = f"which harms those who use {other} more than it gains" if other else "which gains next to nothing"
            return f"not chosen: {needs}, {worth}"


def sent_on(facts: Facts, chosen: Facts | None, strategy: Strategy) -> str:
    """The same where requests are sent on at once; `chosen` is where this one goes, None where it goes to no node."""
    load = f"{facts.in_flight} requests on {facts.slots} slots" if facts.slots != 1 else f"{facts.in_flight} on 1 slot"
    memory = "in memory" if facts.warm else "it has to load the model"
    if facts is chosen:
        return f"would go here now: {memory}, {load}"
    if facts.avoided:
        return "could not serve the model a moment ago"
    if facts.poorly:
        return poorly(facts)
    if strategy is Strategy.MODEL_AFFINITY and chosen is not None and chosen.warm and not facts.warm:
        return f"not chosen: {memory}, and {chosen.node} has it in memory"
    if strategy is Strategy.ROUND_ROBIN or chosen is None:
        return f"not chosen: it is another's turn; {load}"
    if facts.in_flight * chosen.slots > chosen.in_flight * facts.slots:
        return f"not chosen: busier, {load}"
    return f"not chosen: {load}, as good as {chosen.node}, whose turn it is"
