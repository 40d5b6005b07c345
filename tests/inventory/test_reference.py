"""docs/reference/inventory.md and inventory.example.toml say what the parser accepts, all of it and no more."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from olladist.inventory.parse import load
from olladist.inventory.tables import TABLES
from olladist.ollama.env import RESERVED, VARIABLES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/reference/inventory.md").read_text()
EXAMPLE = ROOT / "inventory.example.toml"

# What the page says once: groups and defaults have the keys of hosts but for these.
ONLY_HOSTS = {"address", "groups"}
HEADINGS = {
    "fleet": "[fleet]",
    "hosts.NAME": "[hosts.NAME]",
    "hosts.NAME.instances": "instances",
    "models.NAME": "[models.NAME]",
    "gateway": "[gateway]",
    "gateway.keys.NAME": "[gateway.keys.NAME]",
}


def section(heading: str) -> str:
    match = re.search(rf"^## `{re.escape(heading)}`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, heading
    return match[1]


@pytest.mark.parametrize("table", HEADINGS)
def test_the_page_has_every_key(table: str) -> None:
    """One row for each key that the parser takes, with type, default and meaning, in its order or not."""
    rows = [line.split(" | ") for line in section(HEADINGS[table]).splitlines() if line.startswith("| `")]

    assert sorted(row[0].strip("| `") for row in rows) == sorted(TABLES[table].model_fields)
    assert all(len(row) == 4 for row in rows)


def test_the_page_has_every_variable() -> None:
    """All that may stand in `env`, as olladist judges them."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `OLLAMA_")]

    assert rows == [
        f"| `{name}` | {variable.kind} | {variable.default or 'none'} | {variable.meaning} |"
        for name, variable in VARIABLES.items()
        if name not in RESERVED
    ]


def test_groups_and_defaults_have_the_keys_of_hosts() -> None:
    """As the page says: all but `address` and `groups`."""
    for table in ("defaults", "groups.NAME"):
        assert set(TABLES[table].model_fields) == set(TABLES["hosts.NAME"].model_fields) - ONLY_HOSTS
        assert section(f"[{table}]")


def test_every_table_is_on_the_page() -> None:
    """No more and no fewer."""
    assert set(HEADINGS) | {"defaults", "groups.NAME"} == set(TABLES)


def test_the_example_is_an_inventory() -> None:
    """It is accepted as it stands."""
    inventory = load(EXAMPLE)

    assert list(inventory.hosts) == ["gpu1", "gpu2", "gpu3", "laptop"]
    assert [i.port for i in inventory.hosts["gpu1"].instances] == [11434, 11435]
    assert inventory.models[2].source == str(ROOT / "models/support.gguf")


def test_the_example_has_every_key() -> None:
    """Of every table, those of a host on a host, a group or the defaults."""
    document: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    shared = [document["defaults"], *document["groups"].values(), *document["hosts"].values()]
    used = {
        "fleet": set(document["fleet"]),
        "hosts.NAME": set().union(*shared),
        "hosts.NAME.instances": {key for host in shared for item in host.get("instances", []) for key in item},
        "models.NAME": {key for model in document["models"].values() for key in model},
        "gateway": set(document["gateway"]),
        "gateway.keys.NAME": {key for entry in document["gateway"]["keys"].values() for key in entry},
    }

    assert used == {table: set(TABLES[table].model_fields) for table in used}
