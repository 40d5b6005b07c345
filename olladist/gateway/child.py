"""What each child of the supervisor does first: take its settings from stdin, and see to it that it ends with its parent.

The supervisor keeps the other end of stdin open for as long as it lives and writes nothing more to it: the end of
stdin means that the parent is gone, however it went.
"""

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable

import structlog

from olladist.gateway.settings import Settings, decode

_PR_SET_PDEATHSIG = 1  # prctl(2)


def receive_settings() -> Settings:
    """Reads the one line of settings; on Linux also asks the kernel for SIGKILL when the parent dies.

    The signal covers what the watch on stdin cannot: a child whose loop is stuck.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return decode(sys.stdin.buffer.readline())


def raise_descriptor_limit() -> None:
    """As many connections as the machine allows: a stream takes two, and the soft limit of a login shell is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS has no limit there that it would accept again.
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 10_240)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def when_parent_ends(loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
    """Calls `then` once when stdin has ended; call it after `receive_settings`."""
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            then()

    loop.add_reader(descriptor, readable)


def collect_seldom() -> None:
    """Call it once what lives long is there: tables, pools and listings stay, and exchanges are freed by their counts of references.

    So young objects need no looking after 700 allocations, nor old ones each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def start_log(process: str, *, verbose: bool) -> None:
    """Events go to stderr: lines for people on a terminal, JSON otherwise. No event holds a body, a key or a prompt."""
    people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not people),
            structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
