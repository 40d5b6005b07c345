"""No log line, metric, document or file of a whole gateway holds a prompt, an answer, a key or a token."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.gateway.whole import ADMIN, TOKEN, Whole, whole

PROMPT = "marker-of-a-prompt-4711"
KEY = "marker-of-a-key-0815-abcdefgh"
WRONG = "marker-of-a-wrong-key-0816-abcdefgh"
SECRETS = (PROMPT, KEY, WRONG, TOKEN)
KEYS = '[gateway.keys.ci]\nkey_env = "CI_KEY"\nmanage = true\ntokens_per_minute = 100000\n'

BODIES = {
    "/api/generate": {"model": "tiny", "prompt": PROMPT, "stream": False},
    "/api/chat": {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}]},
    "/api/embed": {"model": "tiny", "input": PROMPT},
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "stream": True},
    "/v1/messages": {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": PROMPT}]},
    "/v1/completions": {"model": PROMPT, "prompt": PROMPT},
    "/api/show": {"model": "tiny", "system": PROMPT},
    "/api/pull": {"model": "tiny", "password": PROMPT, "stream": False},
    "/admin/mode": {"mode": PROMPT},
}
BROKEN = (f'{{"model":"tiny","prompt":"{PROMPT}', f'{{"model":["{PROMPT}"]}}', PROMPT, f'{{"prompt":"{PROMPT}"}}')
DOCUMENTS = (
    "/metrics", "/admin/stats", "/api/distributed/status", "/api/distributed/nodes", "/api/distributed/models",
    "/healthz", "/readyz", "/api/tags", "/api/ps",
)  # fmt: skip


async def asked(gateway: Whole) -> None:
    """Everything that a client may send, good and bad, with keys that are right, wrong and in the wrong place."""
    keys: tuple[dict[str, str], ...] = (
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY},
        {"authorization": f"Bearer {WRONG}"},
        {},
        ADMIN,
    )
    async with gateway.http() as client:
        for path, body in BODIES.items():
            for headers in keys:
                await client.post(path, json=body, headers=headers)
        for content in BROKEN:
            for path in ("/api/generate", "/v1/messages", "/api/pull", "/admin/fallback"):
                await client.post(path, content=content, headers=keys[0])
        await client.get(f"/{PROMPT}?key={KEY}", headers=keys[0])
        await client.post("/api/generate", json=BODIES["/api/generate"], headers={**keys[0], "x-olladist-key": KEY})
        await client.delete(f"/api/user/keys/{KEY}", headers=keys[0])
    await broken_heads(gateway)


async def broken_heads(gateway: Whole) -> None:
    """Requests that are refused before anybody knows who sends them."""
    port = int(gateway.url.rpartition(":")[2])
    for head in (
        f"POST /{PROMPT} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nBad\x01: {PROMPT}\r\n\r\n",
        f"{KEY}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()


@pytest.mark.timeout(120)
async def test_nothing_that_a_gateway_says_or_keeps_holds_a_prompt_or_a_key(tmp_path: Path) -> None:
    """With verbose logs and after every kind of request: output, metrics, documents, and all files, kept answers included."""
    async with whole(tmp_path) as gateway:
        environ = {"CI_KEY": KEY, "OLLAMA_ADMIN_TOKEN": TOKEN}
        await gateway.start(environ, inventory=KEYS, verbose=True)
        await asked(gateway)
        said = ""
        async with gateway.http() as client:
            for path in DOCUMENTS:
                response = await client.get(path, headers=ADMIN)
                assert response.status_code == 200, (path, response.text)
                said += response.text
            metrics = (await client.get("/metrics", headers=ADMIN)).text
        await gateway.stop()
        said += gateway.said
        files = [file for file in tmp_path.rglob("*") if file.is_file() and is_the_gateways(file, tmp_path)]
        kept = b"".join(file.read_bytes() for file in files)

    assert 'olladist_key_requests_total{key="ci"}' in metrics
    assert "olladist_tokens_total{" in metrics
    assert files
    assert gateway.said
    for secret in SECRETS:
        assert secret not in said
        assert secret.encode() not in kept


def is_the_gateways(file: Path, folder: Path) -> bool:
    """Not one of the simulated Ollamas'."""
    return file.relative_to(folder).parts[0] not in {"gpu1", "gpu2", "local"}


async def test_a_wrong_key_is_told_nothing_of_itself(tmp_path: Path) -> None:
    """The refusal does not repeat what was sent."""
    async with whole(tmp_path) as gateway:
        await gateway.start({"CI_KEY": KEY}, inventory=KEYS)
        refused: httpx.Response = await gateway.post(
            "/api/generate", BODIES["/api/generate"], authorization=f"Bearer {WRONG}"
        )

    assert refused.status_code == 401
    assert WRONG not in refused.text
    assert PROMPT not in refused.text
