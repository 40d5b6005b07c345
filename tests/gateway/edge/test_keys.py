import json

import pytest

from olladist.gateway.access import digest_of
from olladist.gateway.edge.head import RequestHead, read_request
from olladist.gateway.edge.keys import Denied, Visitor, by_digest, denial, identify, is_administration, take_prefix
from olladist.gateway.lease import Access, Key
from olladist.ollama.routes import Dialect

SECRET, OTHER, TOKEN = b"sk-a-key-of-some-length", b"sk-another-key-of-length", b"the admin's token"
TEAM = Key("team", digest_of(SECRET))
KEYS = by_digest(Access((TEAM, Key("other", digest_of(OTHER)))))
ADMIN = digest_of(TOKEN)


def head(path: str, *fields: bytes, method: str = "POST") -> RequestHead:
    lines = b"".join(field + b"\r\n" for field in fields)
    return read_request(f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode() + lines + b"\r\n")


def asks(path: str, *fields: bytes, method: str = "POST", admin: str = ADMIN) -> Visitor | Denied:
    stripped, in_path, _ = take_prefix(head(path, *fields, method=method))
    return identify(stripped, in_path, KEYS, admin)


@pytest.mark.parametrize(
    "fields",
    [
        (b"Authorization: Bearer " + SECRET,),
        (b"authorization: bearer  " + SECRET + b" ",),
        (b"X-Api-Key: " + SECRET,),
        (b"Authorization: Bearer ollama", b"x-api-key: " + SECRET),
        (b"Authorization: Basic eDp5", b"x-api-key: " + SECRET),
    ],
)
def test_a_key_is_found_where_clients_put_it(fields: tuple[bytes, ...]) -> None:
    """OpenAI's and Ollama's in Authorization, Anthropic's in a field of its own; one that is right is enough."""
    assert asks("/api/chat", *fields) == Visitor(TEAM)


def test_a_key_in_the_path_is_as_good() -> None:
    """For clients that cannot send a header, but keep the path of their address."""
    assert asks(f"/key/{SECRET.decode()}/api/chat") == Visitor(TEAM)
    assert asks("/key/wrong/api/chat") == Denied("this API key is not known")


@pytest.mark.parametrize(
    ("target", "path", "stripped", "prefix"),
    [
        ("/key/abc/api/chat?x=/key/", "/api/chat", b"/api/chat?x=/key/", "/key/abc"),
        ("/key/abc/", "/", b"/", "/key/abc"),
        ("/key/abc", "/", b"/", "/key/abc"),
        ("/key/abc?x", "/", b"/?x", "/key/abc"),
        ("/key/abc//api", "//api", b"//api", "/key/abc"),
        ("/key/abc/key/def/x", "/key/def/x", b"/key/def/x", "/key/abc"),
        ("/keys/abc", "/keys/abc", b"/keys/abc", ""),
        ("/api/key/abc", "/api/key/abc", b"/api/key/abc", ""),
    ],
)
def test_the_prefix_is_taken_away(target: str, path: str, stripped: bytes, prefix: str) -> None:
    """Once; what is left is the request that was meant."""
    left, secret, taken = take_prefix(head(target))

    assert (left.path, left.target, taken) == (path, stripped, prefix)
    assert secret == prefix.removeprefix("/key/").encode()


def test_without_a_known_key_nobody_comes_in() -> None:
    """And they are told whether one was missing or wrong, and where to put it."""
    missing = asks("/api/chat")

    assert isinstance(missing, Denied)
    assert "Authorization: Bearer KEY" in missing.text
    assert asks("/api/chat", b"Authorization: Bearer nope") == Denied("this API key is not known")
    assert asks("/nowhere", method="GET") == missing
    assert asks("/api/chat", b"X-Olladist-Key: team") == missing


def test_without_keys_everybody_does() -> None:
    """Also who shows one that means nothing here."""
    assert identify(head("/api/chat", b"Authorization: Bearer ollama"), b"", {}, "") == Visitor()


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_who_only_asks_whether_we_live_needs_no_key(path: str) -> None:
    """HEAD / comes before everything that the ollama CLI does; but only to read."""
    assert asks(path, method="GET") == Visitor()
    assert asks(path, method="HEAD") == Visitor()
    assert isinstance(asks(path, method="POST"), Denied)


@pytest.mark.parametrize("path", ["/admin/mode", "/admin", "/admin/stats", "/metrics", "/dashboard", "/dashboard/x"])
def test_no_key_of_a_user_opens_administration(path: str) -> None:
    """The control process gets the request as nobody's, with what may be the token, and judges that itself."""
    assert asks(path, b"Authorization: Bearer " + SECRET, method="GET") == Visitor(None, admin=True)
    assert asks(path, method="GET") == Visitor(None, admin=True)


@pytest.mark.parametrize(
    "path", ["/%61dmin/mode", "/admin%2fmode", "/metrics/", "/adminx", "/Admin/mode", "/metrics%2f"]
)
def test_what_only_looks_like_administration_is_not(path: str) -> None:
    """It needs a key, and has no token with it: the control process opens nothing for that."""
    assert not is_administration(head(path).path)
    assert asks(path, b"X-Api-Key: " + SECRET) == Visitor(TEAM)
    assert isinstance(asks(path), Denied)


def test_the_admin_token_opens_everything() -> None:
    """It is nobody's key; and where no token is configured nothing can be one."""
    bearer = b"Authorization: Bearer " + TOKEN

    assert asks("/api/distributed/rebalance", bearer) == Visitor(None, admin=True)
    assert isinstance(asks("/api/pull", b"X-Api-Key: " + TOKEN), Denied)
    assert isinstance(asks("/api/pull", bearer, admin=""), Denied)
    assert isinstance(asks("/api/pull", b"Authorization: Bearer", admin=""), Denied)


def test_a_denial_is_in_the_clients_own_words() -> None:
    """Ollama's, OpenAI's with its code, Anthropic's with its type."""
    bodies = {dialect: json.loads(denial(dialect, "no")[0]) for dialect in Dialect}
    assert bodies[Dialect.ANTHROPIC].pop("request_id").startswith("req_")

    assert bodies == {
        Dialect.OLLAMA: {"error": "no", "status": "no"},
        Dialect.OPENAI: {
            "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        },
        Dialect.ANTHROPIC: {"type": "error", "error": {"type": "authentication_error", "message": "no"}},
    }
