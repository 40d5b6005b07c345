"""What a server of ours is found to be doing, in whichever service mode."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """`revision` is what runs: "" where nothing of ours does, None where it cannot be read; `since` in epoch seconds."""

    active: bool = False
    enabled: bool = False
    pid: int | None = None
    revision: str | None = ""
    since: int | None = None
    restarts: int = 0
    says: str = "not installed"  # for people: "active", "failed", "stopped" …
