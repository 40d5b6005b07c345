"""The options that several commands share, each written once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


@dataclass(frozen=True, slots=True)
class Globals:
    """What stands before the command."""

    inventory: Path | None = None
    limit: str | None = None
    json: bool = False
    verbose: bool = False


Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
AcceptNew: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--accept-new", help="Accept and remember host keys nobody has seen yet. A changed key is always refused."
    ),
]
NoModels: TypeAlias = Annotated[bool, typer.Option("--no-models", help="Leave the models alone.")]
