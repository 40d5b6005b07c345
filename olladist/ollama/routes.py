"""Every route of Ollama's API, and what it means when many hosts are one Ollama.

Source: server/routes.go GenerateRoutes of 0.17.4 and of 0.33.0-rc2 (which has added /v1/audio/transcriptions and the
experimental web routes). A backend that lacks a route answers 404 itself.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote


class Meaning(StrEnum):
    """Who answers a request to the fleet."""

    LOCAL = "local"  # the gateway itself
    MERGE = "merge"  # the gateway, out of what all hosts answer
    ONE_BACKEND = "one-backend"  # any host that has the model
    ALL_HOLDERS = "all-holders"  # every host that has the model, or by its placement shall have it
    DESIGNATED = "designated"  # always the same host: it holds the sign-in, or the blobs for the create that follows


class ModelIn(StrEnum):
    """Where a request names its model."""

    NOWHERE = "nowhere"
    BODY = "body"
    PATH = "path"
    FORM = "form"  # multipart/form-data


class Dialect(StrEnum):
    """Whose error shapes a client expects."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Route:
    """One operation; `name` is what logs, metrics and leases call it."""

    name: str
    methods: tuple[str, ...]
    path: str  # ":name" stands for one segment
    meaning: Meaning
    model_in: ModelIn = ModelIn.NOWHERE
    model_keys: tuple[str, ...] = ()  # of the body; the first that is not empty counts
    streams: bool | None = None  # without "stream" in the body; None: never
    dialect: Dialect = Dialect.OLLAMA
    retryable: bool = False  # may go to another backend as long as the client has seen nothing
    stream_type: str = ""
    content_key: str = ""  # where it is empty the request only loads the model, or with keep_alive 0 unloads it
    request_type: str = ""  # the Go type a body is decoded into; Ollama's own errors name it

    @property
    def inference(self) -> bool:
        """True for what occupies a slot of a backend."""
        return self.name in _INFERENCE


def _ollama(name: str, request_type: str, *, stream: bool | None = None, content: str = "") -> Route:
    return Route(
        name=name,
        methods=("POST",),
        path=f"/api/{name}",
        meaning=Meaning.ONE_BACKEND,
        model_in=ModelIn.BODY,
        model_keys=("model",),
        streams=stream,
        retryable=True,
        stream_type=NDJSON if stream is not None else "",
        content_key=content,
        request_type=request_type,
    )


def _v1(
    path: str, request_type: str, *, stream: bool | None = False, dialect: Dialect = Dialect.OPENAI, name: str = ""
) -> Route:
    return Route(
        name=name or f"v1/{path}",
        methods=("POST",),
        path=f"/v1/{path}",
        meaning=Meaning.ONE_BACKEND,
        model_in=ModelIn.BODY,
        model_keys=("model",),
        streams=stream,
        dialect=dialect,
        retryable=True,
        stream_type=EVENT_STREAM if stream is not None else "",
        request_type=request_type,
    )


def _store(
    name: str, meaning: Meaning, request_type: str, *, method: str = "POST", keys: tuple[str, ...] = ("model", "name")
) -> Route:
    """What changes the models of a host: never sent twice."""
    stream = name in {"pull", "push", "create"}
    return Route(
        name=name,
        methods=(method,),
        path=f"/api/{name}",
        meaning=meaning,
        model_in=ModelIn.BODY,
        model_keys=keys,
        streams=True if stream else None,
        stream_type=NDJSON if stream else "",
        request_type=request_type,
    )


def _plain(name: str, methods: tuple[str, ...], path: str, meaning: Meaning) -> Route:
    return Route(name=name, methods=methods, path=path, meaning=meaning, retryable=methods[0] in {"GET", "HEAD"})


_GET: tuple[str, ...] = ("GET", "HEAD")

