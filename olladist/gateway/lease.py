"""The wire between edge workers and the control process: length-prefixed msgpack on a unix socket.

A worker asks for a backend before each inference request and says how it went; the control process grants, refuses,
and pushes the table that workers fall back on while it is away. `ask.id` is unique within a worker and names the lease
until its `Done`: every Ask ends in exactly one Done, even when it was refused or the client left.
"""

from typing import TypeAlias

import msgspec

# 4 bytes length, little endian, then one message. A table of 200 hosts x 200 models is about 2 MB.
LENGTH_BYTES = 4
MESSAGE_BYTES_MAX = 64 * 2**20


class Backend(msgspec.Struct, frozen=True, array_like=True):
    """An Ollama instance as workers see it. `address` is "unix:/path" or "host:port"."""

    id: int
    node: str  # "gpu1", or "gpu1:11435" where a host has several instances
    address: str
    slots: int
    up: bool
    models: tuple[str, ...]  # normalised names (ModelName.key)


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    worker: int
    pid: int


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`tried` holds the backends this request has been sent to already, in order; `affinity` 0 means none."""

    id: int
    model: str
    route: str
    tried: tuple[int, ...] = ()
    affinity: int = 0


class Done(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """How the exchange on `backend` (-1: none was granted) ended; times are seconds, -1 where it never came to that."""

    id: int
    backend: int
    outcome: str  # see OUTCOMES
    status: int
    first_byte: float = -1.0
    duration: float = -1.0
    received: int = 0  # bytes of the response body


OUTCOMES = (
    "served",  # the whole response went through, whatever its status
    "connect",  # no connection: refused, unreachable, timeout
    "died",  # the connection ended before the first byte of a response
    "retryable",  # an answer that another backend may better: 404 model, 503 queue full, 500 load failure
    "cut",  # the connection ended in the middle of a response
    "left",  # the client went away
)


class Table(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Everything a worker needs to go on alone."""

    revision: int
    mode: str  # distributed, local, standalone
    backends: tuple[Backend, ...]


class Grant(msgspec.Struct, frozen=True, array_like=True, tag=5):
    id: int
    backend: int


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """`text` is what goes into the client's error, in the words of Ollama."""

    id: int
    status: int
    text: str
    retry_after: int = 0


ToControl: TypeAlias = Hello | Ask | Done
ToWorker: TypeAlias = Table | Grant | Refuse
