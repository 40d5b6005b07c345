"""`olladist simulate`."""

import json
from pathlib import Path

import pytest

from olladist.cli.app import app
from olladist.sim.virtual.compare import strategies

TRACE = b"""\
{"at": 0, "model": "a", "prompt": 10, "output": 10}
{"at": 1, "model": "b", "prompt": 10, "output": 10}
"""


def simulated(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = app(["simulate", *words], standalone_mode=False)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_every_strategy_has_a_row_and_the_bound_is_last(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is data, on stdout."""
    status, out, _ = simulated(capsys, "--requests", "100")
    rows = [line.split()[0] for line in out.splitlines()]

    assert status == 0
    assert rows == ["STRATEGY", *strategies(), "(bound)"]


def test_the_document_has_what_the_table_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """With the time that a decision takes, where there is one to take."""
    status, out, _ = simulated(capsys, "--requests", "100", "--strategy", "adaptive", "--strategy", "random", "--json")
    document = json.loads(out)

    assert status == 0
    assert [row["name"] for row in document["strategies"]] == ["adaptive", "random"]
    assert document["strategies"][0]["decision_us"] > 0
    assert document["requests"] == 100


def test_a_trace_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its requests on the fleet of the options."""
    (tmp_path / "trace.jsonl").write_bytes(TRACE)
    status, out, _ = simulated(capsys, "--trace", str(tmp_path / "trace.jsonl"), "--hosts", "2", "--json")
    document = json.loads(out)

    assert status == 0
    assert (document["requests"], document["hosts"], document["models"]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no requests"),
        (b"{", "line 1: "),
        (TRACE + b'{"at": 2}', "line 3: "),
    ],
)
def test_a_bad_trace_is_an_error_with_a_hint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: bytes | None, message: str
) -> None:
    """It says which line, and what one looks like."""
    path = tmp_path / "trace.jsonl"
    if text is not None:
        path.write_bytes(text)
    status, out, error = simulated(capsys, "--trace", str(path))

    assert (status, out) == (2, "")
    assert message in error


def test_an_unknown_strategy_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2: the command line is wrong."""
    status, _, error = simulated(capsys, "--strategy", "best")

    assert status == 2
    assert "adaptive, round-robin" in error


def test_the_suite_says_where_a_rule_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each fleet; it fails exactly where one of them is worse than a rule, and names it."""
    words = ("--suite", "--requests", "5", "--samples", "1")
    status, out, error = simulated(capsys, *words, "--json")
    document = json.loads(out)
    worse = [shape["name"] for shape in document["shapes"] if shape["worse_in"]]

    assert len(document["shapes"]) >= 60
    assert status == (1 if worse else 0)
    last = error.splitlines()[-1]
    assert all(name in last for name in worse or ["none"])

    assert simulated(capsys, *words)[1].splitlines()[0].startswith("SHAPE")
