"""Creating models through a control process, on hosts with a real sshd and a simulated Ollama each."""

from pathlib import Path

from tests.gateway.control.machines import Machines, gateway, progress, upload, weights


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
