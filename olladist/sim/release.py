"""Release tarballs for hosts of this machine: the simulated Ollama packed as a release, and one that is installed packed again."""

import io
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from olladist.errors import UsageError
from olladist.ollama.release import ZSTD, architecture
from olladist.sim.settings import VERSION

# What takes a release to gigabytes and no demo needs: hosts of this machine run on the CPU.
_GPU_LIBRARIES = ("cuda", "rocm", "vulkan", "mlx", "jetpack")


def file_name() -> str:
    """What Ollama calls its release for this machine; UsageError where there is none."""
    arch = architecture(platform.machine())
    if arch is None:
        raise UsageError(
            f"Ollama has no release for {platform.machine()} processors",
            hint="use a machine with an amd64 or arm64 one",
        )
    return f"ollama-linux-{arch}{ZSTD}"


def launcher(version: str) -> str:
    """bin/ollama of a simulated release: the Python that runs here, which hosts of this machine have at the same place."""
    python = shlex.quote(sys.executable)
    return f"""#!/bin/sh
# A simulated Ollama, packed by olladist.sim.release.
export SIM_VERSION="${{SIM_VERSION:-{version}}}"
exec {python} -m olladist.sim.ollama "$@"
"""


def pack_simulated(folder: Path, *, version: str = VERSION) -> Path:
    """Writes a release of the simulated Ollama into `folder`; the path of the tarball."""
    target = folder / file_name()
    with _writing(target) as archive:
        for name in ("bin", "lib", "lib/ollama"):
            _add_folder(archive, name)
        _add(archive, "bin/ollama", launcher(version).encode(), 0o755)
        _add(archive, "lib/ollama/simulated", f"{version}\n".encode(), 0o644)
    return target


def pack_installed(binary: Path, folder: Path) -> Path:
    """Packs the Ollama that is installed here as a release without its GPU libraries; the path of the tarball."""
    target = folder / file_name()
    libraries = binary.resolve().parent.parent / "lib" / "ollama"
    with _writing(target) as archive:
        _add_folder(archive, "bin")
        archive.add(binary.resolve(), "bin/ollama", filter=_roots)
        _add_folder(archive, "lib")
        _add_folder(archive, "lib/ollama")
        for path in sorted(libraries.iterdir()) if libraries.is_dir() else ():
            if not path.name.startswith(_GPU_LIBRARIES):
                archive.add(path, f"lib/ollama/{path.name}", filter=_roots)
    return target


def installed_version(binary: Path) -> str:
    """What `ollama --version` of a binary says it is itself, whatever server runs; "" where it does not run."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "OLLAMA_HOST": "127.0.0.1:9"}  # discard: nobody answers
    try:
        done = subprocess.run(
            [binary, "--version"], env=environ, capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if "client version is " in line]
    return lines[0].rpartition(" ")[2] if lines else ""


def find_installed(lab: Path, *, path: str | None = None) -> Path | None:
    """An `ollama` on the PATH (or on `path`), else the one that the test lab has built."""
    on_path = shutil.which("ollama", path=path)
    found = Path(on_path) if on_path else lab / "ollama" / VERSION / "bin" / "ollama"
    return found if found.exists() else None


@contextmanager
def _writing(target: Path) -> Iterator[tarfile.TarFile]:
    with (
        target.open("wb") as file,
        zstandard.ZstdCompressor(level=1, threads=-1).stream_writer(file) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        yield archive


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As Ollama's own archives: everything belongs to root (build_linux.sh --owner 0 --group 0)."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(_roots(folder))


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(_roots(member), io.BytesIO(content))
