"""What happens in a whole gateway, as its metrics say it."""

from pathlib import Path

from prometheus_client import parser

from tests.gateway.whole import ADMIN, TOKEN, Whole, until, whole

EMBED = {"model": "tiny", "input": "The same each time."}


async def value(gateway: Whole, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    async with gateway.http() as client:
        text = (await client.get("/metrics")).text
    samples = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def test_retries_fallbacks_and_kept_answers_are_counted(tmp_path: Path) -> None:
    """A node that dies costs a retry; without nodes the local Ollama stands in, and after it what was kept; each with its reason."""
    async with whole(tmp_path) as gateway:
        await gateway.start(inventory=f'local = "{gateway.local.url}"\nstrategy = "round-robin"')
        assert (await gateway.post("/api/embed", EMBED)).status_code == 200
        await until(lambda: is_at_least(gateway, 1, "olladist_cache_stored_total"), "the answer is kept")

        await gateway.gpu1.kill()
        for _ in range(2):  # in turn, so that one of them comes to the dead node unless that is known already
            assert (await gateway.post("/api/chat", {"model": "tiny", "messages": []})).status_code == 200
        await gateway.knows_down(gateway.gpu1)
        retried = await value(gateway, "olladist_retries_total")
        failed = await value(gateway, "olladist_requests_total", outcome="connect")
        died = await value(gateway, "olladist_requests_total", outcome="died")

        await gateway.gpu2.kill()
        await gateway.knows_down(gateway.gpu1, gateway.gpu2)
        assert (await gateway.post("/api/chat", {"model": "tiny", "messages": []})).status_code == 200
        await gateway.local.kill()
        await until(lambda: is_at_least(gateway, 1, "olladist_node_state", node="local", state="down"), "it is known")
        assert (await gateway.post("/api/embed", EMBED)).headers["x-ollama-fallback"] == "cache"
        # The word that a request has ended comes after its answer.
        await until(lambda: is_at_least(gateway, 1, "olladist_cache_hits_total"), "the hit is counted")

        assert retried == failed + died
        assert await value(gateway, "olladist_retries_total", reason="other") == 0
        for kind in ("local", "cache"):
            assert await value(gateway, "olladist_fallbacks_total", kind=kind, reason="down") == 1
        assert await value(gateway, "olladist_requests_total", node="local", route="chat", status="200") == 1
        assert await value(gateway, "olladist_probe_failures_total") >= 3
        assert await value(gateway, "olladist_worker_resident_bytes", worker="1") > 2**20
        assert await value(gateway, "olladist_workers") == 1


async def test_a_users_key_opens_nothing_that_is_for_those_who_watch(tmp_path: Path) -> None:
    """Metrics and statistics want the admin token once there are keys; health and readiness want nothing."""
    key = "0123456789abcdef"
    async with whole(tmp_path) as gateway:
        environ = {"CI_KEY": key, "OLLAMA_ADMIN_TOKEN": TOKEN}
        await gateway.start(environ, inventory='[gateway.keys.ci]\nkey_env = "CI_KEY"\nmanage = true')
        got: dict[str, list[int]] = {}
        async with gateway.http() as client:
            for path in ("/metrics", "/admin/stats", "/healthz", "/readyz"):
                for headers in ({}, {"authorization": f"Bearer {key}"}, {"x-api-key": key}, ADMIN):
                    got.setdefault(path, []).append((await client.get(path, headers=headers)).status_code)

    assert got == {
        "/metrics": [401, 401, 401, 200],
        "/admin/stats": [401, 401, 401, 200],
        "/healthz": [200] * 4,
        "/readyz": [200] * 4,
    }


async def is_at_least(gateway: Whole, wanted: float, name: str, **labels: str) -> bool:
    return await value(gateway, name, **labels) >= wanted
