"""Directories of the operator's machine, after the XDG base directory specification; made 0700 when asked for."""

import os
import tempfile
from pathlib import Path


def _directory(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "")
    path = (Path(base) if base.startswith("/") else Path.home() / default) / "olladist"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def config_dir() -> Path:
    return _directory("XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    """What must outlive a command: known_hosts, journals."""
    return _directory("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """What can be made again: downloaded releases, digests of local files."""
    return _directory("XDG_CACHE_HOME", ".cache")


def runtime_dir() -> Path:
    """A new private directory for sockets, with a path short enough for them (108 bytes, unix(7)); the caller removes it."""
    return Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=_runtime_base()))  # mkdtemp's have mode 0700


def runtime_dirs() -> list[Path]:
    """What `runtime_dir` has made and nobody has removed, here and by others; whose they are is for the caller to see."""
    return list(_runtime_base().glob(f"{_RUNTIME_PREFIX}*"))


_RUNTIME_PREFIX = "olladist-"


def _runtime_base() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = base.startswith("/") and len(base) < 40 and os.access(base, os.W_OK)
    return Path(base if usable else "/tmp")  # noqa: S108  what is made there is private
