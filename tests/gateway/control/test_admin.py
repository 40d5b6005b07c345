import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from olladist.gateway.access import digest_of
from olladist.gateway.control.admin import FallbackSet, KeptAnswers, ModeSet
from olladist.gateway.control.app import make_app
from olladist.gateway.control.choices import Choices
from olladist.gateway.control.keys import Keys
from olladist.gateway.control.modes import Chosen
from olladist.gateway.control.moves.stores import HostStores
from olladist.gateway.control.parts import Parts
from olladist.gateway.control.prober import Prober
from olladist.gateway.control.process import assemble
from olladist.gateway.control.roster import Roster
from olladist.gateway.control.state import open_state
from olladist.gateway.control.upstreams import Upstreams
from olladist.gateway.lease import Keep
from olladist.gateway.settings import Overrides, Settings
from olladist.inventory.model import ApiKey, Fallback, Mode
from olladist.ssh.connections import Connections
from tests.gateway.control.declarations import declaration, declared
from tests.gateway.control.nodes import task_group, wait_until

TOKEN, KEY = "admin-0123456789abcdef", "user-0123456789abcdef"
ADMIN = {"authorization": f"Bearer {TOKEN}"}
WITH_LOCAL = '[hosts.gpu1]\n[gateway]\nlocal = "http://127.0.0.1:11435"\n'
PATHS = ("/admin/mode", "/admin/fallback", "/admin/cache")


@contextmanager
def state_file() -> Iterator[sqlite3.Connection]:
    with TemporaryDirectory() as scratch, closing(open_state(Path(scratch) / "state.sqlite3")) as state:
        yield state


@asynccontextmanager
async def gateway(
    text: str = WITH_LOCAL, *, token: str = TOKEN, now: Callable[[], float] = time.monotonic
) -> AsyncIterator[Parts]:
    """Without hosts that answer: none of this needs any."""
    said = declared(text)
    keys = Keys([ApiKey(name="alice", sha256=digest_of(KEY.encode()), manage=True)])
    document = Settings("/run/x", "inventory.toml", admin_digest=digest_of(token.encode()) if token else "")
    with state_file() as state, TemporaryDirectory() as scratch:
        roster = Roster(now, said.now.serving)
        async with task_group() as tasks:
            prober = Prober(roster, tasks)
            stores = HostStores(Connections(state=Path(scratch)), said)
            parts = assemble(document, said, keys, state, prober, Upstreams(roster), stores)
            yield parts
            await parts.cache.close()
            await stores.close()


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def post(parts: Parts, path: str, body: bytes | object, **headers: str) -> httpx.Response:
    async with client(make_app(parts)) as asking:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return await asking.post(path, content=content, headers=headers or ADMIN)


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_administration_is_closed(path: str) -> None:
    """Whatever is sent; the answer says how to open it."""
    async with gateway(token="") as parts, client(make_app(parts)) as asking:
        for headers in ({}, ADMIN, {"authorization": "Bearer "}, {"x-olladist-key": "alice"}):
            for method in ("GET", "POST"):
                answer = await asking.request(method, path, json={"mode": "local"}, headers=headers)
                assert answer.status_code == 403
                assert "OLLAMA_ADMIN_TOKEN" in answer.json()["error"]
        assert parts.choices.chosen == Chosen()


@pytest.mark.parametrize("path", PATHS)
async def test_only_the_token_opens_it(path: str) -> None:
    """Another one, none, and a user's key though he may manage models: 401."""
    async with gateway() as parts, client(make_app(parts)) as asking:
        for headers in (
            {},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {KEY}", "x-olladist-key": "alice"},
        ):
            answer = await asking.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await asking.get(path, headers=ADMIN)).status_code == 200
        assert (await asking.put(path, headers=ADMIN)).status_code == 405


async def test_the_operator_needs_no_token() -> None:
    """Who may open his socket is the gateway's own user."""
    async with gateway(token="") as parts:
        app = make_app(parts)

        async def over_his_socket(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "server": (parts.settings.operator_socket, None)}, receive, send)

        async with client(over_his_socket) as asking:
            answer = await asking.post("/admin/mode", json={"mode": "standalone"})
        assert (answer.status_code, answer.json()["mode"]) == (200, "standalone")


async def test_the_mode_changes_at_once() -> None:
    """For every request from then on, and every answer says so; null goes back to what the inventory says."""
    async with gateway() as parts:
        told: list[str] = []
        parts.roster.told.append(lambda: told.append(parts.roster.serving.mode))

        answer = await post(parts, "/admin/mode", {"mode": "local"})

        assert answer.json() == {
            "schema": "olladist.gateway.mode",
            "version": 1,
            "mode": "local",
            "source": "administrator",
            "local": "http://127.0.0.1:11435",
        }
        assert (answer.headers["x-ollama-mode"], answer.headers["x-ollama-distributed"]) == ("local", "false")
        answer = await post(parts, "/admin/mode", {"mode": None})
        assert (answer.json()["mode"], answer.json()["source"]) == ("distributed", "inventory")
        assert told == ["local", "distributed"]


