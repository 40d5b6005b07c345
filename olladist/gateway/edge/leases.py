"""The worker's end of the lease socket: asks for backends, says how it went, and goes on alone while the control process is away."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from typing import cast

import structlog

from olladist.gateway.edge.backends import Asker, Backend, Backends, Lent, key_of, place
from olladist.gateway.edge.spare import IDLE_SECONDS, TELL_SECONDS, TELL_USES, Spare
from olladist.gateway.lease import (
    RETURNED,
    Access,
    Ask,
    Done,
    First,
    Grant,
    Held,
    Hello,
    Keep,
    Recall,
    Recalled,
    Refuse,
    Table,
    Tally,
    ToControl,
    ToWorker,
    Unpacker,
    Usage,
    Use,
    Used,
    pack,
)
from olladist.ollama.names import InvalidName, parse_name
from olladist.ollama.refusal import refusal

# What is left to a client whose time is over, for 0 would be for ever: it is told with the next tick.
_PATIENCE_MIN = 0.001

log = structlog.get_logger()


class Leases(asyncio.Protocol):
    """One per worker; a new connection to the same socket is made for as long as `run` goes on."""

    def __init__(self, worker: int, path: str, backends: Backends) -> None:
        self._worker = worker
        self.path = path
        self._backends = backends
        self._next = 0
        self.access: Access | None = None  # None until the control process has said who may come in
        self.has_table = asyncio.Event()
        # Of one connection; `_asking` waits for a Grant or a Refuse.
        self._transport: asyncio.Transport | None = None
        self._unpacker = Unpacker[ToWorker](ToWorker)
        self._asking: dict[int, Asker] = {}
        self._outgoing: list[bytes] = []
        self._flushing = False  # it is written at the end of this turn of the loop
        self._spare = Spare()
        self._lent: dict[int, Lent] = {}  # all that may be used again, idle or not
        self._used: list[Lent] = []  # there is something to tell of them
        self._sweeping = False
        self._told_at = 0.0
        self.ended = asyncio.Event()
        # Of the time without one: who waits for a slot, by model, in the order in which they came.
        self._alone: dict[str, dict[int, Asker]] = {}

    # What exchanges call.

    def ask(self, asker: Asker) -> None:
        """Answers by a call of `granted` or `refused`, maybe before this returns."""
        if self._spare:
            lent = None if asker.tried or asker.load else self._spare.take(asker.kind)
            if lent is not None:
                asker.lease = lent.lease
                asker.lent = lent
                lent.backend.running.add(asker)
                asker.granted(lent.backend, lent.grant)
                return
            self._give_back(
                self._spare.of(asker.model)
            )  # before the Ask: what lies idle must not make a host look busy to it
        self._next += 1
        asker.lease = self._next
        if self._transport is None:
            self._place(asker)
            return
        self._ask(asker)

    def forget(self, asker: Asker) -> None:
        """The client left while it waited."""
        if self._asking.pop(asker.lease, None) is not None:
            self._send(Done(asker.lease, -1, "left", 0))
        for waiting in self._alone.values():
            waiting.pop(asker.lease, None)

    def done(
        self,
        asker: Asker,
        backend: Backend,
        outcome: str,
        status: int,
        first_byte: float,
        duration: float,
        received: int,
        usage: Usage,
        now: float,
    ) -> None:
        """Ends the use that an asker has made of its lease on `backend`, and the lease with it unless it may be used again."""
        backend.running.discard(asker)
        lent = asker.lent
        if lent is not None:
            asker.lent = None
            if outcome == "served" and status == 200 and self._transport is not None and self._spare.put(lent, now):
                if not lent.uses:
                    self._used.append(lent)
                lent.uses.append(Use(first_byte, duration, received, usage, asker.near))
                self._look_after_spare()
                return
            self._tell(lent)
            self._lent.pop(lent.lease, None)
        self._send(Done(asker.lease, backend.id, outcome, status, first_byte, duration, received, usage))
        if self._alone:
            self._give_on(asker, backend)

    def first(self, asker: Asker) -> None:
        """Its answer has begun."""
        self._send(First(asker.lease))

    def keep(self, answer: Keep) -> None:
        """Hands over an answer that may be given again; while the control process is away it is not kept."""
        self._send(answer)

    def tally(self, counts: Counter[str]) -> None:
        """Hands over what was counted and begins anew; while the control process is away it goes on adding up."""
        if counts and self._transport is not None:
            self._send(Tally(dict(counts)))
            counts.clear()

    # Leases that are used again.

    def _look_after_spare(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = asyncio.get_running_loop().time()
        self._give_back(self._spare.old(now))
        if now - self._told_at >= TELL_SECONDS or sum(len(lent.uses) for lent in self._used) >= TELL_USES:
            self._told_at = now
            for lent in self._used:
                self._tell(lent)
            self._used.clear()
        if self._spare or self._used:
            self._look_after_spare()
        self._flush()

    def _tell(self, lent: Lent) -> None:
        """What a lease was used for; nothing where that is told already."""
        if lent.uses and self._transport is not None:
            self._outgoing.append(pack(Used(lent.lease, tuple(lent.uses))))
        lent.uses.clear()

    def _recalled(self, recall: Recall) -> None:
        """One that is asked for alone and lies idle goes back when nobody has taken it, or serves once more."""
        for number in recall.leases:
            if lent := self._lent.get(number):
                lent.recalled = True
        if not recall.leases:
            self._recall()
            self._send(Recalled())

    def _recall(self) -> None:
        self._give_back(self._spare.recall(asyncio.get_running_loop().time()))

    def _give_back(self, leases: Iterable[Lent]) -> None:
        for lent in leases:
            self._tell(lent)
            self._lent.pop(lent.lease, None)
            self._send(Done(lent.lease, lent.backend.id, RETURNED, 0))

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._unpacker = Unpacker[ToWorker](ToWorker)
        held = tuple(Held(asker.lease, b.node, asker.model) for b in self._backends for asker in b.running)
        self._send(Hello(self._worker, os.getpid(), held))
        alone, self._alone = self._alone, {}
        for asker in sorted((a for waiting in alone.values() for a in waiting.values()), key=lambda a: a.lease):
            self._ask(asker)
        log.info("control process is there", held=len(held), waiting=len(self._asking))

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._unpacker.feed(data)
        except ValueError as problem:
            log.warning("control process sends garbage", problem=str(problem))
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            if isinstance(message, Grant):
                self._granted(message)
            elif isinstance(message, Refuse):
                self._refused(message)
            elif isinstance(message, Recall):
                self._recalled(message)
            elif isinstance(message, Table):
                self._table(message)
            else:
                self.access = message

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._recall()  # none of them means anything to another control process
        self._used.clear()
        self._lent.clear()
        self._outgoing.clear()
        self.ended.set()
        asking, self._asking = self._asking, {}
        for asker in asking.values():
            self._place(asker)

    def _ask(self, asker: Asker) -> None:
        self._asking[asker.lease] = asker
        tried = self._backends.ids(asker.tried) if asker.tried else ()
        wanted = asker.wants
        if wanted.deadline:  # the client's patience began with its first try
            waited = asyncio.get_running_loop().time() - asker.asked_at
            wanted = wanted._replace(deadline=max(wanted.deadline - waited, _PATIENCE_MIN))
        wants = (asker.near, *wanted, asker.options, asker.only, asker.load, asker.begins)
        self._send(Ask(asker.lease, asker.model, asker.route.name, tried, *wants))

    def _send(self, message: ToControl) -> None:
        """What one turn of the loop has to say goes out in one write: each costs a system call here and a wake-up there."""
        if self._transport is None:
            return
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(pack(message))

    def _flush(self) -> None:
        self._flushing = False
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self._transport is not None:
            self._transport.write(b"".join(outgoing))

    def _granted(self, grant: Grant) -> None:
        asker = self._asking.pop(grant.id, None)
        if asker is None:
            return  # it has left, and its Done is on the way
        backend = self._backends.get(grant.backend)
        if backend is None:
            log.warning("granted what is not there", backend=grant.backend, known=[each.id for each in self._backends])
            self._send(Done(grant.id, -1, "connect", 0))
            asker.refused(503, "the gateway has no such host any more, please try again", 1)
            return
        backend.running.add(asker)
        if grant.again:
            asker.lent = Lent(grant.id, backend, asker.kind, asyncio.get_running_loop().time())
            self._lent[grant.id] = asker.lent
        asker.granted(backend, grant)

    def _refused(self, refuse: Refuse) -> None:
        asker = self._asking.pop(refuse.id, None)
        if asker is not None:
            self._send(Done(refuse.id, -1, "served", refuse.status))
            asker.refused(refuse.status, refuse.text, refuse.retry_after)

    def _table(self, table: Table) -> None:
        self._recall()
        went_down = self._backends.apply(table)
        self.has_table.set()
        for backend in went_down:
            log.warning("backend is down", node=backend.node, running=len(backend.running))
            for asker in tuple(backend.running):
                asker.backend_went_down()

    def _place(self, asker: Asker) -> None:
        """Decides without the control process, on the last table and this worker's own counts."""
        if not self._backends.mode:
            asker.refused(503, "the gateway is starting, please try again", 1)
            return
        try:
            key = parse_name(asker.model).key
        except InvalidName:
            asker.refused(*refusal(asker.route, asker.model), 0)
            return
        late = self._backends.late
        placed = place(self._backends, self._backends.mode, key, asker.tried, asker.only, late=late)
        if placed is not None:
            backend, fallback, reason = placed
            if late and backend.is_full(key):
                self._alone.setdefault(key, {})[asker.lease] = asker
                return
            backend.running.add(asker)
            asker.granted(backend, Grant(asker.lease, backend.id, fallback, reason))
        elif any(key in known.models for known in self._backends):
            asker.refused(503, f"no host with the model {asker.model!r} can be reached, please try again", 1)
        elif not any(known.up and known.role != "cache" for known in self._backends):
            asker.refused(503, "no host can be reached, please try again", 1)
        else:
            asker.refused(*refusal(asker.route, asker.model), 0)

    def _give_on(self, asker: Asker, backend: Backend) -> None:
        """A slot is free, and nobody is there to say whose it is: the next one's of this worker who may go there."""
        waiting = self._alone.get(key_of(asker.model), {})
        following = next((each for each in waiting.values() if backend.node not in each.tried), None)
        if following is not None:
            del waiting[following.lease]
            self._place(following)
