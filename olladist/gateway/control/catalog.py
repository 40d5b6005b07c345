"""One list of models out of those of all backends: what /api/tags, /api/ps and /v1/models of a fleet say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olladist.gateway.control.answers import Row
from olladist.ollama.names import parse_name


@dataclass(frozen=True, slots=True)
class Drift:
    """One name, several contents: `digests` says which nodes hold which."""

    name: str
    digests: Mapping[str, tuple[str, ...]]


def merge_tags(listings: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of /api/tags of a fleet, newest first; `listings` is by node.

    A model that several nodes hold is one row. Where they hold different contents under one name, the content of most nodes
    counts, of the newest where that is no majority.
    """
    merged = [_agreed(rows) for rows in _by_key(listings).values()]
    # Ollama sorts by whole seconds (server/routes.go ListHandler); the name makes the order the same on every call.
    merged.sort(key=lambda row: (-int(row.time), row.key))
    return merged


def merge_loaded(listings: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of /api/ps of a fleet: one for each content that is in memory anywhere, the one that stays longest first.

    Sizes are the memory of the whole fleet, so their quotient is still the part on GPUs; the context is the smallest, which
    is what a request can count on.
    """
    merged = [_together(same) for rows in _by_key(listings).values() for same in _by_digest(rows).values()]
    merged.sort(key=lambda row: (-int(row.time), row.key, row.digest))
    return merged


def find_drift(listings: Mapping[str, Sequence[Row]]) -> list[Drift]:
    """The names that mean different contents on different nodes, in alphabetical order."""
    nodes: dict[str, dict[str, list[str]]] = {}
    for node in sorted(listings):
        for row in listings[node]:
            nodes.setdefault(row.key, {}).setdefault(row.digest, []).append(node)
    return [
        Drift(str(parse_name(key)), {digest: tuple(held) for digest, held in by_digest.items()})
        for key, by_digest in sorted(nodes.items())
        if len(by_digest) > 1
    ]


def openai_model(row: Row, name: str = "") -> dict[str, Any]:
    """A row as /v1/models has it (openai/openai.go ToModel); `name` is the spelling of the request, where there is one."""
    shown = name or str(row.fields["name"])
    return {"id": shown, "object": "model", "created": int(row.time), "owned_by": parse_name(shown).namespace}


def _by_key(listings: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for node in sorted(listings):  # so that ties fall the same way whoever answered first
        for row in listings[node]:
            found.setdefault(row.key, []).append(row)
    return found


def _by_digest(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.digest, []).append(row)
    return found


def _agreed(rows: Sequence[Row]) -> Row:
    votes = Counter(row.digest for row in rows)
    newest = {digest: max(same, key=_newness) for digest, same in _by_digest(rows).items()}
    return max(newest.values(), key=lambda row: (votes[row.digest], *_newness(row)))


def _newness(row: Row) -> tuple[float, str, str]:
    return row.time, row.digest, str(row.fields["name"])


def _together(rows: Sequence[Row]) -> Row:
    longest = max(rows, key=_newness)
    fields = dict(longest.fields)
    for field, combine in (("size", sum), ("size_vram", sum), ("context_length", min)):
        values = [row.fields[field] for row in rows if field in row.fields]
        if values:
            fields[field] = combine(values)
    return Row(longest.key, longest.digest, longest.time, fields)
