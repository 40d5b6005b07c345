"""What the gateway must still know after a restart: one SQLite file for each inventory, 0600, in the user's state directory."""

import sqlite3
from pathlib import Path

from olladist.gateway.running import inventory_id, notes_dir

# Each statement makes what one module needs, and is harmless where it is there already.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    node TEXT NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL, digest TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (node, model)
) STRICT;
CREATE TABLE IF NOT EXISTS unspread (
    host TEXT NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (host, model)
) STRICT;
CREATE TABLE IF NOT EXISTS drained (node TEXT NOT NULL PRIMARY KEY, since REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS chosen (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


def state_path(inventory: Path, kind: str) -> Path:
    """Where the gateway of an inventory keeps `kind`; two inventories never share it."""
    return notes_dir() / f"{inventory_id(inventory)}.{kind}.sqlite3"


def open_state(path: Path) -> sqlite3.Connection:
    """Autocommitting; its rows are few and its writes rare, so that they need no thread of their own.

    `pending`: deletes and copies for nodes that could not be reached; times are Unix seconds. `unspread`:
    models that hosts shall still get. `drained`: nodes that get no new work. `chosen`: what an administrator has set at run
    time, by name.
    """
    path.touch(mode=0o600)
    database = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_SCHEMA)
    return database
