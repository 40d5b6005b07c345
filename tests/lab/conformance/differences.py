"""Where the gateway answers otherwise than one Ollama, and why. docs/reference/differences.md tells the same; a test holds that."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from olladist.ollama.routes import allowed_methods, find
from tests.lab.conformance.readable import Answer
from tests.lab.conformance.wire import Request


@dataclass(frozen=True)
class Difference:
    """`title` is the heading in the docs; `alter` makes the gateway's answer out of an Ollama's."""

    title: str
    applies: Callable[[Request, Answer], bool]
    alter: Callable[[Request, Answer], Answer]


def _newer(request: Request, answer: Answer) -> bool:
    """A path that 0.17.4 does not know and the gateway does, with a method that nobody takes there."""
    path = request.path
    return answer.status == 404 and bool(allowed_methods(path)) and find(request.method, path) is None


def _not_allowed(request: Request, answer: Answer) -> Answer:
    headers = {**answer.headers, "allow": ", ".join(allowed_methods(request.path))}
    return replace(answer, status=405, headers=headers, body=answer.body and "405 method not allowed")


def _refused(text: str) -> Callable[[Request, Answer], Answer]:
    """As the gateway refuses a head."""
    headers = {"content-type": "application/json; charset=utf-8"}
    return lambda _request, _answer: Answer(400, headers, {"error": text}, "any")


DIFFERENCES: tuple[Difference, ...] = (
    Difference("Routes of newer versions", _newer, _not_allowed),
    Difference(
        "Request lines that are no ASCII",
        lambda request, _: not request.path.isascii(),
        _refused("malformed request line"),
    ),
)

# What the gateway says besides while a model goes on to further hosts, in a stream of progress that is else Ollama's own.
BESIDE = re.compile("copying to ")
COPYING = "Models that go on to further hosts"
# What is in memory on several hosts; in these tests nothing is, so that it does not show.
SUMS = "Sizes in memory"

TITLES = (*(difference.title for difference in DIFFERENCES), COPYING, SUMS)
