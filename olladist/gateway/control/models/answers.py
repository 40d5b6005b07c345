"""Ollama's routes that change the models of hosts, or belong to one host alone."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control.models import relay
from olladist.gateway.control.models.copy import copy
from olladist.gateway.control.models.delete import delete
from olladist.gateway.control.models.pull import pull
from olladist.gateway.control.models.unload import unload
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.web import Answer
from olladist.ollama.routes import Route

_ANSWERS: Mapping[str, Callable[[Parts, Request, Route], Awaitable[Response]]] = {
    "pull": pull,
    "copy": copy,
    "delete": delete,
    "push": relay.push,
    "generate": unload,
    "chat": unload,
    "status": relay.status,
    # Who is signed in is shown to whoever may sign in: the answer holds an account's name, or a link that signs the node in.
    "me": relay.to_designated,
    "signout": relay.to_designated,
    "user-keys": relay.to_designated,
    "aliases": relay.open_to_all,
    "aliases-change": relay.to_designated,
    "web-search": relay.open_to_all,
    "web-fetch": relay.open_to_all,
    "model-recommendations": relay.open_to_all,
}


def answers(parts: Parts) -> Mapping[str, Answer]:
    def bound(answer: Callable[[Parts, Request, Route], Awaitable[Response]]) -> Answer:
        return lambda request, route: answer(parts, request, route)

    return {name: bound(answer) for name, answer in _ANSWERS.items()}
