"""Answers that come from one node as they are: the first that has them."""

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from olladist.gateway.control import fallback
from olladist.gateway.control.backends import Backend
from olladist.gateway.control.catalog import merge_tags, openai_model
from olladist.gateway.control.lease_server import LOOK_AGAIN
from olladist.gateway.control.models.asking import as_it_is
from olladist.gateway.control.models.designated import designated
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.refusals import refuse
from olladist.gateway.control.rights import must_use, who
from olladist.gateway.control.upstreams import Answered, Failed, fetch
from olladist.gateway.control.web import BODY_BYTES_MAX, error_response, read_whole, response
from olladist.gateway.lease import Ask
from olladist.ollama import framing
from olladist.ollama.names import is_cloud, split_name
from olladist.ollama.request import BadBody, read_body
from olladist.ollama.routes import Route, parameter
from olladist.scheduling.health import State

# `verbose` gives every token of the vocabulary: 256 000 of them and as many merges are about 15 MB.
ANSWER_BYTES_MAX = 64 * 2**20
# Reading the head of a GGUF from a cold disk takes a second or two; a host that hangs must not be the end of it.
WITHIN = 10.0


class Shower:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def show(self, request: Request, route: Route) -> Response:
        """POST /api/show: what the first holder says that does not say 404."""
        try:
            body = await read_whole(request)
            if body is None:
                return error_response(route.dialect, 413, f"a body of more than {BODY_BYTES_MAX} bytes")
            model = read_body(body, route).model
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except BadBody as bad:
            return error_response(route.dialect, bad.status, bad.text, malformed=True)
        if refused := must_use(who(request, self._parts), route, model):
            return refused
        missing: list[int] = []
        try:
            return await self._first_answer(route, model, body, missing)
        finally:  # not before: what they list would count again
            for number in missing:
                self._parts.prober.check_tags(number)

    async def _first_answer(self, route: Route, model: str, body: bytes, missing: list[int]) -> Response:
        """`missing` gets those that have not got the model, although they listed it."""
        key = split_name(model).key
        await self._look_again(key)
        tried: list[int] = []
        failed: Response | None = None
        for backend in self._asked(model, key):
            tried.append(backend.id)
            try:
                answer = await self._ask(backend, body)
            except Failed:
                continue
            if answer.status == 404 and not self._holders(key):
                break
            if answer.status == 404:
                self._parts.roster.forget(backend.id, key)
                missing.append(backend.id)
            elif answer.status < 500:
                return self._said(as_it_is(answer, backend.node), backend, key, tried[:-1])
            else:
                failed = as_it_is(answer, backend.node)
        return failed or self._refusal(route, model, tuple(tried))

    async def openai_model(self, request: Request, route: Route) -> Response:
        """GET /v1/models/:model, out of the catalog."""
        model = parameter(request.scope.get("raw_path", b"").decode("latin-1") or request.url.path)
        if refused := must_use(who(request, self._parts), route, model):
            return refused
        key = split_name(model).key
        await self._look_again(key)
        seen, holders = self._parts.roster.seen, self._holders(key)
        rows = merge_tags({b.node: seen[b.id].tags for b in holders if b.role is holders[0].role})
        for row in rows:
            if row.key == key:
                answer = response(framing.encode(openai_model(row, model)) + b"\n", "application/json")
                return self._said(answer, holders[0], key, [])
        return self._refusal(route, model, ())

    async def _ask(self, backend: Backend, body: bytes) -> Answered:
        client = self._parts.upstreams.client(backend)
        return await fetch(client, "POST", "/api/show", content=body, bytes_max=ANSWER_BYTES_MAX, within=WITHIN)

    async def _look_again(self, key: str) -> None:
        """A model that nobody has listed may have come since."""
        if not self._holders(key):
            await self._parts.prober.refresh_tags(older_than=LOOK_AGAIN, within=LOOK_AGAIN)

    def _asked(self, model: str, key: str) -> list[Backend]:
        holders = self._holders(key)
        chosen = designated(self._parts.roster, self._parts.declared) if is_cloud(model) and not holders else None
        # What is in Ollama's cloud is known to the node that is signed in there, listed or not.
        able = self._parts.roster.able
        if chosen is not None:
            return able((chosen,))
        # Of what nobody has, anybody may say what else is wrong with the request.
        return holders or able(self._parts.roster.in_play())[:1]

    def _said(self, answer: Response, backend: Backend, key: str, failed: list[int]) -> Response:
        """With what a client is told where somebody stands in for the mode's first choice."""
        roster = self._parts.roster
        first = roster.serving.order[0]
        mine = set(roster.of_role(first))
        passed = dict.fromkeys(roster.holders_in_play(key), fallback.DOWN) | dict.fromkeys(failed, "it failed")
        why = fallback.reason(
            first,
            [fallback.Passed(roster.backends[number].node, passed[number]) for number in sorted(mine & passed.keys())],
            reachable=any(roster.seen[number].state is not State.DOWN for number in mine),
        )
        answer.headers.update(fallback.header_fields(roster.serving, backend.role, why))
        return answer

    def _holders(self, key: str) -> list[Backend]:
        roster = self._parts.roster
        return roster.able(roster.holders_in_play(key))

    def _refusal(self, route: Route, model: str, tried: tuple[int, ...]) -> Response:
        refused = refuse(Ask(0, model, route.name, tried), self._parts.roster, split_name(model).key)
        return error_response(route.dialect, refused.status, refused.text, retry_after=refused.retry_after)
