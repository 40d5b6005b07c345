"""Release tarballs for hosts of this machine."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import zstandard

from olladist.sim import release


def members(path: Path, into: Path) -> dict[str, tarfile.TarInfo]:
    """Unpacks, and gives what was there."""
    content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        into.mkdir()
        subprocess.run(["tar", "-x", "-C", into], input=content, check=True)  # Debian 12's tarfile knows no filters
        return {member.name: member for member in archive}


def test_a_simulated_release_is_laid_out_as_a_real_one(tmp_path: Path) -> None:
    """bin/ollama that runs and lib/ollama/, owned by root, under the name that Ollama's own has."""
    path = release.pack_simulated(tmp_path, version="0.18.1")
    found = members(path, tmp_path / "unpacked")
    environ = {"OLLAMA_HOST": "127.0.0.1:9", "PATH": os.environ["PATH"]}
    said = subprocess.run(
        [tmp_path / "unpacked/bin/ollama", "--version"], env=environ, capture_output=True, text=True, check=True
    )

    assert path.name.startswith("ollama-linux-")
    assert path.name.endswith(".tar.zst")
    assert set(found) == {"bin", "bin/ollama", "lib", "lib/ollama", "lib/ollama/simulated"}
    assert {(member.uid, member.uname) for member in found.values()} == {(0, "root")}
    assert "client version is 0.18.1" in said.stdout


def test_an_installed_ollama_is_packed_without_its_gpu_libraries(tmp_path: Path) -> None:
    """The binary behind its link, and the libraries a CPU needs."""
    (tmp_path / "real/bin").mkdir(parents=True)
    (tmp_path / "real/lib/ollama/cuda_v12").mkdir(parents=True)
    (tmp_path / "real/lib/ollama/libggml-cpu.so").write_bytes(b"cpu")
    (tmp_path / "real/lib/ollama/cuda_v12/huge.so").write_bytes(b"gpu")
    (tmp_path / "real/bin/ollama").write_text("#!/bin/sh\necho 'Warning: client version is 0.17.4'\n")
    (tmp_path / "real/bin/ollama").chmod(0o755)
    (tmp_path / "ollama").symlink_to(tmp_path / "real/bin/ollama")
    (tmp_path / "out").mkdir()
    found = members(release.pack_installed(tmp_path / "ollama", tmp_path / "out"), tmp_path / "unpacked")

    assert set(found) == {"bin", "bin/ollama", "lib", "lib/ollama", "lib/ollama/libggml-cpu.so"}
    assert found["bin/ollama"].isreg()
    assert release.installed_version(tmp_path / "ollama") == "0.17.4"
    assert release.installed_version(tmp_path / "nothing") == ""


def test_the_labs_ollama_is_found(tmp_path: Path) -> None:
    """Where it is; None where there is none."""
    place = tmp_path / "ollama/0.17.4/bin/ollama"
    place.parent.mkdir(parents=True)
    place.touch()

    assert release.find_installed(tmp_path, path="") == place
    assert release.find_installed(tmp_path / "elsewhere", path="") is None
