import json

import pytest
from starlette.requests import Request
from starlette.responses import Response

from olladist.gateway.access import digest_of
from olladist.gateway.control import rights
from olladist.gateway.control.caller import Caller, caller
from olladist.gateway.control.keys import Keys
from olladist.gateway.lease import Key
from olladist.gateway.settings import Settings
from olladist.inventory.model import ApiKey
from olladist.ollama.routes import Dialect, Route, find

TOKEN = "an admin token of some length"
KEYS = {"team": Key("team", "1", ("tiny",)), "ops": Key("ops", "2", manage=True)}
OPEN = Settings("/run/x", "i.toml")
TOKENED = Settings("/run/x", "i.toml", admin_digest=digest_of(TOKEN.encode()))


def request(*, key: str = "", authorization: str = "", socket: str = "/run/x/api.sock") -> Request:
    headers = [(b"x-olladist-key", key.encode())] if key else []
    headers += [(b"authorization", authorization.encode())] if authorization else []
    return Request({"type": "http", "headers": headers, "server": (socket, None), "method": "GET", "path": "/"})


def told(answer: Response | None) -> tuple[int, str]:
    assert answer is not None
    return answer.status_code, json.loads(bytes(answer.body))["error"]


def route(method: str, path: str) -> Route:
    found = find(method, path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("asked", "settings", "keys", "who"),
    [
        (request(), OPEN, {}, Caller()),
        (request(key="gone"), OPEN, {}, Caller()),
        (request(key="team"), OPEN, KEYS, Caller(KEYS["team"])),
        (request(authorization=f"Bearer {TOKEN}"), TOKENED, KEYS, Caller(admin=True)),
        (request(authorization=f"bearer  {TOKEN} "), TOKENED, KEYS, Caller(admin=True)),
        (request(key="ops", authorization="Bearer wrong"), TOKENED, KEYS, Caller(KEYS["ops"])),
        (request(key="ops", authorization=f"Basic {TOKEN}"), TOKENED, KEYS, Caller(KEYS["ops"])),
        (request(authorization="Bearer "), OPEN, {}, Caller()),
        (request(socket="/run/x/operator.sock"), OPEN, KEYS, Caller(operator=True)),
    ],
)
def test_who_calls(asked: Request, settings: Settings, keys: dict[str, Key], who: Caller) -> None:
    """The operator by the socket, an administrator by the token, a user by the key that a worker has checked."""
    assert caller(asked, settings, keys) == who


@pytest.mark.parametrize("key", ["", "gone"])
def test_a_caller_without_a_known_key_may_nothing_where_there_are_keys(key: str) -> None:
    """Workers let nobody in like this but to what is open to all; a key that was taken away a moment ago is no key."""
    nobody = caller(request(key=key), OPEN, KEYS)

    assert not nobody.may_manage
    assert not nobody.may_administrate
    assert not nobody.may_use("tiny")


def test_models_are_changed_by_those_who_may_manage() -> None:
    """The others get a 403 that names their key and what it lacks."""
    for who in (Caller(), Caller(KEYS["ops"]), Caller(admin=True), Caller(operator=True)):
        assert rights.must_manage(who) is None

    assert told(rights.must_manage(Caller(KEYS["team"]))) == (
        403,
        "the key 'team' may not change models: it has no `manage` in the inventory",
    )
    answer = rights.must_manage(Caller(KEYS["team"]), Dialect.ANTHROPIC)
    assert answer is not None
    assert json.loads(bytes(answer.body))["error"]["type"] == "permission_error"


def test_administration_is_closed_without_a_token() -> None:
    """Not open: a 403 says how to open it. With a token configured, anything but that is a 401."""
    for who in (Caller(), Caller(KEYS["ops"])):
        status, text = told(rights.must_administrate(who, OPEN))
        assert status == 403
        assert "OLLAMA_ADMIN_TOKEN" in text
        answer = rights.must_administrate(who, TOKENED)
        assert answer is not None
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for who in (Caller(admin=True), Caller(operator=True)):
        assert rights.must_administrate(who, OPEN) is None


def test_metrics_are_open_where_everything_is() -> None:
    """With keys they need the token: a user's key does not open them."""
    keyed = Keys((ApiKey("a", sha256="a" * 64),))

    assert rights.must_see_metrics(Caller(), OPEN, Keys()) is None
    assert rights.must_see_metrics(Caller(KEYS["ops"]), TOKENED, keyed) is not None
    assert rights.must_see_metrics(Caller(admin=True), TOKENED, keyed) is None


def test_a_closed_model_is_one_that_does_not_exist() -> None:
    """In Ollama's words for the route, so that a key does not tell which models there are."""
    who = Caller(KEYS["team"])

    assert rights.must_use(who, route("POST", "/api/show"), "tiny:latest") is None
    assert told(rights.must_use(who, route("POST", "/api/show"), "big")) == (404, "model 'big' not found")
    assert told(rights.must_use(who, route("DELETE", "/api/delete"), "big")) == (404, "model 'big' not found")


def test_listings_show_what_a_key_opens() -> None:
    """And everything to everybody else, in the order it came."""
    rows = ["big", "tiny:latest", "tiny:8b"]

    assert rights.visible(Caller(KEYS["team"]), rows, str) == ["tiny:latest"]
    assert rights.visible(Caller(), rows, str) == rows
    assert rights.visible(Caller(KEYS["ops"]), rows, str) == rows
