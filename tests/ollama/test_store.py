import pytest

from olladist.ollama.names import InvalidName, parse_name
from olladist.ollama.store import STAGE, blob_path, manifest_path, name_from_manifest_path, stage_path

DIGEST = "sha256:" + "ab" * 32


def test_blobs_have_a_dash() -> None:
    """blobs/sha256-<hex>, as manifest/paths.go names them, and the same name while they are staged."""
    assert blob_path(DIGEST) == "blobs/sha256-" + "ab" * 32
    assert stage_path(DIGEST) == f"{STAGE}/sha256-" + "ab" * 32


def test_a_path_needs_a_digest() -> None:
    """Nothing that is no digest gets into a path."""
    with pytest.raises(ValueError, match="is not a digest"):
        blob_path("sha256:../../etc/passwd")


def test_manifests_lie_by_the_four_parts_of_the_name() -> None:
    """Case and port are kept."""
    assert manifest_path(parse_name("Host:5000/ns/Model:Tag")) == "manifests/Host:5000/ns/Model/Tag"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "manifests",
        "manifests/h/n/m",
        "manifests/h/n/m/t/x",
        "blobs/h/n/m/t",
        "manifests/h/n/../t",
        "manifests/h//m/t",
    ],
)
def test_other_files_are_no_manifests(path: str) -> None:
    """Only four valid parts below manifests/ make one (manifest/manifest.go)."""
    with pytest.raises(InvalidName):
        name_from_manifest_path(path)
