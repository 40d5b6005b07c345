"""What a run of `placement` measured, one JSON document a line, so that it can be judged again."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.calibration import Measured, merged
from bench.real_fleet import Answer
from olladist.sim.virtual.scenario import Job


class Run(NamedTuple):
    """One trace under one strategy, on real hosts."""

    seed: int
    strategy: str
    loads: int
    jobs: Sequence[Job]
    answers: Sequence[Answer]


class _Line(msgspec.Struct, omit_defaults=True):
    """One of the two."""

    measured: Measured | None = None
    run: Run | None = None


class Record:
    """A file: the hosts as they were measured, more than once, and a line for each run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, document: Measured | Run) -> None:
        line = _Line(measured=document) if isinstance(document, Measured) else _Line(run=document)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def read(self) -> tuple[Measured, list[Run]]:
        """Raises ValueError for a file that has no hosts."""
        lines = [msgspec.json.decode(line, type=_Line) for line in self._path.read_bytes().splitlines()]
        measured = [line.measured for line in lines if line.measured is not None]
        if not measured:
            raise ValueError(f"{self._path} does not say what was measured of the hosts")
        return merged(measured), [line.run for line in lines if line.run is not None]
