import pytest

from olladist.ollama.origins import check_origin


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("http://a.example", ""),
        ("*", ""),
        ("weird://*", ""),
        ("http://*x*", "more than one *"),
        ("foo.example", "no * and does not begin with one of http://"),
        ("weird://x", "no * and"),
        ("null", "no * and"),
        (" http://a.b", "a blank"),
        ("http://é", "not ASCII"),
    ],
)
def test_an_origin_that_ollama_would_not_start_with_is_found(pattern: str, said: str) -> None:
    """With words for what is wrong."""
    problem = check_origin(pattern)

    assert said in problem
    assert bool(said) == bool(problem)
