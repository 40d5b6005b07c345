"""One file per command: it parses options, calls one function of a room below, and renders what comes back."""

from olladist.cli.app import main

__all__ = ["main"]
