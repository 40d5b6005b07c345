"""Which inventory file a command works on."""

from collections.abc import Mapping
from pathlib import Path

from olladist.errors import UsageError

VARIABLE = "OLLADIST_INVENTORY"
FILE_NAME = "inventory.toml"


def find_inventory(given: Path | None, environ: Mapping[str, str]) -> Path:
    """-i, $OLLADIST_INVENTORY, ./inventory.toml, then the one in the user's configuration.

    A file that is named must be there: UsageError, not the next place.
    """
    if given is not None:
        return _named(given, "-i")
    if named := environ.get(VARIABLE, ""):
        return _named(Path(named).expanduser() if named.startswith("~/") else Path(named), f"${VARIABLE}")
    places = (Path(FILE_NAME), user_file(environ))
    for place in places:
        if place.is_file():
            return place
    looked = "\n".join(f"  {place}" for place in (f"${VARIABLE} (not set)", Path.cwd() / FILE_NAME, places[1]))
    raise UsageError(
        f"there is no inventory; looked at\n{looked}",
        hint="`olladist init user@host …` writes one, -i FILE names another",
    )


def user_file(environ: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification puts it; a relative XDG_CONFIG_HOME is ignored, as it says."""
    base = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".config"
    return folder / "olladist" / FILE_NAME


def _named(path: Path, by: str) -> Path:
    if path.is_file():
        return path
    cause = "is a directory" if path.is_dir() else "is not there"
    raise UsageError(f"{path}, named by {by}, {cause}", hint="`olladist init user@host …` writes an inventory")
