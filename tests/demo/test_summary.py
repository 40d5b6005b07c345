"""The last thing the demo prints."""

from olladist.demo.summary import Check, all_held, table

GOOD = Check("`up` works", held=True, figures="1.0 s")
BAD = Check("nothing is lost", held=False, figures="3 failed")


def test_everything_held_only_if_something_was_shown_and_all_of_it_held() -> None:
    """An empty list is no success."""
    assert all_held([GOOD])
    assert not all_held([GOOD, BAD])
    assert not all_held([])


def test_the_table_says_what_held() -> None:
    """A line for each claim, then the verdict, readable without colour."""
    assert table([GOOD, BAD], seconds=31.4, played_with="the simulated Ollama") == (
        "What was shown:\n"
        "  ok      `up` works       1.0 s\n"
        "  FAILED  nothing is lost  3 failed\n"
        "\n"
        "1 of 2 did NOT hold, in 31 s, with the simulated Ollama."
    )
    assert "Everything held, in 1 s" in table([GOOD], seconds=1, played_with="x")
