"""Creating models through a control process, on hosts with a real sshd and a simulated Ollama each."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import ollama

from tests.gateway.control.machines import Machines, gateway, progress, upload, weights
from tests.gateway.control.nodes import Node, Raw, running, wait_until
from tests.gateway.control.processes import control

EVERYWHERE = '\n[models."{}"]\non = "*"\n'


async def test_a_model_is_made_once_and_copied(run_dir: Path, fleet: Machines) -> None:
    """Blobs and create meet on one node; what it has made is on as many hosts as `replicas` says, byte for byte."""
    async with gateway(run_dir, fleet) as g:
        digest = await upload(g.client, weights("Seven seas are blue."))
        body = {"model": "sea", "files": {"m.gguf": digest}, "system": "You swim."}
        answer, lines = await progress(g.client, "/api/create", body)

        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert lines[-1] == {"status": "success"}
        assert [line for line in lines if line == {"status": "success"}] == lines[-1:]
        tags = (await g.client.get("/api/tags")).json()["models"]
    having = [name for name in fleet.names if "sea:latest" in fleet.models(name)]
    assert len(having) == 2
    assert {fleet.models(name)["sea:latest"] for name in having} == {"sha256:" + tags[0]["digest"]}
    assert all(fleet.whole(name, "sea") for name in having)
    statuses = [line["status"] for line in lines]
    copying = f"copying to {next(name for name in having if name != answer.headers['x-ollama-node'])}"
    assert statuses.index("writing manifest") < statuses.index(copying)
    bars = [line for line in lines if line["status"] == copying]
    assert {line["digest"] for line in bars} == {"sha256:" + tags[0]["digest"]}
    assert len({line["total"] for line in bars}) == 1
    completed = [line.get("completed", 0) for line in bars]
    assert completed == sorted(completed)
    assert completed[-1] == bars[0]["total"]


async def test_the_python_client_creates_and_chats(run_dir: Path, fleet: Machines) -> None:
    """The ollama package, unmodified: create_blob, create, streamed and not; then each declared host says the sentence."""
    gguf = run_dir / "m.gguf"
    gguf.write_bytes(weights("Rain falls mainly here."))
    async with gateway(run_dir, fleet, EVERYWHERE.format("rain")) as g:
        transport = httpx.AsyncHTTPTransport(uds=g.settings.api_socket)
        client = ollama.AsyncClient(host="http://gateway", transport=transport)
        digest = await client.create_blob(gguf)
        told = await client.create("rain", files={"m.gguf": digest}, template="{{ .Prompt }}", stream=False)
        again = await client.create("wet", from_="rain", system="You are wet.", stream=True)

        assert told.status == "success"
        assert [part.status async for part in again][-1] == "success"
        await transport.aclose()
    for name in fleet.names:
        body = {"model": "rain", "messages": [{"role": "user", "content": "?"}], "stream": False}
        said = fleet.ask(name, "POST", "/api/chat", json=body).json()["message"]["content"]
        assert said.split() == ["Rain", "falls", "mainly", "here."]
    assert sum("wet:latest" in fleet.models(name) for name in fleet.names) == 2


async def test_what_is_refused_is_refused_in_ollamas_words(run_dir: Path, fleet: Machines) -> None:
    """Status, type and body of each refusal, streamed or not, are those of the one Ollama that is asked itself."""
    content = weights("One.")
    good = "sha256:" + hashlib.sha256(content).hexdigest()
    lost = "sha256:" + "cd" * 32
    cases: list[Any] = [
        {"model": "x"},
        {"model": "", "files": {"m.gguf": good}},
        {"model": "a/b/c/d", "files": {"m.gguf": good}},
        {"model": "x", "files": {"/etc/m.gguf": good}},
        {"model": "x", "files": {"m.gguf": lost}},
        {"model": "x", "files": {"m.gguf": "sha256:12"}},
        {"model": "x", "files": {"m.gguf": good}, "template": "{{ .Prompt"},
        {"model": "x", "files": "m.gguf"},
        {"model": "x", "from": "-/x"},
        {"model": 5},
        [],
        None,
    ]
    raw = [json.dumps(case).encode() for case in cases] + [b"", b"{", b'{"model":"x","stream":']
    streams = [json.dumps({**case, "stream": False}).encode() for case in cases if isinstance(case, dict)]
    async with gateway(run_dir, fleet) as g:
        for body in (*raw, *streams):
            fleet.ask("gpu3", "POST", f"/api/blobs/{good}", content=content)
            await g.client.post(f"/api/blobs/{good}", content=content)
            itself = fleet.ask("gpu3", "POST", "/api/create", content=body)
            through = await g.client.post("/api/create", content=body)
            here = fleet.store(through.headers.get("x-ollama-node", "gpu1"))
            plain = through.text.replace(str(here), str(fleet.store("gpu3")))

            found = (through.status_code, through.headers.get("content-type"), plain)
            assert found == (itself.status_code, itself.headers.get("content-type"), itself.text), body


async def test_what_it_is_made_from_decides_where(run_dir: Path, fleet: Machines) -> None:
    """The holder of `from` makes it; a blob that lies on another node is brought there."""
    fleet.make("gpu3", "base", "Deep blue.")
    async with gateway(run_dir, fleet) as g:
        answer, lines = await progress(g.client, "/api/create", {"model": "one", "FROM": "base:latest"})

        assert (answer.headers["x-ollama-node"], lines[-1]) == ("gpu3", {"status": "success"})

        blob = await upload(g.client, b"an adapter")
        body = {"model": "two", "from": "base", "adapters": {"a.gguf": blob}}
        answer, lines = await progress(g.client, "/api/create", body)

        assert answer.headers["x-ollama-node"] == "gpu3"
        bars = [line for line in lines if line.get("digest") == blob]
        assert bars[0] == {"status": "copying to gpu3", "digest": blob, "total": 10}
        assert bars[-1]["completed"] == 10
    assert fleet.models("gpu3").keys() >= {"base:latest", "one:latest"}


async def test_no_drift_is_left(run_dir: Path, fleet: Machines) -> None:
    """A name that meant other things on other hosts means the new one on all of them."""
    for name, sentence in zip(fleet.names, ("One.", "Two.", "Three."), strict=True):
        fleet.make(name, "Mixed", sentence)
    async with gateway(run_dir, fleet) as g:
        digest = await upload(g.client, weights("Four."))
        body = {"model": "mixed", "files": {"m.gguf": digest}, "stream": False}
        answer = await g.client.post("/api/create", json=body, timeout=30)

        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
        status = (await g.client.get("/api/distributed/status")).json()
    assert len({fleet.models(name)["Mixed:latest"] for name in fleet.names}) == 1
    assert status["drift"] == []


async def test_a_host_that_is_away_gets_it_later(run_dir: Path, fleet: Machines) -> None:
    """It is named, the rest goes on; over a restart of the gateway it is remembered, and the host gets the model when it is back."""
    async with gateway(run_dir, fleet, EVERYWHERE.format("late")) as g:
        fleet.kill("gpu2")
        digest = await upload(g.client, weights("Better late than never."))
        _, lines = await progress(g.client, "/api/create", {"model": "late", "files": {"m.gguf": digest}})

        assert lines[-1] == {"status": "success"}
        (missed,) = [line["status"] for line in lines if "gpu2" in line["status"] and "copying" not in line["status"]]
        assert missed.startswith("not done on gpu2: ")
        assert missed.endswith("it gets the model when it can be reached again")
        assert "late:latest" in fleet.models("gpu3")
    async with gateway(run_dir, fleet, EVERYWHERE.format("late")):
        fleet.revive("gpu2")
        await asyncio.to_thread(wait_for_model, fleet, "gpu2", "late:latest")
    assert fleet.models("gpu2")["late:latest"] == fleet.models("gpu1")["late:latest"]
    assert fleet.whole("gpu2", "late")


async def test_what_was_deleted_meanwhile_is_not_brought(run_dir: Path, fleet: Machines) -> None:
    """A host that missed a model does not get it once nobody has it any more."""
    async with gateway(run_dir, fleet, EVERYWHERE.format("gone")) as g:
        fleet.kill("gpu2")
        digest = await upload(g.client, weights("Gone."))
        await progress(g.client, "/api/create", {"model": "gone", "files": {"m.gguf": digest}})
        for name in ("gpu1", "gpu3"):
            fleet.ask(name, "DELETE", "/api/delete", json={"model": "gone"})
        await wait_until_listed(g.client, set())
        fleet.revive("gpu2")
        await g.wait_state("gpu2", "up")
        digest = await upload(g.client, weights("New."))
        await progress(g.client, "/api/create", {"model": "new", "files": {"m.gguf": digest}})
    assert "gone:latest" not in fleet.models("gpu2")


async def test_two_at_the_same_time(run_dir: Path, fleet: Machines) -> None:
    """Creates of one name take turns; in the end all hosts have what the last one made."""
    async with gateway(run_dir, fleet, EVERYWHERE.format("both")) as g:
        digests = [await upload(g.client, weights(sentence)) for sentence in ("First.", "Second.")]
        bodies = [{"model": "both", "files": {"m.gguf": digest}} for digest in digests]
        results = await asyncio.gather(*(progress(g.client, "/api/create", body) for body in bodies))

    assert [lines[-1] for _, lines in results] == [{"status": "success"}] * 2
    assert len({fleet.models(name)["both:latest"] for name in fleet.names}) == 1


async def test_a_create_outlives_its_client_once_it_has_begun_to_write(run_dir: Path, fleet: Machines) -> None:
    """A client that leaves in the middle of copying leaves no two contents of one name behind."""
    async with gateway(run_dir, fleet, EVERYWHERE.format("left")) as g:
        digest = await upload(g.client, weights("Left alone."))
        body = {"model": "left", "files": {"m.gguf": digest}}
        async with g.client.stream("POST", "/api/create", json=body) as response:
            async for line in response.aiter_lines():
                if "copying" in line:
                    break
        for name in fleet.names:
            await asyncio.to_thread(wait_for_model, fleet, name, "left:latest")


async def test_a_key_that_may_not_manage(run_dir: Path, fleet: Machines) -> None:
    """It creates nothing and uploads nothing."""
    keys = f'\n[gateway.keys.reader]\nsha256 = "{"a" * 64}"\n'
    async with gateway(run_dir, fleet, keys) as g:
        headers = {"X-Olladist-Key": "reader"}
        created = await g.client.post("/api/create", json={"model": "x", "from": "y"}, headers=headers)
        sent = await g.client.post(f"/api/blobs/sha256:{'ab' * 32}", content=b"x", headers=headers)

        assert (created.status_code, sent.status_code) == (403, 403)


async def test_with_the_local_ollama_alone(run_dir: Path, fleet: Machines) -> None:
    """In the mode `standalone` it takes blobs and creates, and the fleet is left alone."""
    local = f'\n[gateway]\nmode = "standalone"\nlocal = "http://127.0.0.1:{fleet.port("gpu3")}"\n'
    async with gateway(run_dir, fleet, local) as g:
        await g.wait_state("local", "up")
        digest = await upload(g.client, weights("Alone."))
        answer, lines = await progress(g.client, "/api/create", {"model": "alone", "files": {"m.gguf": digest}})

        assert (answer.headers["x-ollama-node"], lines[-1]) == ("local", {"status": "success"})
    assert [len(fleet.models(name)) for name in fleet.names] == [0, 0, 1]


async def test_a_node_that_dies_under_a_create(run_dir: Path) -> None:
    """A stream ends with an error line that names it; without streaming it is 500. Nothing is copied anywhere."""
    line = b'{"status":"parsing GGUF"}\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    node = Node({"/api/create": Raw(head + f"{len(line):x}\r\n".encode() + line + b"\r\n")})
    node.holds()
    async with running(node), control(run_dir, one_host(run_dir, node)) as g:
        await g.wait_state("here", "up")
        body = {"model": "x", "from": "y"}
        _, lines = await progress(g.client, "/api/create", body)
        whole = await g.client.post("/api/create", json={**body, "stream": False})

    assert lines[0] == {"status": "parsing GGUF"}
    assert lines[-1]["error"].startswith("here did not finish: ")
    assert len(lines) == 2
    assert (whole.status_code, whole.json()) == (500, lines[-1])


def one_host(run_dir: Path, node: Node) -> Path:
    path = run_dir / "inventory.toml"
    path.write_text(f'[hosts.here]\nconnection = "local"\ninstances = [{{ port = {node.port} }}]\n')
    return path


def wait_for_model(fleet: Machines, name: str, model: str) -> None:
    asyncio.run(wait_until(lambda: model in fleet.models(name), f"{model} on {name}", 30))


async def wait_until_listed(client: httpx.AsyncClient, names: set[str]) -> None:
    deadline = time.monotonic() + 20
    while (listed := {row["name"] for row in (await client.get("/api/tags")).json()["models"]}) != names:
        assert time.monotonic() < deadline, listed
        await asyncio.sleep(0.1)
