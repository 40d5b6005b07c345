import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.routes import (
    EVENT_STREAM,
    NDJSON,
    ROUTES,
    Dialect,
    Meaning,
    ModelIn,
    allowed_methods,
    find,
    moved,
    parameter,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("HEAD", "/", "root"),
        ("GET", "/api/tags", "tags"),
        ("POST", "/api/chat", "chat"),
        ("POST", "/v1/chat/completions", "v1/chat/completions"),
        ("DELETE", "/api/delete", "delete"),
        ("POST", "/api/blobs/sha256:" + "0" * 64, "blob-upload"),
        ("HEAD", "/api/blobs/sha256-" + "0" * 64, "blob-exists"),
        ("GET", "/v1/models/llama3.2:3b", "v1/model"),
        ("GET", "/api/%76ersion", "version"),
        ("DELETE", "/api/user/keys/abc", "user-keys"),
    ],
)
def test_routes_are_found(method: str, path: str, name: str) -> None:
    """By method and decoded path, as gin finds them."""
    route = find(method, path)

    assert route
    assert route.name == name


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/chat", ("POST",)),
        ("/api/tags", ("HEAD", "GET")),
        ("/api/blobs/x", ("HEAD", "POST")),
        ("/api/user/keys/x", ("DELETE",)),
        ("/nope", ()),
        ("/api/blobs/", ()),
        ("/api/blobs/a/b", ()),
        ("/v1/models/library%2Ftiny", ()),
        ("", ()),
    ],
)
def test_a_wrong_method_is_told_from_a_wrong_path(path: str, allow: tuple[str, ...]) -> None:
    """The same `Allow` as 0.17.4 sends with its 405; nothing for its 404."""
    assert allowed_methods(path) == allow


@pytest.mark.parametrize(
    ("path", "streams", "content_type"),
    [
        ("/api/generate", True, NDJSON),
        ("/api/chat", True, NDJSON),
        ("/api/pull", True, NDJSON),
        ("/api/push", True, NDJSON),
        ("/api/create", True, NDJSON),
        ("/api/embed", None, ""),
        ("/api/show", None, ""),
        ("/v1/chat/completions", False, EVENT_STREAM),
        ("/v1/messages", False, EVENT_STREAM),
        ("/v1/embeddings", None, ""),
    ],
)
def test_streams_by_default(path: str, streams: bool | None, content_type: str) -> None:
    """Ollama's own routes stream unless told not to, OpenAI's and Anthropic's the other way round."""
    route = find("POST", path)

    assert route
    assert (route.streams, route.stream_type) == (streams, content_type)


def test_what_changes_hosts_is_never_retried() -> None:
    """Pull, push, create, copy, delete and uploads are sent once; inference may be tried elsewhere."""
    retried = {route.name for route in ROUTES if route.retryable}

    assert not retried & {"pull", "push", "create", "copy", "delete", "blob-upload", "me", "signout"}
    assert {route.name for route in ROUTES if route.inference} <= retried


@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("GET", "//api/tags", (307, "/api/tags")),
        ("GET", "/v1/models/..", (307, "/v1")),
        ("POST", "/api/./chat//", (307, "/api/chat/")),
        ("GET", "/api/tags/", (301, "/api/tags")),
        ("POST", "/api/chat/", (307, "/api/chat")),
        ("GET", "/v1/models/a%20b/", (301, "/v1/models/a%20b")),
        ("GET", "/api%2Ftags%2F", (301, "/api/tags")),
        ("GET", "/api/chat/", None),
        ("GET", "/nope/", None),
        ("GET", "/", None),
        ("GET", "/api/tags", None),
    ],
)
def test_odd_paths_are_redirected(method: str, path: str, place: tuple[int, str] | None) -> None:
    """Doubled slashes and dots are cleaned, one slash at the end of a route is dropped; nothing else moves."""
    assert moved(method, path) == place


def test_a_parameter_is_decoded() -> None:
    """What stands for ":model" or ":digest"; nothing elsewhere."""
    assert parameter("/v1/models/llama3%2E2") == "llama3.2"
    assert parameter("/api/chat") == ""


def test_the_table_is_whole() -> None:
    """Names are unique, no two routes answer the same request, and whoever reads a body knows which keys."""
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(m, route.path) for route in ROUTES for m in route.methods}) == sum(len(r.methods) for r in ROUTES)
    for route in ROUTES:
        assert (route.model_in in {ModelIn.BODY, ModelIn.FORM}) == bool(route.model_keys)
        assert (route.model_in is ModelIn.BODY) == bool(route.request_type)
        assert (route.dialect is not Dialect.OLLAMA) == route.path.startswith("/v1/")
        assert route.meaning is not Meaning.ONE_BACKEND or route.model_in is not ModelIn.NOWHERE


@given(
    st.sampled_from(METHODS), st.sampled_from([route.path for route in ROUTES]) | st.text(max_size=40).map("/".__add__)
)
def test_find_and_allow_agree(method: str, path: str) -> None:
    """A request has a route exactly when its method is allowed on its path."""
    assert (find(method, path) is not None) == (method in allowed_methods(path))
