"""The parts of a control process, as its API shows them."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from olladist.gateway.control.cache import Cache
from olladist.gateway.control.choices import Choices
from olladist.gateway.control.declared import Declared, configured_version
from olladist.gateway.control.dispatcher import Dispatcher
from olladist.gateway.control.drain import Drain
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.lease_server import LeaseServer
from olladist.gateway.control.models.pending import Pending
from olladist.gateway.control.moves.stores import HostStores
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.reload import Reload
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.upstreams import Upstreams
from olladist.gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """`started` is of the clock `now`; `state` is as in state.py.

    `declared` holds the inventory as the last reload has left it: ask it when something is to be done, keep nothing of it.
    """

    settings: Settings
    declared: Declared
    state: sqlite3.Connection
    now: Callable[[], float]
    started: float
    roster: Roster
    dispatcher: Dispatcher
    prober: Prober
    pending: Pending
    upstreams: Upstreams
    leases: LeaseServer
    keys: Keys
    choices: Choices
    cache: Cache
    stores: HostStores
    reload: Reload
    drain: Drain

    @property
    def version(self) -> str:
        """What /api/version says while no backend does."""
        return configured_version(self.declared.hosts)