ROUTES: tuple[Route, ...] = (
    _plain("root", _GET, "/", Meaning.LOCAL),
    _plain("version", _GET, "/api/version", Meaning.LOCAL),
    _plain("status", ("GET",), "/api/status", Meaning.DESIGNATED),
    _plain("tags", _GET, "/api/tags", Meaning.MERGE),
    _plain("ps", ("GET",), "/api/ps", Meaning.MERGE),
    Route(
        name="show",
        methods=("POST",),
        path="/api/show",
        meaning=Meaning.ONE_BACKEND,
        model_in=ModelIn.BODY,
        model_keys=("model", "name"),
        retryable=True,
        request_type="api.ShowRequest",
    ),
    _ollama("generate", "api.GenerateRequest", stream=True, content="prompt"),
    _ollama("chat", "api.ChatRequest", stream=True, content="messages"),
    _ollama("embed", "api.EmbedRequest"),
    _ollama("embeddings", "api.EmbeddingRequest"),
    _store("pull", Meaning.ALL_HOLDERS, "api.PullRequest"),
    _store("push", Meaning.DESIGNATED, "api.PushRequest"),
    _store("create", Meaning.DESIGNATED, "api.CreateRequest"),
    _store("copy", Meaning.ALL_HOLDERS, "api.CopyRequest", keys=("source",)),
    _store("delete", Meaning.ALL_HOLDERS, "api.DeleteRequest", method="DELETE"),
    _plain("blob-exists", ("HEAD",), "/api/blobs/:digest", Meaning.DESIGNATED),
    _plain("blob-upload", ("POST",), "/api/blobs/:digest", Meaning.DESIGNATED),
    _plain("me", ("POST",), "/api/me", Meaning.DESIGNATED),
    _plain("signout", ("POST",), "/api/signout", Meaning.DESIGNATED),
    _plain("user-keys", ("DELETE",), "/api/user/keys/:key", Meaning.DESIGNATED),
    _plain("aliases", ("GET",), "/api/experimental/aliases", Meaning.DESIGNATED),
    _plain("aliases-change", ("POST", "DELETE"), "/api/experimental/aliases", Meaning.DESIGNATED),
    _plain("web-search", ("POST",), "/api/experimental/web_search", Meaning.DESIGNATED),
    _plain("web-fetch", ("POST",), "/api/experimental/web_fetch", Meaning.DESIGNATED),
    _plain("model-recommendations", ("GET",), "/api/experimental/model-recommendations", Meaning.DESIGNATED),
    _v1("chat/completions", "openai.ChatCompletionRequest"),
    _v1("completions", "openai.CompletionRequest"),
    _v1("embeddings", "openai.EmbedRequest", stream=None),
    _v1("responses", "openai.ResponsesRequest"),
    _v1("messages", "anthropic.MessagesRequest", dialect=Dialect.ANTHROPIC),
    _v1("images/generations", "openai.ImageGenerationRequest", stream=None),
    _v1("images/edits", "openai.ImageEditRequest", stream=None),
    Route(
        name="v1/audio/transcriptions",
        methods=("POST",),
        path="/v1/audio/transcriptions",
        meaning=Meaning.ONE_BACKEND,
        model_in=ModelIn.FORM,
        model_keys=("model",),
        dialect=Dialect.OPENAI,
        retryable=True,
    ),
    Route(
        name="v1/models",
        methods=("GET",),
        path="/v1/models",
        meaning=Meaning.MERGE,
        dialect=Dialect.OPENAI,
        retryable=True,
    ),
    Route(
        name="v1/model",
        methods=("GET",),
        path="/v1/models/:model",
        meaning=Meaning.ONE_BACKEND,
        model_in=ModelIn.PATH,
        dialect=Dialect.OPENAI,
        retryable=True,
    ),
)

_INFERENCE = frozenset(
    route.name for route in ROUTES if route.meaning is Meaning.ONE_BACKEND and route.name not in {"show", "v1/model"}
)

# The order in which gin lists them in `Allow` is that of their first registration, which HEAD / opens.
_METHOD_ORDER = ("HEAD", "GET", "POST", "DELETE")


def _by_path(routes: tuple[Route, ...]) -> dict[str, dict[str, Route]]:
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in route.methods:
            table.setdefault(route.path, {})[method] = route
    return table


_FIXED = _by_path(tuple(route for route in ROUTES if ":" not in route.path))
_PREFIXED = {path[: path.index(":")]: methods for path, methods in _by_path(ROUTES).items() if ":" in path}


def find(method: str, path: str) -> Route | None:
    """The route of a request, None for a 404 or a 405; `path` is the target without its query.

    gin matches the decoded path, so %76ersion is version and a %2F ends a segment as "/" does.
    """
    methods = _FIXED.get(path)
    return (methods or _methods(path)).get(method)


def allowed_methods(path: str) -> tuple[str, ...]:
    """What goes into `Allow` of a 405; empty where the path does not exist (404)."""
    methods = _methods(path)
    return tuple(method for method in _METHOD_ORDER if method in methods)


def parameter(path: str) -> str:
    """What stands in the place of the path's ":name": a digest, a model, a key; "" for a path without one."""
    return next((rest for _, rest in _prefixed(unquote(path))), "")


def moved(method: str, path: str) -> tuple[int, str] | None:
    """(status, path) where Ollama redirects instead of answering; None where it does not. `path` is as for find().

    Go's mux cleans "//", "/./" and "/../" of the path as it was sent (net/http cleanPath: 307 since Go 1.26, 301 before, which loses a
    body), gin then drops one slash at the end where a route is left.
    """
    if not path.startswith("/"):
        return None
    clean = _clean(path)
    if clean != path:
        return 307, _quoted(clean)
    shorter = _quoted(unquote(path)[:-1])
    if unquote(path[-3:]).endswith("/") and find(method, shorter) is not None:
        return 301 if method == "GET" else 307, shorter
    return None


def _clean(path: str) -> str:
    clean = "/" + posixpath.normpath(path).lstrip("/")
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _quoted(path: str) -> str:
    """As Go writes a path of a URL."""
    return quote(path, safe="$&+,/:;=@")


def _methods(path: str) -> dict[str, Route]:
    path = unquote(path)
    return _FIXED.get(path) or next((methods for methods, _ in _prefixed(path)), {})


def _prefixed(path: str) -> Iterator[tuple[dict[str, Route], str]]:
    for prefix, methods in _PREFIXED.items():
        rest = path[len(prefix) :]
        if path.startswith(prefix) and rest and "/" not in rest:
            yield methods, rest
