from pathlib import Path

import pytest

from olladist.errors import UsageError
from olladist.inventory.find import find_inventory, user_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_places_are_searched_in_order(folder: Path) -> None:
    """-i, the variable, the working directory, the user's configuration."""
    home = {"HOME": str(folder / "home")}
    last = made(folder / "home/.config/olladist/inventory.toml")
    assert find_inventory(None, home) == last

    made(folder / "inventory.toml")
    assert find_inventory(None, home) == Path("inventory.toml")

    named = made(folder / "named.toml")
    assert find_inventory(None, {**home, "OLLADIST_INVENTORY": str(named)}) == named

    given = made(folder / "given.toml")
    assert find_inventory(given, {**home, "OLLADIST_INVENTORY": str(named)}) == given


def test_nothing_found_names_the_places_and_the_way_out(folder: Path) -> None:
    """All that was looked at, and `olladist init`."""
    with pytest.raises(UsageError) as caught:
        find_inventory(None, {"XDG_CONFIG_HOME": "/etc/nothing-here"})

    assert caught.value.message == (
        "there is no inventory; looked at\n"
        "  $OLLADIST_INVENTORY (not set)\n"
        f"  {folder}/inventory.toml\n"
        "  /etc/nothing-here/olladist/inventory.toml"
    )
    assert "olladist init user@host" in caught.value.hint


@pytest.mark.parametrize(("name", "cause"), [("absent.toml", "is not there"), ("folder.toml", "is a directory")])
def test_a_named_file_must_be_there(folder: Path, name: str, cause: str) -> None:
    """The search does not go on behind the operator's back."""
    made(folder / "inventory.toml")
    (folder / "folder.toml").mkdir()

    with pytest.raises(UsageError, match=f"{name}, named by -i, {cause}"):
        find_inventory(Path(name), {})
    with pytest.raises(UsageError, match=rf"{name}, named by \$OLLADIST_INVENTORY, {cause}"):
        find_inventory(None, {"OLLADIST_INVENTORY": name})


def test_the_users_file_follows_xdg() -> None:
    """A relative XDG_CONFIG_HOME is ignored, as the specification says."""
    assert user_file({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == Path("/c/olladist/inventory.toml")
    assert user_file({"XDG_CONFIG_HOME": "c", "HOME": "/h"}) == Path("/h/.config/olladist/inventory.toml")
