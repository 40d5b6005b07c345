"""Ollama's releases: versions, the archives they come as, and where those are downloaded from.

Source: scripts/build_linux.sh, scripts/install.sh and .github/workflows/release.yaml of Ollama.
"""

import re
from dataclasses import dataclass

LATEST = "latest"
OFFICIAL = "https://github.com/ollama/ollama/releases"
CHECKSUMS = "sha256sum.txt"  # stands beside the archives of every release

# uname -m as scripts/install.sh maps it.
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

_VERSION = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:-([0-9A-Za-z][0-9A-Za-z.-]{0,63}))?")
_ZSTD_SINCE = (0, 14, 0)

# Endings of archives that can be installed, in the order in which they are tried.
ZSTD, GZIP = ".tar.zst", ".tgz"
ARCHIVE_ENDINGS = (ZSTD, GZIP, ".tar.gz")


@dataclass(frozen=True, slots=True)
class Artifact:
    """An archive under the names it may have, the likelier first, and a URL for each."""

    names: tuple[str, ...]
    urls: tuple[str, ...]
    checksums_url: str


def architecture(machine: str) -> str | None:
    """What `uname -m` prints, as releases call it: "amd64", "arm64", or None where there is no release."""
    return _ARCHITECTURES.get(machine.strip().lower())


def artifact(version: str, arch: str, *, mirror: str = "", part: str = "") -> Artifact:
    """Where the archive of `version` ("0.17.4" or "latest") for `arch` is.

    `part` names an archive that goes on top of it: "rocm", "jetpack5", "jetpack6". A mirror is laid out as GitHub's
    downloads are: MIRROR/v0.17.4/ollama-linux-amd64.tar.zst.
    """
    stem = f"ollama-linux-{arch}" + (f"-{part}" if part else "")
    if version == LATEST:
        folder = f"{mirror.rstrip('/')}/latest" if mirror else f"{OFFICIAL}/latest/download"
        endings: tuple[str, ...] = (ZSTD, GZIP)
    else:
        number = normalise(version)
        folder = (mirror.rstrip("/") if mirror else f"{OFFICIAL}/download") + f"/v{number}"
        endings = (ZSTD, GZIP) if version_key(number)[:3] >= _ZSTD_SINCE else (GZIP, ZSTD)
    names = tuple(stem + ending for ending in endings)
    return Artifact(names, tuple(f"{folder}/{name}" for name in names), f"{folder}/{CHECKSUMS}")


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def normalise(version: str) -> str:
    """The version without the "v" that tags begin with; ValueError for what is no version."""
    if not is_version(version):
        raise ValueError(f"{version!r} is not a version such as 0.17.4")
    return version.removeprefix("v")


def version_key(version: str) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
    """What orders versions as semver does: 0.9.0 < 0.14.0-rc2 < 0.14.0-rc10 < 0.14.0; ValueError for what is none."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version such as 0.17.4")
    pre = match[4] or ""
    # "rc10" is split into "rc" and 10: Ollama's release candidates are numbered without a dot.
    pieces = re.findall(r"\d+|[^\d.]+", pre)
    order = tuple((not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces)
    return int(match[1]), int(match[2]), int(match[3]), not pre, order


def parse_checksums(text: str) -> dict[str, str]:
    """File name to sha256 in hex, out of the output of `sha256sum` (folders in front of a name are dropped)."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line.strip())
        if match:
            found[match[2].rsplit("/", 1)[-1]] = match[1].lower()
    return found
