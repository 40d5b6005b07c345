"""Tables without lines: columns that align, readable by people and by awk."""

from rich.table import Table

# Stands in a cell that has nothing to say, so that columns can be counted.
NONE = "-"


def plain_table(*headings: str) -> Table:
    """The last column takes what is left of a terminal's width; the others are never broken."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    return table
