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
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = base.startswith("/") and len(base) < 40 and os.access(base, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="olladist-", dir=base if usable else "/tmp"))  # noqa: S108  mkdtemp is 0700
