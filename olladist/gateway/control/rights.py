"""What a caller may do, as answers: each guard returns None where they may, else the response that says why not."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.control.caller import Caller, caller
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.web import error_response
from olladist.gateway.settings import Settings
from olladist.ollama.refusal import refusal
from olladist.ollama.routes import Dialect, Route

T = TypeVar("T")

ADMIN_CLOSED = (
    "administration is closed: no admin token is configured; set OLLAMA_ADMIN_TOKEN where the gateway is started, "
    "or use `olladist proxy` on its machine"
)
ADMIN_DENIED = "this needs the admin token: Authorization: Bearer $OLLAMA_ADMIN_TOKEN"


def who(request: Request, parts: Parts) -> Caller:
    return caller(request, parts.settings, parts.keys.known)


def must_manage(who: Caller, dialect: Dialect = Dialect.OLLAMA) -> Response | None:
    """For whatever changes which models there are: pull, push, create, copy, delete, blobs, migrate, rebalance, sign-in."""
    if who.may_manage:
        return None
    name = who.key.name if who.key is not None else ""
    return error_response(dialect, 403, f"the key {name!r} may not change models: it has no `manage` in the inventory")


def must_administrate(who: Caller, settings: Settings) -> Response | None:
    """For /admin/*: closed to all where there is no token; 401 without the right one."""
    if who.may_administrate:
        return None
    if not settings.admin_digest:
        return error_response(Dialect.OLLAMA, 403, ADMIN_CLOSED)
    answer = error_response(Dialect.OLLAMA, 401, ADMIN_DENIED)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def must_see_metrics(who: Caller, settings: Settings, keys: Keys) -> Response | None:
    """For /metrics and the dashboard: open where the gateway has no keys, else for administrators."""
    return None if not keys.known else must_administrate(who, settings)


def must_use(who: Caller, route: Route, model: str) -> Response | None:
    """A model that is closed to a key is one that does not exist, in Ollama's words for it."""
    if who.may_use(model):
        return None
    return error_response(route.dialect, *refusal(route, model))


def visible(who: Caller, rows: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """The rows of a listing whose model the caller may know of; `name` gives any spelling of it."""
    if who.key is None or not who.key.models:
        return list(rows)
    return [row for row in rows if who.may_use(name(row))]
