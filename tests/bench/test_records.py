"""What a run measured, read again."""

from pathlib import Path

import pytest

from bench.calibration import Measured, Pair, Sample
from bench.real_fleet import Account, Answer
from bench.records import Record, Run
from olladist.sim.virtual.scenario import Job

SAMPLE = Sample("gpu0", "m1", True, 30, 8, 2.5, 0.3)
MEASURED = Measured([SAMPLE], [Pair("gpu0", ("m1", "m2"), 4.5)], {"m1": 40}, {"m1": "sha256:m1"})
RUN = Run(1, "adaptive", 7, [Job(0, 0.5, "m1", 30, 8)], [Answer(0, "gpu0", 2.5, 2.8, Account(2.0, 0.4, 0.3, 2.8))])


def test_a_record_says_what_was_written(tmp_path: Path) -> None:
    """Rounds as one, and every run."""
    record = Record(tmp_path / "record")
    record.write(MEASURED)
    record.write(RUN)
    record.write(MEASURED)

    measured, runs = record.read()
    assert measured.samples == [SAMPLE, SAMPLE]
    assert runs == [RUN]


def test_a_record_without_hosts_is_said_to_be_none(tmp_path: Path) -> None:
    """Its name is in the message."""
    record = Record(tmp_path / "record")
    record.write(RUN)

    with pytest.raises(ValueError, match="record does not say"):
        record.read()
