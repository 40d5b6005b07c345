"""Models that Ollama treats apart."""

import pytest

from olladist.ollama.architectures import has_one_slot


@pytest.mark.parametrize(
    ("family", "one"), [("llama", False), ("bert", True), ("qwen3next", True), ("", False), (7, False), ([], False)]
)
def test_some_families_get_one_slot(family: object, one: bool) -> None:
    """Whatever OLLAMA_NUM_PARALLEL says."""
    assert has_one_slot({"details": {"family": family}}) == one


@pytest.mark.parametrize("fields", [{}, {"details": None}, {"details": "bert"}, {"details": {}}])
def test_a_row_without_a_family_says_nothing(fields: dict[str, object]) -> None:
    """A listing may hold anything."""
    assert not has_one_slot(fields)
