"""Models that a host shall still get: it could not be reached when they were created."""

import sqlite3
import time
from dataclasses import dataclass

from olladist.ollama.digests import Digest


@dataclass(frozen=True, slots=True)
class Owed:
    host: str
    model: str  # ModelName.key
    digest: Digest


class Unspread:
    """Kept in the gateway's state, so that a restart forgets none. One content for each host and name: the last one counts."""

    def __init__(self, state: sqlite3.Connection) -> None:
        self._state = state

    def owe(self, owed: Owed) -> None:
        self._state.execute(
            "INSERT OR REPLACE INTO unspread (host, model, digest, since) VALUES (?, ?, ?, ?)",
            (owed.host, owed.model, owed.digest, time.time()),
        )

    def settle(self, owed: Owed) -> None:
        """It is there, or nobody has it any more. What has been owed anew meanwhile stays."""
        self._state.execute(
            "DELETE FROM unspread WHERE host = ? AND model = ? AND digest = ?", (owed.host, owed.model, owed.digest)
        )

    def cancel(self, model: str) -> None:
        """The model was deleted: no host is to get it."""
        self._state.execute("DELETE FROM unspread WHERE model = ?", (model,))

    def all(self) -> tuple[Owed, ...]:
        rows = self._state.execute("SELECT host, model, digest FROM unspread ORDER BY since, host")
        return tuple(Owed(*row) for row in rows)
