"""The tables of one file, typed: what could be read of it, with every problem noted on the way."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from olladist.inventory.lines import KeyPath
from olladist.inventory.problems import Problems
from olladist.inventory.tables import (
    FleetTable,
    GatewayTable,
    HostTable,
    InstanceTable,
    KeyTable,
    ModelTable,
    SharedTable,
    Table,
)

T = TypeVar("T", bound=Table)

_SECTIONS = ("fleet", "defaults", "groups", "hosts", "models", "gateway")


@dataclass(frozen=True, slots=True)
class Declared:
    fleet: FleetTable
    defaults: SharedTable
    groups: Mapping[str, SharedTable]
    hosts: Mapping[str, HostTable]
    models: Mapping[str, ModelTable]
    gateway: GatewayTable


def read_tables(document: Mapping[str, Any], problems: Problems) -> Declared:
    """Every table of the file; of one with problems, what is right in it."""
    for key in document:
        if key not in _SECTIONS:
            problems.unknown_key((key,), _SECTIONS)
    return Declared(
        fleet=_table(FleetTable, document.get("fleet", {}), ("fleet",), problems),
        defaults=_table(SharedTable, document.get("defaults", {}), ("defaults",), problems),
        groups=_named(SharedTable, document, "groups", problems),
        hosts=_named(HostTable, document, "hosts", problems),
        models=_named(ModelTable, document, "models", problems),
        gateway=_table(GatewayTable, document.get("gateway", {}), ("gateway",), problems),
    )


def _named(table: type[T], document: Mapping[str, Any], section: str, problems: Problems) -> dict[str, T]:
    """[section.NAME] for every NAME."""
    entries = document.get(section, {})
    if not isinstance(entries, dict):
        problems.wrong_type((section,), "a table", entries)
        return {}
    found: dict[str, T] = {}
    for name, entry in entries.items():
        if section == "hosts" and name in HostTable.model_fields and not isinstance(entry, dict):
            problems.add((section, name), "stands in [hosts] itself", "a host has a table of its own: [hosts.NAME]")
        else:
            found[name] = _table(table, entry, (section, name), problems)
    return found


def _table(table: type[T], values: Any, path: KeyPath, problems: Problems) -> T:
    if not isinstance(values, dict):
        problems.wrong_type(path, "a table", values)
        return table()
    try:
        return table.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _note(detail, table, path, problems)
    return table.model_validate(_without(values, [detail["loc"] for detail in details]))


def _without(values: dict[str, Any], wrong: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """A copy that lacks, for each place in `wrong`, the innermost key on the way to it."""
    values = copy.deepcopy(values)
    for loc in wrong:
        holder, last = values, str(loc[0])
        inner: Any = values
        for part in loc:
            if isinstance(inner, dict):
                holder, last = inner, str(part)
                inner = inner.get(last)
            elif isinstance(inner, list) and isinstance(part, int):
                inner = inner[part]
        holder.pop(last, None)
    return values


_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "bool_type": "true or false",
}


def _note(detail: ErrorDetails, table: type[Table], path: KeyPath, problems: Problems) -> None:
    at = (*path, *detail["loc"])
    context = detail.get("ctx", {})
    if detail["type"] == "extra_forbidden":
        problems.unknown_key(at, _fields_at(table, detail["loc"]))
    elif detail["type"] in _EXPECTED:
        problems.wrong_type(at, _EXPECTED[detail["type"]], detail["input"])
    else:
        problems.add(at, str(context.get("text", detail["msg"])), str(context.get("hint", "")))


_INNER: Mapping[str | int, type[Table]] = {"instances": InstanceTable, "keys": KeyTable}


def _fields_at(table: type[Table], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of the table that holds the unknown one."""
    holder = _INNER[loc[0]] if len(loc) > 1 else table
    return tuple(holder.model_fields)
