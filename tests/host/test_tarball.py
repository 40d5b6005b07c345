"""Release tarballs on the operator's machine."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from olladist.host.tarball import BadTarball, Form, form_of, read_contents, repack

ELF_ARM64 = b"\x7fELF" + bytes(14) + b"\xb7\x00" + bytes(40)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o755
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


RELEASE = tar(
    member("./bin/ollama", data=b"#!/bin/sh\n" + bytes(range(256)) * 400),
    member("lib/ollama/libggml.so", data=b"x" * 70_000),
    member("lib/ollama/libggml.so.1", tarfile.SYMTYPE, "libggml.so"),
)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[Form, Callable[[bytes], bytes]] = {Form.ZSTD: zstd, Form.GZIP: gzip.compress, Form.PLAIN: bytes}


@pytest.mark.parametrize("form", Form)
def test_every_form_of_a_release_is_read_whole(form: Form, tmp_path: Path) -> None:
    """.tar.zst, .tgz and .tar, told apart by their first bytes and not by their names."""
    path = tmp_path / "release"
    path.write_bytes(PACKERS[form](RELEASE))

    contents = read_contents(path)

    assert form_of(path) is form
    assert (contents.size, contents.holds_ollama, contents.arch) == (path.stat().st_size, True, "")
    assert contents.unpacked > 170_000


def test_the_architecture_is_read_from_the_binary(tmp_path: Path) -> None:
    """A release for another processor is known before it is copied."""
    path = tmp_path / "arm.tar"
    path.write_bytes(tar(member("bin/ollama", data=ELF_ARM64)))

    assert read_contents(path).arch == "arm64"


def test_zstd_of_several_frames_is_one_stream(tmp_path: Path) -> None:
    """As pzstd writes it."""
    path = tmp_path / "frames.tar.zst"
    path.write_bytes(zstd(RELEASE[:5000]) + zstd(RELEASE[5000:]))

    assert read_contents(path).holds_ollama


@pytest.mark.parametrize("form", [Form.ZSTD, Form.GZIP])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tarball_cut_short_anywhere_is_refused(form: Form, tmp_path: Path, data: st.DataObject) -> None:
    """Even where only the last byte of the checksum is missing."""
    whole = PACKERS[form](RELEASE)
    path = tmp_path / "cut"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])

    with pytest.raises(BadTarball):
        read_contents(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=600), head=st.sampled_from([b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b", RELEASE[:512]]))
def test_any_bytes_are_a_release_or_refused(tmp_path: Path, data: bytes, head: bytes) -> None:
    """Nothing but BadTarball comes out, whatever is in the file."""
    path = tmp_path / "any"
    path.write_bytes(head + data)

    with pytest.raises(BadTarball):
        read_contents(path)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([member("/etc/passwd")], "leads out"),
        ([member("lib/../../x")], "leads out"),
        ([member("lib/x", tarfile.SYMTYPE, "../../etc/passwd")], "links out"),
        ([member("lib/x", tarfile.SYMTYPE, "/etc/passwd")], "links out"),
        ([member("x", tarfile.LNKTYPE, "../y")], "links out"),
        ([member("d/y", tarfile.SYMTYPE, ".."), member("z", tarfile.SYMTYPE, "d/y/..")], "links out"),
        ([member("d/y", tarfile.SYMTYPE, ".."), member("d/y/q", tarfile.SYMTYPE, "../..")], "behind a link"),
        ([member("dev", tarfile.CHRTYPE)], "neither a file"),
    ],
)
def test_nothing_is_taken_that_could_write_outside_its_folder(
    bad: list[tuple[tarfile.TarInfo, bytes]], says: str, tmp_path: Path
) -> None:
    """Absolute names, "..", links that lead out (also by way of other links) and device files are refused."""
    path = tmp_path / "bad.tar"
    path.write_bytes(tar(member("bin/ollama"), *bad))

    with pytest.raises(BadTarball, match=says):
        read_contents(path)


def test_a_program_that_would_run_as_root_is_refused(tmp_path: Path) -> None:
    """No release has one."""
    info, data = member("bin/ollama")
    info.mode = 0o4755
    (tmp_path / "a.tar").write_bytes(tar((info, data)))

    with pytest.raises(BadTarball, match="setuid"):
        read_contents(tmp_path / "a.tar")


def test_an_archive_without_ollama_is_refused_unless_it_is_an_addition(tmp_path: Path) -> None:
    """The ROCm libraries come without a binary, a release never does."""
    path = tmp_path / "rocm.tar"
    path.write_bytes(tar(member("lib/ollama/rocm/libhip.so", data=b"x")))

    with pytest.raises(BadTarball, match="no bin/ollama"):
        read_contents(path)
    assert not read_contents(path, addition=True).holds_ollama


@pytest.mark.parametrize("form", [Form.GZIP, Form.PLAIN])
def test_an_archive_is_packed_anew_without_loss(form: Form, tmp_path: Path) -> None:
    """A host without zstd gets the same members compressed otherwise."""
    source, target = tmp_path / "a.tar.zst", tmp_path / "b"
    source.write_bytes(zstd(RELEASE))

    repack(source, target, form)

    assert form_of(target) is form
    assert (gzip.decompress(target.read_bytes()) if form is Form.GZIP else target.read_bytes()) == RELEASE
    assert [path.name for path in tmp_path.iterdir() if path not in {source, target}] == []
