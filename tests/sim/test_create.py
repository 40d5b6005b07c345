"""create: layers from files, from models and from the request."""

import hashlib
import json
from pathlib import Path

from olladist.ollama.names import parse_name
from olladist.sim import gguf
from tests.sim.conftest import ASK, SENTENCE, Ollama, Serve


async def test_a_gguf_becomes_a_model(serve: Serve, tmp_path: Path) -> None:
    """Upload, then create; the digest of config and parameters is the one a real 0.17.4 makes (recorded)."""
    async with serve() as ollama:
        gguf.write(tmp_path / "m", SENTENCE)
        digest = "sha256:" + hashlib.sha256((tmp_path / "m").read_bytes()).hexdigest()
        await ollama.client.post(f"/api/blobs/{digest}", content=(tmp_path / "m").read_bytes())
        made = await ollama.client.post(
            "/api/create", json={"model": "sky", "files": {"sky.gguf": digest}, "parameters": {"num_thread": 1}}
        )
        entry = ollama.server.store.entry(parse_name("sky"))

        assert [json.loads(line)["status"].split(" sha256")[0] for line in made.text.splitlines()] == [
            *("parsing GGUF", "using existing layer", "creating new layer", "writing manifest", "success")
        ]
        assert digest == "sha256:9e76d0355c294bd524f321f5ae203ab81d645440ec22f821be232024d0c3c677"
        assert entry.manifest.config.digest == "sha256:28547a267cab96b465eda4a8aaec42ba20feebef1f219b65a87150faedeae075"


async def test_a_model_from_a_model_keeps_what_is_not_said_anew(ollama: Ollama) -> None:
    """Template and system are replaced, parameters merged, licences added."""
    first = {"model": "a", "from": "sky", "system": "Be.", "parameters": {"seed": 1, "stop": ["x"]}, "license": "MIT"}
    await ollama.post("/api/create", first | {"stream": False})
    second = {"model": "b", "from": "a", "template": "{{ .System }}", "parameters": {"seed": 2}, "license": ["BSD"]}
    await ollama.post("/api/create", second | {"stream": False})
    model = ollama.server.store.read(parse_name("b"))

    assert (model.template, model.system, model.parent) == ("{{ .System }}", "Be.", "a:latest")
    assert model.parameters == {"seed": 2, "stop": ["x"]}
    assert model.licenses == ["MIT", "BSD"]
    assert model.key == ollama.server.store.read(parse_name("sky")).key


async def test_what_is_made_anew_takes_its_old_layers_along(ollama: Ollama) -> None:
    """A layer that no model names any more is removed at once."""
    await ollama.post("/api/create", {"model": "a", "from": "sky", "system": "one", "stream": False})
    old = ollama.server.store.entry(parse_name("a")).manifest
    await ollama.post("/api/create", {"model": "a", "from": "sky", "system": "two", "stream": False})

    left = {layer.digest for layer in old.blobs if ollama.server.store.blob(layer.digest).exists()}
    assert left == {old.model_digests[0]}


async def test_a_base_that_is_not_here_is_pulled(serve: Serve) -> None:
    """From the registry; with one success at the end, or the registry's error."""
    async with serve() as ollama:
        made = await ollama.client.post("/api/create", json={"model": "mine", "from": "qwen3:0.6b", "system": "Be."})
        failed = await ollama.client.post("/api/create", json={"model": "mine", "from": "nope"})
        answer = await ollama.post("/api/chat", {"model": "mine", "messages": ASK, "stream": False})

        assert [json.loads(line).get("status") for line in made.text.splitlines()].count("success") == 1
        assert json.loads(failed.text.splitlines()[-1]) == {"error": "pull model manifest: file does not exist"}
        assert answer["message"]["content"] == " The smallest of a large family speaks."
