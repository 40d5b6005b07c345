"""Models across the fleet as a table: hosts that hold the same version stand in one line."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from olladist.modelstore.list import Drift, ModelRow
from olladist.output.nodes import fold
from olladist.output.table import NONE, plain_table
from olladist.units import size

# As many digits as `ollama list` shows.
DIGEST_DIGITS = 12


def models_block(rows: Sequence[ModelRow]) -> RenderableType:
    if not rows:
        return Text("no models")
    same: dict[tuple[str, str | None, int, tuple[Drift, ...]], list[str]] = {}
    for row in rows:
        same.setdefault((str(row.model), row.digest, row.size, row.drift), []).append(row.host)
    table: Table = plain_table("MODEL", "DIGEST", "SIZE", "HOSTS", "DRIFT")
    for (model, digest, bytes_, drift), hosts in same.items():
        shown = digest.removeprefix("sha256:")[:DIGEST_DIGITS] if digest else NONE
        words = ", ".join(kind.value for kind in drift)
        table.add_row(
            model, shown, size(bytes_) if digest else NONE, fold(hosts), Text(words or NONE, "yellow" if words else "")
        )
    return table
