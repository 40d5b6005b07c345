import itertools

import pytest

from olladist.ollama.release import architecture, artifact, is_version, normalise, parse_checksums, version_key

RELEASES = "https://github.com/ollama/ollama/releases"


def test_a_release_lies_at_github() -> None:
    """The .tar.zst first, then the .tgz, with the checksums beside."""
    found = artifact("0.17.4", "amd64")

    assert found.names == ("ollama-linux-amd64.tar.zst", "ollama-linux-amd64.tgz")
    assert found.urls[0] == f"{RELEASES}/download/v0.17.4/ollama-linux-amd64.tar.zst"
    assert found.checksums_url == f"{RELEASES}/download/v0.17.4/sha256sum.txt"


def test_old_releases_are_tgz() -> None:
    """.tar.zst came with 0.14.0-rc0."""
    assert artifact("0.13.5", "arm64").names[0] == "ollama-linux-arm64.tgz"
    assert artifact("v0.14.0-rc0", "arm64").names[0] == "ollama-linux-arm64.tar.zst"


def test_the_latest_release_has_a_fixed_address() -> None:
    """GitHub redirects it."""
    assert artifact("latest", "amd64").urls[0] == f"{RELEASES}/latest/download/ollama-linux-amd64.tar.zst"


def test_a_mirror_is_laid_out_as_github() -> None:
    """MIRROR/vVERSION/NAME, or MIRROR/latest/NAME; a slash at the end does not matter."""
    assert artifact("0.17.4", "amd64", mirror="https://m.example/o/", part="rocm").urls == (
        "https://m.example/o/v0.17.4/ollama-linux-amd64-rocm.tar.zst",
        "https://m.example/o/v0.17.4/ollama-linux-amd64-rocm.tgz",
    )
    assert artifact("latest", "amd64", mirror="https://m.example/o").urls[1] == "https://m.example/o/latest/ollama-linux-amd64.tgz"  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64\n", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("riscv64", None), ("armv7l", None), ("", None)],
)
def test_machines_are_named_as_releases_name_them(machine: str, name: str | None) -> None:
    """What install.sh refuses is refused."""
    assert architecture(machine) == name


def test_versions_are_ordered() -> None:
    """As semver orders them, with release candidates by number."""
    ordered = ["0.9.0", "0.13.5", "0.14.0-rc0", "0.14.0-rc2", "0.14.0-rc10", "0.14.0", "0.17.4", "v0.30.0", "1.0.0"]

    assert all(version_key(low) < version_key(high) for low, high in itertools.pairwise(ordered))


@pytest.mark.parametrize(
    "text", ["", "latest", "0.17", "0.17.4.1", "0.17.4-", "0.17.x", "../0.17.4", "0.17.4\n", "٠.١.٢"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    """Nothing but a version gets into a URL."""
    assert not is_version(text)
    for read in (normalise, version_key):
        with pytest.raises(ValueError, match="is not a version such as"):
            read(text)


def test_checksums_are_read_as_sha256sum_writes_them() -> None:
    """`./` before the names as Ollama's file has it, binary marks, and lines that are none."""
    text = f"{'A' * 64}  ./ollama-linux-amd64.tgz\n{'b' * 64} *ollama-linux-arm64.tgz\nnot a line\n{'c' * 63}  short\n"

    assert parse_checksums(text) == {"ollama-linux-amd64.tgz": "a" * 64, "ollama-linux-arm64.tgz": "b" * 64}
