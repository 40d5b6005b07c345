from contextlib import closing
from pathlib import Path

from olladist.gateway.control.state import open_state
from olladist.gateway.control.uploads.unspread import Owed, Unspread

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_what_is_owed_is_remembered(tmp_path: Path) -> None:
    """Over a restart; of one name on one host the last content counts, and settling an older one does not take it away."""
    with closing(open_state(tmp_path / "state")) as state:
        unspread = Unspread(state)
        unspread.owe(Owed("gpu1", "a", OLD))
        unspread.owe(Owed("gpu1", "a", NEW))
        unspread.owe(Owed("gpu2", "a", NEW))
        unspread.owe(Owed("gpu2", "b", NEW))
        unspread.settle(Owed("gpu1", "a", OLD))
    with closing(open_state(tmp_path / "state")) as state:
        unspread = Unspread(state)
        found = set(unspread.all())
        unspread.settle(Owed("gpu1", "a", NEW))
        unspread.cancel("b")

        assert found == {Owed("gpu1", "a", NEW), Owed("gpu2", "a", NEW), Owed("gpu2", "b", NEW)}
        assert unspread.all() == (Owed("gpu2", "a", NEW),)
