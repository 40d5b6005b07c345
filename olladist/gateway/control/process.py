"""The control process: puts the parts together, serves its sockets, and ends as it is told."""

import asyncio
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop

from olladist.errors import OlladistError
from olladist.gateway.child import collect_seldom, receive_settings, start_log, when_parent_ends
from olladist.gateway.control.app import make_app
from olladist.gateway.control.cache import Cache, cache_bounds
from olladist.gateway.control.choices import Choices
from olladist.gateway.control.declared import Declared, first_declaration, kept_keys_path
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.drain import Drain
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.lease_server import LOOK_AGAIN, LeaseServer
from olladist.gateway.control.limits import RateLimits
from olladist.gateway.control.models.designated import designated
from olladist.gateway.control.models.pending import Pending
from olladist.gateway.control.moves.stores import HostStores
from olladist.gateway.control.observer import Observer
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.reload import Reload
from olladist.gateway.control.room import make_room, preload
from olladist.gateway.control.roster import Change, Roster
from olladist.gateway.control.serving import serve_api
from olladist.gateway.control.state import open_state, state_path
from olladist.gateway.control.tunnels import Tunnels, Unattended
from olladist.gateway.control.twins import Twins
from olladist.gateway.control.upstreams import Upstreams
from olladist.gateway.control.watch import Pace, Way
from olladist.gateway.settings import Settings
from olladist.inventory.model import ApiKey
from olladist.ssh.connections import Connections

# A start waits this long for hosts that do not answer; what comes later is picked up when it comes.
FIRST_ANSWERS = 3.0

log = structlog.get_logger()


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    reload: asyncio.Event | None = None,
    pace: Pace | None = None,
    now: Callable[[], float] = time.monotonic,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Runs until `stop` is set; `ready` is called once all sockets answer. OlladistError where the inventory cannot be used.

    Whenever `reload` is set the inventory is read again, and the event cleared.
    """
    declared = Declared(first_declaration(settings))
    keys = Keys.first(_declared_keys(settings, declared), kept_keys_path(settings))
    (Path(settings.run_dir) / "tunnels").mkdir(mode=0o700, exist_ok=True)
    unattended = Unattended()
    async with (
        Connections(prompts=unattended.prompts, accept_new=settings.accept_new) as connections,
        asyncio.TaskGroup() as tasks,
    ):
        state = open_state(state_path(Path(settings.inventory), "state"))
        roster = Roster(now, declared.now.serving)
        upstreams = Upstreams(roster)
        tunnels = Tunnels(roster, connections, unattended, tasks)
        prober = Prober(roster, tasks, way=Way(tunnels.problem, tunnels.opening), pace=pace)
        roster.listeners.append(lambda change: None if tunnels.opening(change.backend) else _report(change))
        parts = assemble(settings, declared, keys, state, prober, upstreams, HostStores(connections, declared))
        tunnels.busy = lambda number: number in parts.dispatcher.ledger.in_flight or upstreams.streams[number] > 0
        parts.cache.open(state_path(Path(settings.inventory), "cache"))
        parts.reload.apply()
        await prober.wait_first(FIRST_ANSWERS)
        listening = asyncio.Event()
        twins = Twins(roster, upstreams, parts.dispatcher.queue.same)
        serving = [
            tasks.create_task(twins.run()),
            tasks.create_task(parts.leases.run(Path(settings.lease_socket), listening.set)),
            tasks.create_task(_reload_whenever(reload or asyncio.Event(), parts.reload)),
        ]
        await listening.wait()
        await serve_api(make_app(parts), settings, stop, ready)
        for task in serving:
            task.cancel()
        await parts.stores.close()
        await parts.cache.close()
        await parts.pending.close()
        tunnels.close()
        roster.swap(())  # which ends whatever is done for a backend
        await upstreams.close()
        state.close()
    log.info("stopped")


def assemble(
    settings: Settings,
    declared: Declared,
    keys: Keys,
    state: sqlite3.Connection,
    prober: Prober,
    upstreams: Upstreams,
    stores: HostStores,
) -> Parts:
    """What decides and answers, put together around what watches."""
    roster, now = prober.roster, prober.roster.now
    pending = Pending(state, upstreams, prober)
    prober.sift = pending.sift
    cache = _cache(settings, declared, roster)
    dispatcher = Dispatcher(
        roster,
        declared.now.strategy,
        now,
        prober.check_tags,
        kept=cache,
        designated=lambda: designated(roster, declared),
    )
    observer = Observer(roster, RateLimits(keys, now))
    leases = LeaseServer(
        dispatcher,
        lambda: prober.refresh_tags(older_than=LOOK_AGAIN, within=LOOK_AGAIN),
        observer,
        lambda number, models: make_room(roster, upstreams, number, models),
        lambda load: preload(roster, upstreams, load),
    )
    leases.set_access(keys.access)
    leases.keep, cache.on_stored = cache.keep, observer.kept
    choices = Choices(state, declared, settings.overrides, roster)
    return Parts(
        settings=settings,
        declared=declared,
        state=state,
        now=now,
        started=now(),
        roster=roster,
        dispatcher=dispatcher,
        prober=prober,
        pending=pending,
        upstreams=upstreams,
        stores=stores,
        leases=leases,
        keys=keys,
        choices=choices,
        cache=cache,
        # After `choices`: where the local Ollama is stands there.
        reload=Reload(settings, declared, dispatcher, keys, leases),
        drain=Drain(state, declared, dispatcher, upstreams),
    )


def _declared_keys(settings: Settings, declared: Declared) -> tuple[ApiKey, ...]:
    """The inventory's; or the one that the command knows which has started this gateway for a check of its own."""
    if settings.temporary:
        return (ApiKey("doctor", sha256=settings.temporary),)
    return declared.inventory.gateway.keys


def _cache(settings: Settings, declared: Declared, roster: Roster) -> Cache:
    """Answers that may be kept, within the bounds that the inventory sets now; it has no file yet."""
    cache = Cache(*cache_bounds(declared.inventory.gateway))
    declared.listeners.append(lambda now: cache.bound(*cache_bounds(now.inventory.gateway)))
    roster.cache = settings.api_socket
    return cache


async def _reload_whenever(asked: asyncio.Event, reload: Reload) -> None:
    while True:
        await asked.wait()
        asked.clear()
        with suppress(OlladistError):  # which has been logged
            await reload.again()


def _report(change: Change) -> None:
    """Says when a node's state changes, and why one has not come up yet."""
    before, after = change.before, change.after
    if before is None or after is None:
        return
    if before.state is after.state and not (after.is_new and before.health.reason != after.health.reason):
        return
    reason = after.health.why or f"answers, Ollama {after.version}"
    log.warning("node has changed", node=change.backend.node, state=after.state.value, reason=reason)


async def _run(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop, reload = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    when_parent_ends(loop, stop.set)
    try:
        await serve(settings, stop, reload=reload, ready=collect_seldom)
    except OlladistError as error:
        log.critical(error.message, hint=error.hint)
        return error.exit_code
    return 0


def main() -> None:
    # Ctrl-C reaches the whole process group at once, and the tunnels must stay for the streams that workers finish first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    settings = receive_settings()
    start_log("control", verbose=settings.verbose)
    sys.exit(uvloop.run(_run(settings)))
