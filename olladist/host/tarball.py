"""A release tarball on the operator's machine: read whole once before any host sees it, and packed anew where a host needs it."""

import gzip
import hashlib
import io
import itertools
import os
import posixpath
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from olladist.errors import OlladistError

_CHUNK = 1 << 20
_MEMBERS = 100_000  # a release has about a hundred
# A release unpacks to 4 GB with all its CUDA libraries; 64 GiB is what no release will be and a disk may still hold.
_UNPACKED = 64 << 30
_HINT = "download the archive again, or set [fleet] ollama to another one"
# e_machine of ELF headers (elf(5))
_MACHINES = {62: "amd64", 183: "arm64"}


class Form(StrEnum):
    """How an archive is compressed."""

    ZSTD = "zst"
    GZIP = "gz"
    PLAIN = "tar"


@dataclass(frozen=True, slots=True)
class Tarball:
    """An archive that hosts get; None where that is known only once it is here.

    `sha256` is what it must have; `addition` marks one that goes on top of a release.
    """

    name: str
    path: Path
    url: str | None = None
    sha256: str | None = None
    size: int | None = None
    unpacked: int | None = None
    arch: str = ""
    addition: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """What `releases/NAME` on a host is made of; no tarballs where it is there already. `version` "" is not known."""

    name: str
    version: str
    tarballs: tuple[Tarball, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a tarball was found to be; `arch` is "" where its `ollama` is no ELF file."""

    sha256: str
    size: int
    unpacked: int
    arch: str
    holds_ollama: bool


class BadTarball(OlladistError):
    """An archive that no host will see: cut short, damaged, or not Ollama's."""


def form_of(path: Path) -> Form:
    """By its first bytes; BadTarball for what is none of the three."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x28\xb5\x2f\xfd"):  # RFC 8878 section 3.1.1
        return Form.ZSTD
    if head.startswith(b"\x1f\x8b"):  # RFC 1952 section 2.3.1
        return Form.GZIP
    if head[257:262] == b"ustar":
        return Form.PLAIN
    raise BadTarball(f"{path} is neither a .tar.zst nor a .tgz nor a .tar", hint=_HINT)


def read_contents(path: Path, *, addition: bool = False) -> Contents:
    """Reads an archive from its first to its last byte; BadTarball where it is not whole, or could write outside its folder.

    An `addition` goes on top of a release (libraries for ROCm or JetPack) and holds no bin/ollama.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file, _mapped(path):
        while block := file.read(_CHUNK):
            digest.update(block)
    with _unpacking(path) as stream, _mapped(path):
        unpacked, arch, holds_ollama = _check_members(path, stream)
        while stream.read(_CHUNK):  # to the end of the compressed stream: its checksum stands there
            pass
    if not holds_ollama and not addition:
        raise BadTarball(f"{path} holds no bin/ollama: it is not a release of Ollama for Linux", hint=_HINT)
    return Contents(digest.hexdigest(), path.stat().st_size, unpacked, arch, holds_ollama)


def _check_members(path: Path, stream: BinaryIO) -> tuple[int, str, bool]:
    unpacked, arch, holds_ollama = 0, "", False
    links: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, member in enumerate(archive):
            unpacked += member.size
            if count >= _MEMBERS or unpacked > _UNPACKED:
                raise BadTarball(f"{path} is larger than any release of Ollama", hint=_HINT)
            if problem := _problem(member, links):
                raise BadTarball(f"{path}: {member.name!r} {problem}", hint=_HINT)
            name = posixpath.normpath(member.name)
            if member.issym():
                links.add(name)
            if name == "bin/ollama" and not member.isdir():
                holds_ollama = True
                arch = _arch(archive, member) if member.isreg() else arch
    return unpacked, arch, holds_ollama


def _problem(member: tarfile.TarInfo, links: set[str]) -> str:
    """Why a member may not be unpacked, "" where it may; `links` are the symbolic links before it."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return "is neither a file, a folder nor a link"
    if member.mode & 0o6000:
        return "would run as its owner (setuid)"
    if _leaves(member.name):
        return "leads out of the archive"
    parents = posixpath.normpath(member.name).split("/")[:-1]
    if any("/".join(parents[:depth]) in links for depth in range(1, len(parents) + 1)):
        return "lies behind a link"
    if member.issym() and (
        _winds(member.linkname) or _leaves(posixpath.join(posixpath.dirname(member.name), member.linkname))
    ):
        return f"links out of the archive, to {member.linkname!r}"
    if member.islnk() and _leaves(member.linkname):
        return f"links out of the archive, to {member.linkname!r}"
    return ""


def _leaves(name: str) -> bool:
    return name.startswith("/") or posixpath.normpath(name).split("/")[0] == ".."


def _winds(target: str) -> bool:
    """A ".." after a name: where that name is a link, it leads elsewhere than it reads."""
    parts = [part for part in target.split("/") if part not in {"", "."}]
    return any(part == ".." and before != ".." for before, part in itertools.pairwise(parts))


def _arch(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    head = file.read(20) if file else b""
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return ""
    machine: int = struct.unpack("<H", head[18:20])[0]
    return _MACHINES.get(machine, f"ELF machine {machine}")


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise BadTarball(f"{path} is cut short or damaged: {error}", hint=_HINT) from None
    except OSError as error:
        raise BadTarball(f"{path} cannot be read: {error.strerror or error}") from None


@contextmanager
def _unpacking(path: Path) -> Iterator[BinaryIO]:
    form = form_of(path)
    with path.open("rb") as file:
        if form is Form.ZSTD:
            yield cast(BinaryIO, io.BufferedReader(_Zstd(file), _CHUNK))
        elif form is Form.GZIP:
            with gzip.GzipFile(fileobj=file) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield file


class _Zstd(io.RawIOBase):
    """The bytes of all frames of a zstd stream; EOFError where the last one is cut short.

    zstandard's own stream_reader ends in silence there.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # typeshed's WriteableBuffer is private
        while not self._output:
            if not self._fill():
                return 0
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _fill(self) -> bool:
        """Decompresses one block more; False at the end of the last frame."""
        if self._frame.eof:
            self._input, self._begun = self._frame.unused_data, False
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        block = self._input or self._file.read(1 << 16)
        self._input = b""
        if not block:
            if self._begun:
                raise EOFError("the compressed stream ends too early")
            return False
        self._begun = True
        self._output = memoryview(self._frame.decompress(block))
        return True


def repack(path: Path, target: Path, form: Form) -> None:
    """The same archive compressed as `form` (gzip or not at all), for a host that has no zstd; `target` appears whole."""
    part = target.with_name(target.name + f".{os.getpid()}")
    try:
        with _unpacking(path) as stream, part.open("wb") as raw:
            if form is Form.GZIP:
                # Level 1: packing a release again takes as long as compressing 4 GB, and it crosses the network once.
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as out:
                    _copy(stream, cast(BinaryIO, out))
            else:
                _copy(stream, raw)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while block := source.read(_CHUNK):
        target.write(block)
