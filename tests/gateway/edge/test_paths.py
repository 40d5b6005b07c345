"""What a real Ollama 0.17.4 has answered to odd paths, and what follows for prefixes of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.edge.paths import Moved, cleaned, moved

HTML = "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//api/version", "/api/version"),
        ("/api/./version", "/api/version"),
        ("/api/../api/version", "/api/version"),
        ("/api//version", "/api/version"),
        ("/api/version//", "/api/version/"),
        ("//api/version/", "/api/version/"),
        ("/api/version/./", "/api/version/"),
        ("/api/chat/.", "/api/chat"),
        ("//api/version?x=1", "/api/version?x=1"),
        ("//nope", "/nope"),
        ("//", "/"),
        ("/./", "/"),
        ("/..", "/"),
        ("/api/<b>/../version", "/api/version"),
        ("//evil.com/..", "/"),
        ("//evil.com/%2e%2e", "/evil.com/%252e%252e"),
        ("/a%2fb/../c", "/c"),
        ("/a|b//c", "/a%257Cb/c"),
        ("/a'()*!//c?q=%zz&<>\"'", "/a%27%28%29%2A%21/c?q=%zz&<>\"'"),
        ("/a[b]//c", "/a%5Bb%5D/c"),
        ("/a%41//c", "/a%2541/c"),
        ("/a%C3%A9//c", "/a%25C3%25A9/c"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_paths_are_cleaned(method: str, target: str, location: str) -> None:
    """307, whatever the method and wherever it leads; never to another host."""
    to = moved(method, target)

    assert to is not None
    assert (to.status, to.location) == (307, location)
    assert not to.location.startswith("//")


@pytest.mark.parametrize(
    ("method", "target", "status", "location"),
    [
        ("GET", "/api/version/", 301, "/api/version"),
        ("HEAD", "/api/version/", 307, "/api/version"),
        ("GET", "/api/tags/?a=b&c=<d>", 301, "/api/tags?a=b&c=<d>"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("GET", "/v1/models/a/", 301, "/v1/models/a"),
        ("GET", "/v1/models/", 301, "/v1/models"),
        ("HEAD", "/api/blobs/x/", 307, "/api/blobs/x"),
        ("GET", "/api/version%2f", 301, "/api/version"),
        ("HEAD", "/api/version%2f", 307, "/api/version"),
        ("GET", "/api/%76ersion/", 301, "/api/version"),
        ("GET", "/v1/models/%C3%A9/", 301, "/v1/models/%C3%A9"),
        ("GET", "/v1/models/%3Cb%3E/", 301, "/v1/models/%3Cb%3E"),
        ("GET", "/v1/models/a%25b/", 301, "/v1/models/a%25b"),
    ],
)
def test_a_slash_too_many_is_taken_away(method: str, target: str, status: int, location: str) -> None:
    """Where there is a route for the method without it."""
    to = moved(method, target)

    assert to is not None
    assert (to.status, to.location) == (status, location)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/chat/"), ("GET", "/nope/"), ("GET", "/api/"), ("GET", "/api"), ("GET", "/api/%76ersion"), ("GET", "/api/%2e/version"),
        ("GET", "/api%2fversion"), ("GET", "/v1/models/library%2Ftiny"), ("GET", "/api/blobs/"), ("GET", "/API/version"), ("GET", "/api/version#x"),
        ("GET", "/%2f/api/version"), ("GET", "/api/<b>/"), ("GET", "/\\evil.com"), ("GET", "/"), ("HEAD", "/v1/models/"), ("POST", "/api/version/"),
        ("POST", "/api/version%2f"), ("GET", "/v1/models/a%2fb/"), ("GET", '/x/?"'), ("GET", "/.well-known/x"), ("GET", "/a?b=//c"),
    ],
)  # fmt: skip
def test_other_paths_stand(method: str, target: str) -> None:
    """A route answers them, or a 404 does."""
    assert moved(method, target) is None


def test_a_redirect_has_the_body_that_go_writes() -> None:
    """For GET; its type alone for HEAD; nothing for the others."""
    target = "/api/version/?a='\"<&"
    body = b'<a href="/api/version?a=&#39;&#34;&lt;&amp;">Moved Permanently</a>.\n\n'

    assert moved("GET", target) == Moved(301, "/api/version?a='\"<&", HTML, body)
    assert moved("HEAD", "//api/version") == Moved(307, "/api/version", HTML, b"")
    assert moved("POST", "//api/version") == Moved(307, "/api/version", "", b"")


def test_a_prefix_stays_in_front() -> None:
    """A client that came with its key in the path comes again with it."""
    to = moved("GET", "//api/version?x", "/key/secret")

    assert to is not None
    assert to.location == "/key/secret/api/version?x"


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?"), max_size=30))
def test_cleaning_ends(path: str) -> None:
    """What was cleaned is clean, begins with one slash, and leads nowhere above."""
    path = "/" + path.replace("%", "%25")

    once = cleaned(path)

    assert cleaned(once) == once
    assert once.startswith("/")
    assert not once.startswith("//")
    assert ".." not in once.split("/")
