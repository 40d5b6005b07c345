"""What an administrator has chosen at run time: kept over restarts, and in force at once."""

import sqlite3
from dataclasses import replace

import structlog

from olladist.errors import UsageError
from olladist.gateway.control.declared import Declared
from olladist.gateway.control.modes import Chosen, Serving, in_order, serving_of
from olladist.gateway.control.roster import Roster
from olladist.gateway.settings import Overrides
from olladist.inventory.model import Mode

log = structlog.get_logger()

# Names of rows in `chosen`.
_MODE, _FALLBACK = "mode", "fallback"


class Choices:
    """Sets how the roster serves; `state` is as in state.py."""

    def __init__(self, state: sqlite3.Connection, declared: Declared, overrides: Overrides, roster: Roster) -> None:
        self._state = state
        self._declared = declared
        self._overrides = overrides
        self._roster = roster
        self.chosen = _read(state)
        declared.listeners.append(lambda _: self._apply())
        self._apply()

    def choose(self, chosen: Chosen) -> None:
        """Takes the place of what was chosen before. UsageError where it cannot be, and then nothing has changed."""
        serving = self._serving(chosen)
        for name, value in (
            (_MODE, chosen.mode),
            (_FALLBACK, None if chosen.fallback is None else ",".join(chosen.fallback)),
        ):
            if value is None:
                self._state.execute("DELETE FROM chosen WHERE name = ?", (name,))
            else:
                self._state.execute("INSERT OR REPLACE INTO chosen VALUES (?, ?)", (name, value))
        self.chosen = chosen
        self._roster.serve(serving)

    def _apply(self) -> None:
        """What the inventory says now may leave no place for a mode that was chosen: then its own counts again, and the choice is forgotten."""
        try:
            serving = self._serving(self.chosen)
        except UsageError as error:
            log.warning("the mode that was chosen is forgotten", mode=self.chosen.mode, problem=error.message)
            self.choose(replace(self.chosen, mode=None))
        else:
            self._roster.serve(serving)

    def _serving(self, chosen: Chosen) -> Serving:
        return serving_of(self._declared.inventory.gateway, self._overrides, chosen)


def _read(state: sqlite3.Connection) -> Chosen:
    """What cannot be read counts as not chosen: another version may have written it."""
    rows = dict(state.execute("SELECT name, value FROM chosen"))
    mode, fallback = rows.get(_MODE), rows.get(_FALLBACK)
    return Chosen(
        Mode(mode) if mode in set(Mode) else None,
        None if fallback is None else in_order(fallback.split(",")),
    )
