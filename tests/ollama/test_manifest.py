import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.manifest import MANIFEST_BYTES_MAX, MODEL_LAYER, Layer, parse_manifest

CONFIG, WEIGHTS, TEMPLATE = ("sha256:" + digit * 64 for digit in "123")


def document(**changes: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": CONFIG, "size": 10},
            "layers": [
                {"mediaType": MODEL_LAYER, "digest": WEIGHTS, "size": 1000, "from": "/somewhere"},
                {"mediaType": "application/vnd.ollama.image.template", "digest": TEMPLATE, "size": 5},
                {"mediaType": "application/vnd.ollama.image.system", "digest": TEMPLATE, "size": 5},
            ],
            **changes,
        }
    ).encode()


def test_a_manifest_names_its_blobs() -> None:
    """Config first, each blob once; size counts as `ollama list` does; the digest is that of the raw bytes."""
    raw = document()
    manifest = parse_manifest(raw)

    assert [blob.digest for blob in manifest.blobs] == [CONFIG, WEIGHTS, TEMPLATE]
    assert manifest.size == 1020
    assert manifest.model_digests == (WEIGHTS,)
    assert manifest.digest == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert manifest.raw == raw
    assert manifest.layers[0] == Layer(MODEL_LAYER, WEIGHTS, 1000)


def test_a_manifest_may_have_no_layers() -> None:
    """Go writes an empty list as null."""
    assert parse_manifest(document(layers=None)).layers == ()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "cannot be read"),
        (b"<html>", "cannot be read"),
        (b"[]", "cannot be read: Expected `object`"),
        (document(config=None), "config"),
        (document(config={"digest": "sha256:../../etc/passwd", "size": 1}), "is not a digest"),
        (document(config={"digest": CONFIG, "size": -1}), r"\$\.config\.size"),
        (document(layers=[{"size": 1}]), r"digest` - at `\$\.layers\[0\]"),
        (b"[" * 100_000, "cannot be read"),
        (b" " * (MANIFEST_BYTES_MAX + 1), "more than"),
    ],
)
def test_a_damaged_manifest_says_what_is_wrong(raw: bytes, text: str) -> None:
    """ValueError, and nothing else, names the place."""
    with pytest.raises(ValueError, match=text):
        parse_manifest(raw)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["config", "layers", "digest", "size"]), inner)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_manifest_or_refused(raw: bytes) -> None:
    """Nothing but ValueError comes out of bytes from outside."""
    try:
        manifest = parse_manifest(raw)
    except ValueError:
        return

    assert manifest.blobs[0] == manifest.config
