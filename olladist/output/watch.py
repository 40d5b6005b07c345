"""A block that is shown again and again: in its place on a terminal, one after the other elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.live import Live

from olladist.output.screen import Screen


@contextmanager
def redrawn(screen: Screen) -> Iterator[Callable[[RenderableType], None]]:
    """Yields what shows the next version of the block."""
    if not screen.out.is_terminal:
        yield screen.show
        return
    with Live(console=screen.out, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda block: live.update(block, refresh=True)
