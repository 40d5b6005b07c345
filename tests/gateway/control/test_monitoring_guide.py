"""Every query in the documentation asks for metrics and labels that there are."""

import re
from pathlib import Path

import pytest

from olladist.gateway.control.families import FAMILIES, Kind
from olladist.gateway.lease import COUNTED, OUTCOMES
from olladist.scheduling.health import State

DOCS = Path(__file__).parents[3] / "docs"
PAGES = (DOCS / "guides" / "monitoring.md", DOCS / "reference" / "metrics.md")
QUERIES = [
    query.strip()
    for page in PAGES
    for query in re.findall(r"^```promql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]
# What every scrape has, and what the process collector gives.
COMMON = {"job", "instance", "le"}
FOREIGN = {"up", "process_cpu_seconds_total"}


def labels() -> dict[str, set[str]]:
    """Every name that a query may use, with its labels."""
    known = {name: set[str]() for name in FOREIGN}
    for family in FAMILIES:
        names = [family.name]
        if family.kind is Kind.HISTOGRAM:
            names = [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
        known |= {name: set(family.labels) for name in names}
    return known


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_there_is(query: str) -> None:
    """Names, labels in braces and in `by`, and the words that outcomes, states and events have."""
    known = labels()
    selectors = re.findall(r"\b(olladist_[a-z_]+|process_[a-z_]+|up)\b(?:\{([^}]*)\})?", query)
    assert selectors
    of_query: set[str] = set()
    for name, braces in selectors:
        assert name in known
        of_query |= known[name]
        for label, _, words in re.findall(r"([a-z_]+)(=~|=)\"([^\"]*)\"", braces):
            assert label in known[name] | COMMON
            if label in WORDS:
                assert set(words.split("|")) <= WORDS[label]
    for by in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(by.split(", ")) <= of_query | COMMON


WORDS = {
    "outcome": set(OUTCOMES),
    "state": {state.value for state in State},
    "event": set(COUNTED),
    "kind": {"prompt", "output", "local", "cache", "nodes"},
    "role": {"node", "local"},
}


def test_there_are_queries() -> None:
    """The pages are read as they are meant."""
    assert len(QUERIES) > 15
