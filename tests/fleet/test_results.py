"""What a command ends with."""

from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import AuthRefused, HostError, Unreachable
from olladist.fleet.results import exit_status, failures, values

error = st.sampled_from(
    [Unreachable("h", "connecting", "gone"), AuthRefused("h", "logging in", "no"), HostError("h", "x", "y")]
)
results = st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), error))


def test_all_done_is_0() -> None:
    """Also where there was nothing to do, and where a value is None."""
    assert exit_status({}) == 0
    assert exit_status({"a": None, "b": 1}) == 0


def test_one_that_failed_is_1_and_none_reached_is_3() -> None:
    """3 says that not a single host could be reached, whatever else went wrong is 1."""
    gone = Unreachable("h", "connecting", "gone")

    assert exit_status({"a": 1, "b": gone}) == 1
    assert exit_status({"a": gone, "b": AuthRefused("h", "logging in", "no")}) == 1
    assert exit_status({"a": gone, "b": gone}) == 3


@given(results)
def test_every_host_is_either_done_or_failed(found: dict[str, int | HostError | None]) -> None:
    """values and failures share the hosts out between them, in their order."""
    assert [*values(found), *failures(found)].sort() == [*found].sort()
    assert bool(failures(found)) == bool(exit_status(found))
