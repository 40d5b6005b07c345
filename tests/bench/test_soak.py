"""What a night may cost, and what it may not."""

import time
from typing import cast

from bench.soak import SEEN_WITHIN, Night, table
from olladist.demo.shell import Shell
from olladist.demo.stage import Stage


def a_night() -> Night:
    return Night(cast("Stage", None), cast("Shell", None))  # neither is asked for anything here


def test_connections_of_a_worker_that_was_killed_are_lost_with_it() -> None:
    """And those of no other time."""
    night = a_night()
    night.done.append((time.monotonic() - 2 * SEEN_WITHIN, "kill a worker"))
    night.lost("chat", "ReadError")
    night.note("kill a worker")
    night.lost("chat", "ReadError")

    assert [problem.startswith("chat: ReadError (kill a worker ") for problem in night.problems] == [True]
    assert night.ends == {"lost with their worker": 1}


def test_a_listing_may_end_with_the_control_process_and_a_request_may_not() -> None:
    """Where its answer had begun."""
    night = a_night()
    night.note("kill the control process")
    for kind, why in (
        ("lists", "closed without sending complete body"),
        ("lists", "503"),
        ("chat", "closed without sending complete body"),
    ):
        night.lost(kind, why)

    assert night.ends == {"lost with the control process": 1}
    assert len(night.problems) == 2


def test_the_table_counts_what_happened() -> None:
    """Whichever host it was."""
    night = a_night()
    night.note("gpu1 loses power")
    night.note("gpu3 loses power")
    night.ends["served"] += 7

    assert "| a host loses power | 2 |" in table(night)
    assert "| served | 7 |" in table(night)
