"""`olladist proxy status`, `explain`, `reload`, `drain`, `undrain` and `stop`: what is asked of a gateway that runs."""

from typing import Annotated, TypeAlias

import typer

Where: TypeAlias = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDRESS:PORT", help="Which gateway, where several of this inventory run."),
]
Nodes: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="HOST...", help="Hosts, groups or patterns; gpu1:11435 for one of several instances."),
]


def status(context: typer.Context, listen: Where = None) -> int:
    """Show the gateways of this inventory that run: their processes, every node with what runs there, and who waits for which model."""
    from olladist.cli.gateway import look_at, running_gateways
    from olladist.output.documents import ProxyStatusDocument
    from olladist.output.gateway import gateway_block

    screen, running = running_gateways(context, listen)
    seen = tuple(look_at(each) for each in running)
    screen.show(*(gateway_block(each) for each in seen))
    screen.document(ProxyStatusDocument(gateways=seen))
    return int(any(each.problem for each in seen))


def explain(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As clients name it.")],
    key: Annotated[str, typer.Option(metavar="NAME", help="For a request with this API key.")] = "",
    options: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="For a request with this option, such as num_ctx=8192; may be repeated."
        ),
    ] = None,
    listen: Where = None,
) -> int:
    """Say where a request for a model would go now, and for every node why there or why not.

    Decided by what decides about requests, on a copy of what the gateway knows: nothing changes. Times are seconds; GAIN and HARM are
    what a load there would save those who wait and cost others, in seconds of waiting over all requests.
    """
    from urllib.parse import urlencode

    import msgspec

    from olladist.cli.gateway import Operator, one_gateway
    from olladist.output.documents import ProxyExplainDocument
    from olladist.output.gateway import explain_block

    screen, running = one_gateway(context, listen)
    asked = {"model": model, "key": key, "options": _options(options or [])}
    with Operator(running) as operator:
        answer = operator.ask("GET", f"/admin/explain?{urlencode(asked)}")
    document = msgspec.convert({**answer, "schema": "olladist.proxy.explain", "url": running.url}, ProxyExplainDocument)
    screen.show(explain_block(document))
    screen.document(document)
    return 0


def _options(words: list[str]) -> str:
    """`num_ctx=8192` as clients send it; UsageError for one that does not decide where a request goes."""
    import json

    from olladist.errors import UsageError
    from olladist.ollama.request import RUNNER_OPTIONS

    found: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in RUNNER_OPTIONS:
            raise UsageError(
                f"--options {word} is none that makes Ollama load a model anew",
                hint=f"these do: {', '.join(RUNNER_OPTIONS)}; as in num_ctx=8192",
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise UsageError(f"--options {word}: {value!r} is no value", hint="a number, true or false") from None
    return json.dumps(found)


def reload(context: typer.Context, listen: Where = None) -> int:
    """Have the inventory read again, without dropping a stream.

    Hosts, models, strategy, fallback, keys and limits take effect at once. An inventory with a mistake changes nothing. Says what needs a restart.
    """
    import msgspec

    from olladist.cli.gateway import Operator, one_gateway
    from olladist.errors import InventoryError, Problem, UsageError
    from olladist.output.documents import ProxyReloadDocument
    from olladist.output.gateway import reload_block

    screen, running = one_gateway(context, listen)
    with Operator(running) as operator:
        state, answer = operator.answer("POST", "/admin/reload")
    if state == 422:
        problems = tuple(Problem(p["line"], p["key"], p["text"], p["hint"]) for p in answer.get("problems", ()))
        if problems:
            raise InventoryError(answer["path"], problems)
        raise UsageError(answer["error"], hint=answer.get("hint", ""))
    document = msgspec.convert({**answer, "schema": "olladist.proxy.reload", "url": running.url}, ProxyReloadDocument)
    screen.talk(reload_block(document))
    screen.document(document)
    return 0


def drain(
    context: typer.Context,
    nodes: Nodes,
    force: Annotated[bool, typer.Option("--force", help="Also where a model has no other holder.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until what runs there has ended.")] = True,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="How long to wait; without it for as long as it takes."),
    ] = None,
    listen: Where = None,
) -> int:
    """Give hosts no new work, and wait until what runs there has ended.

    They stay drained, over restarts too, until `undrain`.
    """
    from rich.text import Text

    from olladist.cli.gateway import Operator, drain_document, one_gateway, wait_until_idle

    screen, running = one_gateway(context, listen)
    with Operator(running) as operator:
        answer = operator.ask("POST", "/admin/drain", {"nodes": nodes, "force": force})
        for model in answer["unreachable_models"]:
            screen.talk(Text(f"nobody who is not drained has {model}: requests for it fail"))
        if wait:
            answer = wait_until_idle(screen, operator, answer, timeout)
    names = ", ".join(node["name"] for node in answer["nodes"])
    screen.talk(Text(f"drained: {names}; `olladist proxy undrain` gives them work again"))
    screen.document(drain_document(running, answer))
    return 0


def undrain(context: typer.Context, nodes: Nodes, listen: Where = None) -> int:
    """Give drained hosts work again."""
    from rich.text import Text

    from olladist.cli.gateway import Operator, drain_document, one_gateway

    screen, running = one_gateway(context, listen)
    with Operator(running) as operator:
        answer = operator.ask("POST", "/admin/undrain", {"nodes": nodes})
    changed = ", ".join(answer["changed"])
    screen.talk(Text(f"gets work again: {changed}" if changed else "none of them was drained"))
    screen.document(drain_document(running, answer))
    return 0


def stop(
    context: typer.Context,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for running answers.")] = False,
    listen: Where = None,
) -> int:
    """Stop a gateway: no new connections, running answers may end within the grace (60 s), then the gateway does."""
    from rich.text import Text

    from olladist.cli.gateway import one_gateway, stop_gateway
    from olladist.output.documents import ProxyStopDocument

    screen, running = one_gateway(context, listen)
    cut = stop_gateway(screen, running, now=now)
    ended = "every answer was finished" if not cut else f"{cut} answers were ended before their time"
    screen.talk(Text(f"stopped {running.url} (pid {running.pid})" + ("" if now else f": {ended}")))
    screen.document(ProxyStopDocument(url=running.url, pid=running.pid, cut=cut))
    return 0
