import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.answers import Row
from olladist.gateway.control.models.pending import Deed, Pending, sift
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.state import open_state
from olladist.gateway.control.upstreams import Upstreams
from tests.gateway.control.nodes import task_group


def row(key: str, digest: str) -> Row:
    return Row(key, digest, 0.0, {"name": key})


names = st.sampled_from(["a", "b", "c"])
digests = st.sampled_from(["1", "2"])
listings = st.dictionaries(names, digests).map(lambda tags: tuple(row(name, digest) for name, digest in tags.items()))
deeds = st.dictionaries(names, st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "1", "2"]))).map(
    lambda found: tuple(
        Deed("gpu1", name, "" if source == name else source, digest) for name, (source, digest) in found.items()
    )
)


@given(listings, deeds)
def test_what_is_due_is_not_shown(rows: tuple[Row, ...], deeds: tuple[Deed, ...]) -> None:
    """Every deed is due or settled; rows of what is due are hidden, all others shown as they are."""
    sifted = sift(rows, deeds)

    assert {*sifted.due, *sifted.settled} == set(deeds)
    assert not {*sifted.due} & {*sifted.settled}
    assert sifted.rows == tuple(row for row in rows if row.key not in {deed.model for deed in sifted.due})


@given(listings, deeds)
def test_what_somebody_has_put_there_since_stays(rows: tuple[Row, ...], deeds: tuple[Deed, ...]) -> None:
    """Only what was there when it was to go is deleted or overwritten."""
    has = {row.key: row.digest for row in rows}

    for deed in sift(rows, deeds).due:
        assert has.get(deed.model, deed.digest) == deed.digest
        assert deed.source in has if deed.source else deed.model in has


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


async def test_deeds_outlive_the_process(path: Path) -> None:
    """They are kept in the state file until they are done or cancelled; a newer one takes the place of an older."""
    gone, copied = Deed("gpu1", "a", digest="1"), Deed("gpu2", "a", "b", "1")
    roster = Roster(time.monotonic)
    async with task_group() as tasks:
        upstreams = Upstreams(roster)
        prober = Prober(roster, tasks)
        with closing(open_state(path)) as state:
            pending = Pending(state, upstreams, prober)
            pending.add(Deed("gpu1", "a", "c"))
            pending.add(gone)
            pending.add(copied)
            pending.add(Deed("gpu1", "b", digest="1"))
        with closing(open_state(path)) as state:
            pending = Pending(state, upstreams, prober)
            assert (pending.of("gpu1"), pending.of("gpu2")) == ((gone, Deed("gpu1", "b", digest="1")), (copied,))
            pending.cancel("b")
            pending.cancel("a", ["gpu2"])
        with closing(open_state(path)) as state:
            pending = Pending(state, upstreams, prober)
            assert (pending.of("gpu1"), pending.of("gpu2")) == ((gone,), ())
