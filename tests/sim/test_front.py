"""What gin does with a request before a handler sees it (tests/lab/test_sim_conformance.py compares it with the real one)."""

import pytest

from olladist.sim import front

PATTERNS = ("/", "/api/tags", "/api/blobs/:digest")


def test_patterns_match_whole_segments() -> None:
    """A parameter holds anything but a slash, and something."""
    assert front.match("/api/tags", PATTERNS) == ("/api/tags", "")
    assert front.match("/api/blobs/x", PATTERNS) == ("/api/blobs/:digest", "x")
    assert front.match("/api/blobs/", PATTERNS) is None
    assert front.match("/api/blobs/a/b", PATTERNS) is None


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/api/tags", None),
        ("GET", "/", None),
        ("GET", "/api/tags/", (301, "/api/tags")),
        ("POST", "/api/tags/", (307, "/api/tags")),
        ("GET", "//api/tags", (307, "/api/tags")),
        ("GET", "/api/../api/tags", (307, "/api/tags")),
        ("GET", "/nope/", None),
    ],
)
def test_crooked_paths_are_redirected(method: str, path: str, answer: tuple[int, str] | None) -> None:
    """Go's mux cleans them, gin drops a slash at the end where that helps."""
    page = front.redirect(method, path, PATTERNS)

    assert (page and (page.status, (page.headers or {})["location"])) == answer


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        *(
            (host, True)
            for host in ("", "localhost", "LOCALHOST:1", "127.0.0.1:11434", "10.1.2.3", "[::1]:5", "a.internal")
        ),
        *((host, False) for host in ("evil.example", "localhost.", "8.8.8.8", "local")),
    ],
)
def test_a_loopback_server_answers_local_names_only(host: str, allowed: bool) -> None:
    """Any other Host is somebody's page in a browser here."""
    assert front.host_allowed(host) == allowed


def test_origins_are_judged_before_hosts() -> None:
    """A foreign origin is refused, a preflight answered, a local one marked."""
    local = {"host": "127.0.0.1", "origin": "http://localhost:3000"}
    foreign = {"host": "127.0.0.1", "origin": "http://evil.example"}

    refused, _ = front.check("GET", foreign, ("GET",), loopback=True, origins=())
    preflight, _ = front.check("OPTIONS", local, ("GET",), loopback=True, origins=())
    page, headers = front.check("GET", local, ("GET",), loopback=True, origins=())
    more, _ = front.check("GET", foreign, ("GET",), loopback=True, origins=("http://evil.example",))

    assert refused is not None
    assert refused.status == 403
    assert preflight is not None
    assert preflight.status == 204
    assert page is None
    assert headers == {"access-control-allow-origin": "http://localhost:3000", "vary": "Origin"}
    assert more is None


def test_wrong_methods_name_the_right_ones() -> None:
    """405 with Allow; an unknown path is 404."""
    wrong, _ = front.check("POST", {"host": "localhost"}, ("GET", "HEAD"), loopback=True, origins=())
    unknown, _ = front.check("POST", {"host": "localhost"}, (), loopback=True, origins=())

    assert wrong is not None
    assert (wrong.status, (wrong.headers or {})["allow"]) == (405, "HEAD, GET")
    assert unknown is not None
    assert unknown.status == 404
