"""Rates of keys through a whole gateway: workers, control process, and the answers' own counts."""

from pathlib import Path

import pytest

from tests.gateway.whole import ADMIN, TOKEN, Whole, until, whole

KEY = "0123456789abcdef"
BEARER = f"Bearer {KEY}"
BODY = {"model": "tiny", "prompt": "Why is the sky blue?", "stream": False}
CHAT = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Why?"}]}


async def started(gateway: Whole, limit: str) -> None:
    environ = {"CI_KEY": KEY, "OLLAMA_ADMIN_TOKEN": TOKEN}
    await gateway.start(environ, inventory=f'workers = 2\n[gateway.keys.ci]\nkey_env = "CI_KEY"\n{limit}\n')


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/api/generate", BODY, None),
        ("/v1/chat/completions", CHAT, {"type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}),
        ("/v1/messages", CHAT, {"type": "rate_limit_error"}),
    ],
)
async def test_a_key_that_asks_too_much_is_told_to_wait(
    tmp_path: Path, path: str, body: object, error: dict[str, object] | None
) -> None:
    """429 with Retry-After in the shape of the client's protocol, whichever worker it comes to; listings still answer."""
    async with whole(tmp_path) as gateway:
        await started(gateway, "requests_per_minute = 2")
        # Each on a connection of its own, which the kernel gives to either worker.
        served = [(await gateway.post(path, body, authorization=BEARER)).status_code for _ in range(2)]
        refused = await gateway.post(path, body, authorization=BEARER)
        listed = await gateway.get("/api/tags", authorization=BEARER)

    assert served == [200, 200]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    shape = refused.json()["error"]
    text = shape if error is None else shape.pop("message")
    assert text.startswith("the key 'ci' has used its 2 requests per minute, please try again in ")
    assert error is None or shape == error
    assert listed["models"]


async def test_a_key_pays_for_the_tokens_of_its_answers(tmp_path: Path) -> None:
    """What the first answer says that it took is more than a minute's worth: the next one waits. Metrics and statistics know."""
    async with whole(tmp_path) as gateway:
        await started(gateway, "tokens_per_minute = 3")
        first = await gateway.post("/api/generate", BODY, authorization=BEARER)
        took = first.json()["prompt_eval_count"] + first.json()["eval_count"]

        async def charged() -> bool:
            stats = await gateway.get("/admin/stats", **ADMIN)
            return bool(stats["keys"]["ci"]["start"]["output_tokens"])

        await until(charged, "the answer is charged")
        refused = await gateway.post("/api/generate", BODY, authorization=BEARER)
        stats = await gateway.get("/admin/stats", **ADMIN)
        metrics = ""

        async def tallied() -> bool:
            nonlocal metrics
            async with gateway.http() as client:
                metrics = (await client.get("/metrics", headers=ADMIN)).text
            return 'olladist_worker_events_total{event="connections"' in metrics

        await until(tallied, "a worker says what it has counted")

    assert took > 3
    assert refused.status_code == 429
    # The debt, and one token to go on with, at three a minute.
    assert int(refused.headers["retry-after"]) <= (took - 3 + 1) * 20
    assert "3 tokens per minute" in refused.json()["error"]
    figures = stats["keys"]["ci"]["start"]
    assert (figures["requests"], figures["rate_limited"]) == (1, 1)
    assert figures["prompt_tokens"] + figures["output_tokens"] == took
    assert figures["output_tokens_per_second"] > 0
    assert figures["first_byte"]["p50"] > 0
    assert 'olladist_rate_limited_total{key="ci",limit="tokens"} 1.0' in metrics
