import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.refusal import refusal
from olladist.ollama.routes import ROUTES, find


@pytest.mark.parametrize(
    ("method", "path", "model", "status", "text"),
    [
        ("POST", "/api/generate", "", 404, "model '' not found"),
        ("POST", "/api/generate", "no", 404, "model 'no' not found"),
        ("POST", "/api/generate", ":t", 404, "model ':t' not found"),
        ("POST", "/api/chat", "", 400, "model is required"),
        ("POST", "/api/chat", "no", 404, "model 'no' not found"),
        ("POST", "/api/chat", "a/b/c/d", 400, "model is required"),
        ("POST", "/api/embed", "", 500, "unqualified name: registry.ollama.ai/library/!MISSING!:latest"),
        ("POST", "/api/embed", "no", 404, 'model "no" not found, try pulling it first'),
        ("POST", "/api/embeddings", "", 400, "model is required"),
        ("POST", "/api/embeddings", "no", 404, 'model "no" not found, try pulling it first'),
        ("POST", "/api/show", "", 400, "model is required"),
        ("POST", "/api/show", "no", 404, "model 'no' not found"),
        ("POST", "/api/show", ":t", 500, "unqualified name: registry.ollama.ai/library/!MISSING!:t"),
        ("POST", "/api/pull", ":t", 400, "invalid model name"),
        ("POST", "/api/push", "", 400, "model is required"),
        ("DELETE", "/api/delete", ":t", 400, 'name ":t" is invalid'),
        ("DELETE", "/api/delete", "no", 404, "model 'no' not found"),
        ("POST", "/api/copy", "a<", 400, 'source "a<" is invalid'),
        ("POST", "/api/copy", "no", 404, 'model "no" not found'),
        ("POST", "/v1/chat/completions", "no", 404, "model 'no' not found"),
        ("POST", "/v1/completions", "", 404, "model '' not found"),
        ("POST", "/v1/embeddings", "no", 404, 'model "no" not found, try pulling it first'),
        ("POST", "/v1/messages", "no", 404, "model 'no' not found"),
        ("POST", "/v1/responses", "", 400, "model is required"),
        ("GET", "/v1/models/no", "no", 404, "model 'no' not found"),
    ],
)
def test_a_missing_model_is_refused_in_the_words_of_ollama(method: str, path: str, model: str, status: int, text: str) -> None:  # fmt: skip
    """Each seen on the wire of a real 0.17.4."""
    route = find(method, path)

    assert route
    assert refusal(route, model) == (status, text)


@given(st.sampled_from(ROUTES), st.text())
def test_any_name_can_be_refused(route: object, model: str) -> None:
    """Braces and quotes in a name are only text."""
    assert isinstance(route, type(ROUTES[0]))
    status, text = refusal(route, model)

    assert status in {400, 404, 500}
    assert text
