"""What a handler gives back, and how it is written in Ollama's own dialect; the other dialects write the same documents."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from olladist.ollama.framing import encode
from olladist.sim.golang import Document

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"


class Refused(Exception):
    """The request ends with this status and text, in the shape of the route's dialect."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """One JSON document, or an empty body."""

    document: Document | None
    status: int = 200
    content_type: str = JSON_UTF8


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a stream that went wrong: a status while nothing has been sent, a line in the stream afterwards."""

    text: str
    status: int = 500


@dataclass(frozen=True, slots=True)
class Stream:
    documents: AsyncGenerator[Document | Failure, None]


Reply: TypeAlias = Answer | Stream


@dataclass(frozen=True, slots=True)
class Writer:
    """A dialect, for one exchange: how documents and failures of the handlers look in it.

    `answer_type` "" leaves the content type to the handler.
    """

    answer: Callable[[Document], bytes]
    chunk: Callable[[Document], bytes]
    failure: Callable[[int, str], bytes]
    answer_type: str = ""
    stream_type: str = NDJSON
    failure_type: str = JSON_UTF8
    headers: Mapping[str, str] = field(default_factory=dict)


def native_error(status: int, text: str) -> bytes:
    return encode({"error": text})


NATIVE = Writer(answer=encode, chunk=lambda document: encode(document) + b"\n", failure=native_error)


async def progress(request: Document, documents: AsyncGenerator[Document | Failure, None]) -> Reply:
    """What pull, push and create answer: the lines as they come, or only the last one (waitForStream)."""
    if request.get("stream", True):
        return Stream(documents)
    latest: Document = {}
    async for document in documents:
        if isinstance(document, Failure):
            return Answer({"error": document.text}, document.status, JSON)
        latest = document
    return Answer(latest, 200, JSON)
