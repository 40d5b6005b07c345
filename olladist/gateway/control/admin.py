"""What an administrator sets at run time: the mode, what stands in, and the kept answers; kept over restarts but for the last."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from olladist.errors import UsageError
from olladist.gateway.control import cache
from olladist.gateway.control.modes import in_order
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.rights import must_administrate, who
from olladist.gateway.control.web import JSON, error_response, response
from olladist.inventory.model import Fallback, Mode
from olladist.ollama.routes import Dialect

# What is sent here is a word or two.
_BODY_BYTES_MAX = 64 * 2**10


class ModeSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mode in force and who has set it; `local` is the URL of the Ollama beside the gateway, "" where there is none."""

    schema: Literal["olladist.gateway.mode"] = "olladist.gateway.mode"
    version: Literal[1] = 1
    mode: Literal["distributed", "local", "standalone"]
    source: Literal["inventory", "environment", "administrator"]
    local: str


class FallbackSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in, in the order in which it is tried, and who has set it."""

    schema: Literal["olladist.gateway.fallback"] = "olladist.gateway.fallback"
    version: Literal[1] = 1
    fallback: tuple[Literal["local", "cache"], ...]
    source: Literal["inventory", "environment", "administrator"]


class KeptAnswers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is kept and may be; `stored`, `given` and `dropped` (no room, or no disk) count since the control process started."""

    schema: Literal["olladist.gateway.cache"] = "olladist.gateway.cache"
    version: Literal[1] = 1
    answers: int
    bytes: int
    bytes_max: int
    seconds_max: float
    stored: int
    given: int
    dropped: int


class SetMode(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["distributed", "local", "standalone"] | None


class SetFallback(msgspec.Struct, forbid_unknown_fields=True):
    fallback: bool | tuple[Literal["local", "cache"], ...] | None


class Clear(msgspec.Struct, forbid_unknown_fields=True):
    clear: bool


Body = TypeVar("Body")

_MODE_FORM = '{"mode": "distributed"}, "local" or "standalone"; null for what the inventory or the environment says'
_FALLBACK_FORM = (
    '{"fallback": true}, false, or a list of "local" and "cache"; null for what the inventory or the environment says'
)
_CLEAR_FORM = '{"clear": true}'


def pages(parts: Parts) -> Sequence[WebRoute]:
    def page(
        path: str, show: Callable[[Parts], msgspec.Struct], change: Callable[[Parts, bytes], Awaitable[None]]
    ) -> WebRoute:
        async def answer(request: Request) -> Response:
            if refused := must_administrate(who(request, parts), parts.settings):
                return refused
            try:
                if request.method == "POST":
                    await change(parts, await _body(request))
            except (_Bad, UsageError) as error:
                hint = f" ({error.hint})" if isinstance(error, UsageError) and error.hint else ""
                return error_response(Dialect.OLLAMA, 400, f"{error}{hint}")
            except OSError as error:
                return error_response(Dialect.OLLAMA, 500, f"the disk does not do it: {error}")
            return response(msgspec.json.encode(show(parts)), JSON)

        return WebRoute(path, answer, methods=["GET", "POST"])

    return [
        page("/admin/mode", mode_set, _set_mode),
        page("/admin/fallback", fallback_set, _set_fallback),
        page("/admin/cache", kept_answers, _clear),
        *cache.pages(parts.cache),
    ]


def mode_set(parts: Parts) -> ModeSet:
    serving = parts.roster.serving
    return ModeSet(mode=serving.mode.value, source=serving.sources["mode"].value, local=serving.local)


def fallback_set(parts: Parts) -> FallbackSet:
    serving = parts.roster.serving
    return FallbackSet(
        fallback=tuple(fallback.value for fallback in serving.fallback), source=serving.sources["fallback"].value
    )


def kept_answers(parts: Parts) -> KeptAnswers:
    kept = parts.cache
    return KeptAnswers(
        answers=len(kept),
        bytes=kept.bytes,
        bytes_max=kept.max_bytes,
        seconds_max=kept.max_age,
        stored=kept.stored,
        given=kept.given,
        dropped=kept.dropped,
    )


class _Bad(ValueError):
    """A body that is not what the page takes; the message says what it takes."""


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            raise _Bad(f"the body has more than {_BODY_BYTES_MAX} bytes")
    return bytes(body)


def _read(body: bytes, form: str, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Bad(f"the body must be {form}: {error}") from error


async def _set_mode(parts: Parts, body: bytes) -> None:
    mode = _read(body, _MODE_FORM, SetMode).mode
    choices = parts.choices
    choices.choose(replace(choices.chosen, mode=None if mode is None else Mode(mode)))


async def _set_fallback(parts: Parts, body: bytes) -> None:
    said = _read(body, _FALLBACK_FORM, SetFallback).fallback
    names: Sequence[str] = said if isinstance(said, tuple) else tuple(Fallback) if said else ()
    choices = parts.choices
    choices.choose(replace(choices.chosen, fallback=None if said is None else in_order(names)))


async def _clear(parts: Parts, body: bytes) -> None:
    if not _read(body, _CLEAR_FORM, Clear).clear:
        raise _Bad(f"the body must be {_CLEAR_FORM}")
    await parts.cache.clear()
