"""The wire between edge workers and the control process: length-prefixed msgpack on a unix socket.

A worker asks for a backend before each inference request and says how it went; the control process grants, refuses,
and pushes the table that workers fall back on while it is away. `ask.id` is unique within a worker and names the lease
until its `Done`: every Ask ends in exactly one Done, even when it was refused or the client left. A lease that was granted
`again` may serve further requests, told of by Used, and ends in a Done like any other: soon after the last of them, or when a Recall has
come, which is answered by a Recalled once those that were idle are back. A request that is
tried again is a new Ask with a new id. A Done may cross the Grant for the same id on the wire, when the client leaves.
"""

from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec

# 4 bytes length, little endian, then one message. A table of 200 hosts x 200 models is about 2 MB.
LENGTH_BYTES = 4
MESSAGE_BYTES_MAX = 64 * 2**20


class Backend(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An Ollama instance as workers see it. `address` is "unix:/path" or "host:port".

    `role` is "node" for one of the fleet, "local" for the Ollama beside the gateway, "cache" for the control process with its
    kept answers, "drained" for one that gets no new work. A worker that places alone follows the order of the Table's mode, and
    gives nothing to the last two.
    """

    id: int
    node: str  # "gpu1", or "gpu1:11435" where a host has several instances
    address: str
    slots: int
    up: bool
    models: tuple[str, ...]  # normalised names (ModelName.key)
    role: str = "node"


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that runs already: its Ask went to a control process that is gone, or was never sent."""

    id: int
    node: str
    model: str


class Hello(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """The first message of a connection. Each lease in `held` ends in a Done like any other.

    So a control process that was restarted counts from the start what its predecessor granted and what workers placed alone.
    """

    worker: int
    pid: int
    held: tuple[Held, ...] = ()


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """`tried` holds the backends this request has been sent to already, in order; `affinity` 0 means none."""

    id: int
    model: str
    route: str
    tried: tuple[int, ...] = ()
    affinity: int = 0
    key: str = ""  # name of the API key, "" where the gateway has none
    cache: str = ""  # digest under which an answer may have been kept; "" for a request whose answer must be fresh
    keep: bool = False  # the worker would keep the answer: told so that the control process can say in Grant whether to
    deadline: float = 0.0  # seconds the client waits (X-Ollama-Timeout); 0: for ever
    options: str = ""  # those that make Ollama load the model anew where others are in use, "" for none
    only: str = ""  # "": whoever can; "fallback": what stands in, for enough have failed; "cache": a kept answer, for two have died
    load: bool = False  # there is nothing to answer: the model is just to be in memory
    begins: bool = False  # the first turn of its conversation: no node has any of it in a cache yet


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the final chunk of an answer says; -1 for what it does not. Seconds.

    Ollama's own: prompt_eval_count, eval_count, load_duration, prompt_eval_duration, eval_duration (api/types.go Metrics). OpenAI's and
    Anthropic's carry the two counts only. `estimated`: the counts were derived from the bytes, for want of anything better.
    """

    prompt_tokens: int = -1
    output_tokens: int = -1
    load: float = -1.0
    prompt: float = -1.0
    output: float = -1.0
    estimated: bool = False


NO_USAGE = Usage()


class Done(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """How the exchange on `backend` (-1: none was granted) ended; times are seconds, -1 where it never came to that."""

    id: int
    backend: int
    outcome: str  # see OUTCOMES
    status: int
    first_byte: float = -1.0
    duration: float = -1.0
    received: int = 0  # bytes of the response body
    usage: Usage = NO_USAGE


# A lease that served requests, told of by Used, and came back idle. No request ends so.
RETURNED = "returned"

OUTCOMES = (
    "served",  # the whole response went through, whatever its status
    "connect",  # no connection: refused, unreachable, timeout
    "died",  # the connection ended before the first byte of a response
    "retryable",  # an answer that another backend may better: 404 model, 503 queue full, 500 load failure
    "cut",  # the connection ended in the middle of a response
    "left",  # the client went away
)


class Use(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that was served with status 200; all is as in Done. `near` as the affinity of an Ask."""

    first_byte: float
    duration: float
    received: int
    usage: Usage = NO_USAGE
    near: int = 0


class Used(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=11):
    """What was served under a lease (Grant.again) since it was granted, or told of last; never nothing.

    The worker goes on to hold it; what it was used for is told before its Done.
    """

    id: int
    uses: Annotated[tuple[Use, ...], msgspec.Meta(min_length=1)]


class Table(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """Everything a worker needs to go on alone.

    A backend whose `up` turns false loses the requests that have not begun to answer: workers ask for another one. So a control
    process that has just started sends no table before it has heard from every backend once, or given it up.
    """

    revision: int
    mode: str  # distributed, local, standalone
    backends: tuple[Backend, ...]
    late: bool = False  # no more requests for a model at once than slots: who is alone lets the rest wait


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """`fallback` is "local" or "cache" where no node of the fleet could take it, with the `reason`: both become header fields.

    For "cache" the worker sends GET /cached/DIGEST, with the digest of its Ask, to the backend's address.
    """

    id: int
    backend: int
    fallback: str = ""
    reason: str = ""
    keep: bool = False  # send a Keep when the answer is whole
    final: bool = False  # nobody has the model: this node says so in its own words, and no other is asked
    first: bool = False  # the node has to load the model: send a First when the answer begins
    position: int = 0  # it has waited, and that was its place in the queue of its model when it came; a header field
    again: bool = False  # until a Recall the worker may serve requests like this one with it, one after the other


class Key(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An API key as workers know it: only its SHA-256 (hex), never the key."""

    name: str
    digest: str
    models: tuple[str, ...] = ()  # patterns of names, as fnmatch takes them; empty: every model
    manage: bool = False  # may pull, push, create, copy and delete


class Access(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """Who may come in; sent before the first Table, and whenever it changes. Without keys everybody may."""

    keys: tuple[Key, ...] = ()


class Keep(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8):
    """A whole answer of status 200 that may be given again: `body` without any transfer coding."""

    cache: str
    key: str
    model: str
    content_type: str
    body: bytes


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=9):
    """What a worker has counted since the last Tally, sent about once a second where there is anything; see COUNTED."""

    counts: dict[str, int]


class First(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=10):
    """The answer to a granted request has begun, so its model is in memory now."""

    id: int


class Recall(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=12):
    """Somebody waits: no lease may be held any longer than its request runs. It is good for all that were granted before it.

    With `leases` it is for these alone, for there are better places, and needs no answer.
    """

    leases: tuple[int, ...] = ()


class Recalled(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=13):
    """The answer to a Recall of all: what was idle has been given back before this."""


COUNTED = (
    "connections",  # accepted
    "bad_request",  # 400, 408, 413, 431, 501: the request itself
    "unauthorized",  # 401: no key, or one that is not known
    "forbidden",  # 403: a key without the right, a foreign Host or Origin
    "too_many",  # 429, 503: over a bound of the worker's own
    "cut_slow",  # a client that does not read
)


class Refuse(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """`text` is what goes into the client's error, in the words of Ollama."""

    id: int
    status: int
    text: str
    retry_after: int = 0


ToControl: TypeAlias = Hello | Ask | Done | Used | Keep | Tally | First | Recalled
ToWorker: TypeAlias = Table | Grant | Refuse | Access | Recall


_encoder = msgspec.msgpack.Encoder()


def pack(message: ToControl | ToWorker) -> bytes:
    """One message as it goes over the socket."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


Message = TypeVar("Message")


class Unpacker(Generic[Message]):
    """Bytes in, messages out; `Unpacker[ToControl](ToControl)` reads what workers send."""

    def __init__(self, message_type: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(message_type)
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ValueError for what cannot be one; the stream is useless then."""
        if self._rest:
            data = self._rest + data
        messages, start, end = [], 0, len(data)
        while end - start >= LENGTH_BYTES:
            length = int.from_bytes(data[start : start + LENGTH_BYTES], "little")
            if length > MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {length} bytes; at most {MESSAGE_BYTES_MAX} are allowed")
            if end - start - LENGTH_BYTES < length:
                break
            start += LENGTH_BYTES + length
            messages.append(self._decoder.decode(data[start - length : start]))
        self._rest = data[start:]
        return messages
