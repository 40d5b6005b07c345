import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.retry import may_be_better_elsewhere, next_try, was_stale


@pytest.mark.parametrize(
    ("status", "body", "better"),
    [
        (404, b'{"error":"model \'tiny\' not found"}', True),
        (404, b'{"error":"model \\"tiny\\" not found, try pulling it first"}', True),
        (404, b'{"error":{"message":"model \'tiny\' not found","type":"api_error","param":null,"code":null}}', True),
        (404, b"404 page not found", False),
        (503, b'{"error":"server busy, please try again.  maximum pending requests exceeded"}', True),
        (500, b'{"error":"model requires more system memory (9.1 GiB) than is available (4.0 GiB)"}', True),
        (500, b'{"error":"llama runner process has terminated: CUDA error: out of memory"}', True),
        (500, b'{"error":"timed out waiting for llama runner to start - progress 0.40 - "}', True),
        (500, b'{"error":"option \\"num_ctx\\" must be of type integer"}', False),
        (500, b'{"error":"unqualified name: registry.ollama.ai/library/"}', False),
        (500, b"", False),
        (400, b'{"error":"model not found, out of memory"}', False),
        (200, b"", False),
        (403, b"", False),
        (502, b'{"error":"model \'x\' not found"}', False),
    ],
)
def test_only_what_speaks_of_the_backend_is_tried_elsewhere(status: int, body: bytes, *, better: bool) -> None:
    """Answers of Ollama 0.17.4, one for each rule."""
    assert may_be_better_elsewhere(status, body) is better


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_but_three_kinds_is_ever_tried_elsewhere(status: int, body: bytes) -> None:
    """400 in particular never is, whatever its text says."""
    assert status in {404, 500, 503} or not may_be_better_elsewhere(status, body)


outcomes = st.lists(st.sampled_from(["connect", "died", "retryable"]), min_size=1, max_size=10)


@given(outcomes, st.booleans())
def test_no_request_kills_three_backends_or_meets_five(ends: list[str], kept: bool) -> None:
    """It has three of the first choice and one that stands in at most, of which at most two died; then only what was kept is left."""
    walked: list[str] = []
    asked = [""]
    for end in ends:
        walked.append(end)
        only = next_try(walked, kept=kept)
        if only is None or only == "cache":
            break
        asked.append(only)

    assert asked.count("") <= 3
    assert asked.count("fallback") <= 1
    assert "" not in asked[asked.index("fallback") :] if "fallback" in asked else True
    assert walked.count("died") <= 2


@given(outcomes, st.booleans())
def test_a_no_stays_a_no(ends: list[str], kept: bool) -> None:
    """More failures never make another try more welcome; a kept answer is asked for only where there may be one."""
    steps = ["", "fallback", "cache" if kept else None]

    assert steps.index(next_try(ends, kept=kept)) <= steps.index(next_try([*ends, "connect"], kept=kept))


@given(reused=st.booleans(), seconds=st.floats(0, 1000))
def test_a_new_connection_is_never_stale(*, seconds: float, reused: bool) -> None:
    """Only what was idle before can have been closed while it was idle, and only an early end can come from that."""
    assert was_stale(reused=reused, seconds=seconds) <= (reused and seconds < 1)