@pytest.mark.parametrize(
    ("said", "fallback", "source"),
    [
        (True, ["local", "cache"], "administrator"),
        (False, [], "administrator"),
        ([], [], "administrator"),
        (["cache", "local", "cache"], ["local", "cache"], "administrator"),
        (["cache"], ["cache"], "administrator"),
        (None, ["local", "cache"], "inventory"),
    ],
)
async def test_what_stands_in_can_be_chosen(said: object, fallback: list[str], source: str) -> None:
    """All, nothing, or some; in the order in which they are tried, however they were written."""
    async with gateway() as parts:
        answer = await post(parts, "/admin/fallback", {"fallback": said})

        assert (answer.json()["fallback"], answer.json()["source"]) == (fallback, source)
        assert list(parts.roster.serving.fallback) == fallback


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/admin/mode", b"", 'the body must be {"mode": "distributed"}'),
        ("/admin/mode", b"{", "the body must be"),
        ("/admin/mode", b"\xff", "the body must be"),
        ("/admin/mode", {}, "missing required field `mode`"),
        ("/admin/mode", {"mode": "Local"}, "Invalid enum value 'Local'"),
        ("/admin/mode", {"mode": 1}, "the body must be"),
        ("/admin/mode", {"mode": "local", "force": True}, "unknown field `force`"),
        ("/admin/mode", ["local"], "the body must be"),
        ("/admin/mode", b"[" * 5000, "the body must be"),
        ("/admin/mode", b" " * 70_000, "more than 65536 bytes"),
        ("/admin/fallback", {"fallback": "local"}, "the body must be"),
        ("/admin/fallback", {"fallback": ["nodes"]}, "Invalid enum value 'nodes'"),
        ("/admin/fallback", {"mode": "local"}, "the body must be"),
        ("/admin/cache", {"clear": False}, 'the body must be {"clear": true}'),
        ("/admin/cache", {}, "the body must be"),
    ],
)
async def test_what_makes_no_sense_is_refused(path: str, body: object, said: str) -> None:
    """400 with what the page takes and what was wrong, and nothing has changed."""
    async with gateway() as parts:
        answer = await post(parts, path, body)

        assert answer.status_code == 400
        assert said in answer.json()["error"]
        assert parts.choices.chosen == Chosen()


async def test_a_mode_that_cannot_be_is_refused() -> None:
    """Without a local Ollama there is nothing that could serve alone; the answer says where to name one."""
    async with gateway("[hosts.gpu1]\n") as parts:
        answer = await post(parts, "/admin/mode", {"mode": "standalone"})

        assert answer.status_code == 400
        assert "mode standalone (set by the administrator) needs a local Ollama" in answer.json()["error"]
        assert "OLLAMA_LOCAL_ADDR" in answer.json()["error"]
        assert parts.roster.serving.mode is Mode.DISTRIBUTED


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["local", "cache", "distributed", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mode", "fallback", "x"]), inner),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["mode", "fallback"]), JSON), max_size=6))
def test_whatever_is_sent_the_page_says_what_is_in_force(sent: list[tuple[str, Any]]) -> None:
    """200 or 400, never another error; what was refused changes nothing, and a restart finds what was accepted last."""

    async def run() -> None:
        async with gateway() as parts:
            for path, body in sent:
                before = parts.roster.serving
                answer = await post(parts, f"/admin/{path}", body)
                assert answer.status_code in {200, 400}
                assert answer.status_code == 200 or parts.roster.serving == before
            roster = Roster(time.monotonic)
            assert Choices(parts.state, parts.declared, Overrides(), roster).chosen == parts.choices.chosen
            assert roster.serving == parts.roster.serving

    asyncio.run(run())


async def test_kept_answers_can_be_looked_at_and_cleared() -> None:
    """How many, how large, and none afterwards."""
    async with gateway() as parts:
        with TemporaryDirectory() as scratch:
            parts.cache.open(Path(scratch) / "kept")
            assert parts.cache.expect("d" * 64, "a" * 64)
            parts.cache.keep(Keep("d" * 64, "", "tiny", "application/json", b"{}"))
            await wait_until(lambda: len(parts.cache) == 1, "an answer is kept")
            async with client(make_app(parts)) as asking:
                shown = (await asking.get("/admin/cache", headers=ADMIN)).json()
            assert (shown["answers"], shown["stored"], shown["bytes_max"]) == (1, 1, 64 * 2**20)

            answer = await post(parts, "/admin/cache", {"clear": True})

            assert (answer.status_code, answer.json()["answers"], answer.json()["bytes"]) == (200, 0, 0)


def test_a_choice_of_another_version_is_no_choice() -> None:
    """What cannot be read counts as not chosen."""
    with state_file() as state:
        state.execute("INSERT INTO chosen VALUES ('mode', 'turbo'), ('fallback', 'moon,cache'), ('colour', 'red')")

        choices = Choices(state, declared(WITH_LOCAL), Overrides(), Roster(lambda: 0.0))

        assert choices.chosen == Chosen(None, (Fallback.CACHE,))


def test_a_mode_without_its_ollama_is_forgotten() -> None:
    """The inventory has lost the local Ollama: the fleet serves again, now and after a restart."""
    with state_file() as state:
        said, roster = declared(WITH_LOCAL), Roster(lambda: 0.0)
        choices = Choices(state, said, Overrides(), roster)
        choices.choose(Chosen(Mode.STANDALONE, (Fallback.CACHE,)))
        assert str(roster.serving.mode) == "standalone"

        said.replace(declaration("[hosts.gpu1]\n"))

        assert str(roster.serving.mode) == "distributed"
        said.replace(declaration(WITH_LOCAL))
        assert str(roster.serving.mode) == "distributed"
        assert Choices(state, said, Overrides(), Roster(lambda: 0.0)).chosen == Chosen(None, (Fallback.CACHE,))


def test_every_field_is_documented() -> None:
    """The page names every field of what administrators are answered."""
    page = (Path(__file__).parents[3] / "docs/reference/gateway-api.md").read_text()

    for struct in (ModeSet, FallbackSet, KeptAnswers):
        section = page.split(f"/admin/{struct.__struct_defaults__[0].rpartition('.')[2]}`, `POST", 1)[1].split("\n## ")[
            0
        ]
        assert set(struct.__struct_fields__) - {"schema", "version"} <= set(re.findall(r"`([a-z_]+)`", section))
