"""What is asked and answered about moving models between hosts; schemas: docs/reference, described in gateway-api.md.

A field is never taken away and never changes its meaning within a version.
"""

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class Migrate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """Moves one model from a host to another. `keep` leaves it on the first as well; `dry_run` only says what would be done."""

    model: Name
    source: Name
    to: Name
    dry_run: bool = False
    keep: bool = False


class Rebalance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Brings models where they shall be. `prune` also deletes copies beyond that; without `dry_run: false` nothing is done."""

    dry_run: bool = True
    prune: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """One deed. `copy`: the host has nothing of that name; `replace`: it has something else; `repair`: blobs are missing there.

    `pull`: its own Ollama fetches the model; `create`: it makes the model of files of the gateway's machine. `digest` is null where only
    the host will know it; `bytes` are those that cross the network, or are freed; `from` is a host, a registry or a file; `to` is null
    for `delete`.
    """

    action: Literal["copy", "replace", "repair", "pull", "create", "delete"]
    model: str
    digest: str | None
    bytes: Count
    source: str | None
    to: str | None
    why: str


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be done, in this order. `problems` are models and hosts that had to be left out."""

    schema: Literal["olladist.gateway.plan"] = "olladist.gateway.plan"
    version: Literal[1] = 1
    steps: tuple[Step, ...]
    bytes: Count
    problems: tuple[str, ...]


class Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line while something is done, as /api/pull has them. The last one is the only `success`, or the only one with `error`.

    Lines with a `digest` are a bar: `total` never changes, `completed` (0 where it is left out) never falls.
    """

    status: str | None = None
    error: str | None = None
    digest: str | None = None
    total: Count | None = None
    completed: Count | None = None
