from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.gateway.control.models.designated import choose
from olladist.sim.hosts import free_ports
from tests.gateway.control.models.fleets import Sim, fleet, scripted
from tests.gateway.control.models.test_pull import stream
from tests.gateway.control.nodes import Node, Raw, running, tag

ROUTES = (
    ("POST", "/api/me"),
    ("POST", "/api/signout"),
    ("DELETE", "/api/user/keys/c2VjcmV0"),
    ("GET", "/api/experimental/aliases"),
    ("POST", "/api/experimental/web_search"),
)


@given(st.dictionaries(st.integers(0, 9), st.sampled_from(["gpu1", "gpu2", "gpu3"])), st.sampled_from([None, "gpu2"]))
def test_there_is_one_designated_node(hosts: dict[int, str], cloud: str | None) -> None:
    """The first of the named host, else of all; a host that is named and not there has no stand-in."""
    chosen = choose(hosts, cloud)
    wanted = [number for number, host in hosts.items() if cloud in {None, host}]

    assert chosen == (wanted[0] if wanted else None)


def signed_in() -> Node:
    node = Node()
    node.holds(tag("tiny:latest"))
    for _, path in ROUTES:
        node.answers[path] = (401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"})
    return node


async def test_a_sign_in_is_that_of_one_host(run_dir: Path) -> None:
    """The first, or the one that the inventory names; its answers pass as they are."""
    one, two = signed_in(), signed_in()
    async with running(one, two):
        async with scripted(run_dir, gpu1=one, gpu2=two) as f:
            for method, path in ROUTES:
                answer = await f.request(method, path, {} if method == "POST" else None)
                assert answer.status_code == 401
                assert answer.json() == {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}
                assert answer.headers["x-ollama-node"] == "gpu1"
        (run_dir / "api.sock").unlink()
        async with scripted(run_dir, 'cloud = "gpu2"', gpu1=one, gpu2=two) as f:
            assert (await f.request("POST", "/api/me")).headers["x-ollama-node"] == "gpu2"


async def test_without_that_host_there_is_no_other(run_dir: Path) -> None:
    """503 that names it: another host is signed in as somebody else, or not at all. Only what says nothing of an account is answered."""
    one, two = signed_in(), signed_in()
    for node in (one, two):
        node.answers["/api/status"] = (200, {"cloud": {"disabled": False, "source": "none"}})
    async with running(one, two), scripted(run_dir, gpu1=one, gpu2=two) as f:
        await one.stop()
        await f.gateway.wait_state("gpu1", "down")
        answer = await f.request("POST", "/api/me")
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("gpu1 does this for all hosts, and cannot be reached: ")
        assert "retry-after" in answer.headers
        assert (await f.request("GET", "/api/status")).headers["x-ollama-node"] == "gpu2"


async def test_a_push_goes_out_from_a_host_that_has_the_model(run_dir: Path) -> None:
    """The designated one where it has it; the stream passes as it is."""
    lines: list[dict[str, Any]] = [{"status": "retrieving manifest"}, {"status": "success"}]
    one, two = Node(), Node()
    one.holds(tag("other:latest"))
    two.holds(tag("tiny:latest"), tag("other:latest"))
    for node in (one, two):
        node.answers["/api/push"] = stream(*lines)
    async with running(one, two), scripted(run_dir, gpu1=one, gpu2=two) as f:
        for model, node_name in (("tiny", "gpu2"), ("other", "gpu1"), ("nope", "gpu1")):
            assert await f.lines("/api/push", {"model": model, "insecure": True}) == lines
            answer = await f.request("POST", "/api/push", {"model": model})
            assert answer.headers["x-ollama-node"] == node_name

        answer = await f.request("POST", "/api/push", {})
        assert (answer.status_code, answer.json()) == (400, {"error": "model is required"})

        cut = stream(*lines)
        assert isinstance(cut, Raw)
        one.answers["/api/push"] = Raw(cut.data[:-6])
        with pytest.raises(Exception, match="peer closed connection"):
            await f.request("POST", "/api/push", {"model": "other"})


KEYS = """
[gateway.keys.reader]
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
models = ["tiny"]
[gateway.keys.writer]
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
models = ["tiny", "twin"]
manage = true
"""


async def test_a_key_changes_only_what_it_may(run_dir: Path) -> None:
    """Without `manage` every change is a 403; models that a key does not open do not exist for it."""
    (port,) = free_ports(1)
    sim = Sim("gpu1", run_dir / "gpu1", port)
    await sim.start()
    for model in ("tiny", "secret"):
        await sim.make(model)
    async with fleet(run_dir, text=KEYS, sims=(sim,)) as f:
        reader, writer = {"x-olladist-key": "reader"}, {"x-olladist-key": "writer"}
        for method, path in (
            *ROUTES[:3],
            ("POST", "/api/pull"),
            ("POST", "/api/push"),
            ("POST", "/api/copy"),
            ("DELETE", "/api/delete"),
        ):
            answer = await f.request(method, path, {"model": "tiny"}, headers=reader)
            assert (answer.status_code, "'reader' may not change models" in answer.text) == (403, True)

        for headers in (reader, writer):
            listed = (await f.request("GET", "/api/tags", headers=headers)).json()["models"]
            assert [row["name"] for row in listed] == ["tiny:latest"]
            listed = (await f.request("GET", "/v1/models", headers=headers)).json()["data"]
            assert [row["id"] for row in listed] == ["tiny:latest"]
            for method, path, body in (
                ("POST", "/api/show", {"model": "secret"}),
                ("GET", "/v1/models/secret", None),
                ("POST", "/api/generate", {"model": "secret", "keep_alive": 0}),
            ):
                assert (await f.request(method, path, body, headers=headers)).status_code == 404

        for body in ({"source": "secret", "destination": "twin"}, {"source": "tiny", "destination": "stolen"}):
            assert (await f.request("POST", "/api/copy", body, headers=writer)).status_code == 404
        answer = await f.request("DELETE", "/api/delete", {"model": "secret"}, headers=writer)
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'secret' not found"})
        answer = await f.request("POST", "/api/copy", {"source": "tiny", "destination": "twin"}, headers=writer)
        assert answer.status_code == 200
        assert sorted(await f.sims[0].tags()) == ["secret:latest", "tiny:latest", "twin:latest"]
