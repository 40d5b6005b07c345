"""What a host has of what it shall have, without asking any network."""

from dataclasses import replace
from pathlib import Path

import pytest

from olladist.fleet.survey import UNKNOWN, glance
from olladist.host.artifacts import Artifacts
from tests.fleet.fleets import local, opened

# Nobody listens there (RFC 863, discard): whoever asked it would wait or fail.
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("wanted", ["0.17.4", "latest", f"{NOWHERE}/ollama-linux-amd64.tar.zst", "/gone/ollama.tgz"])
async def test_a_host_without_ollama_is_seen_for_what_it_is(
    wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever release it shall have, nothing of it is there; neither a mirror nor a file is needed to tell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = local("here")
    host = replace(found.hosts["here"], ollama=wanted)
    async with opened(replace(found, mirror=NOWHERE)) as fleet:
        runner = await fleet.runner(host)
        seen = await glance(runner, host, fleet.inventory, Artifacts(fleet.inventory, official=NOWHERE))

    release = seen.desired.release
    assert release is not None
    assert release.name == UNKNOWN
    assert release.tarballs == ()
    assert seen.store.path.endswith("/.ollama/models")
