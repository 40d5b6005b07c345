"""What Ollama answers for a model that it does not have, or whose name is no name. Seen on the wire of 0.17.4."""

from olladist.ollama.gojson import quote
from olladist.ollama.names import split_name
from olladist.ollama.routes import Route

_NOT_FOUND = (404, "model '{name}' not found")
_PULL_FIRST = (404, "model {quoted} not found, try pulling it first")
_REQUIRED = (400, "model is required")
_UNQUALIFIED = (500, "unqualified name: {full}")
_INVALID = (400, "invalid model name")

# (a name that is none, a name that nobody has) by route.
_REFUSALS = {
    "generate": (_NOT_FOUND, _NOT_FOUND),
    "chat": (_REQUIRED, _NOT_FOUND),
    "embed": (_UNQUALIFIED, _PULL_FIRST),
    "embeddings": (_REQUIRED, _PULL_FIRST),
    "show": (_UNQUALIFIED, _NOT_FOUND),
    "pull": (_INVALID, _NOT_FOUND),
    "create": (_INVALID, _NOT_FOUND),
    "delete": ((400, "name {quoted} is invalid"), _NOT_FOUND),
    "copy": ((400, "source {quoted} is invalid"), (404, "model {quoted} not found")),
    "v1/chat/completions": (_REQUIRED, _NOT_FOUND),
    "v1/responses": (_REQUIRED, _NOT_FOUND),
    "v1/messages": (_REQUIRED, _NOT_FOUND),
    "v1/embeddings": (_UNQUALIFIED, _PULL_FIRST),
    "v1/model": (_UNQUALIFIED, _NOT_FOUND),
}
_EMPTY = {"show": _REQUIRED, "push": _REQUIRED}


def refusal(route: Route, model: str) -> tuple[int, str]:
    """Status and error text for `model`, which stands in the request as it is given here and is on no host."""
    name = split_name(model)
    invalid, unknown = _REFUSALS.get(route.name, (_NOT_FOUND, _NOT_FOUND))
    status, text = unknown if name.is_valid() else invalid
    if not model:
        status, text = _EMPTY.get(route.name, (status, text))
    return status, text.format(name=model, quoted=quote(model), full=name.full)
