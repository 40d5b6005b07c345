"""Digests as Ollama writes them: "sha256:" and 64 hex digits, with a dash instead of the colon in file names."""

import hashlib
import re
from typing import TypeAlias

Digest: TypeAlias = str  # "sha256:<64 lower case hex digits>"

# server/images.go and manifest/paths.go take both separators and hex digits of either case.
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def parse_digest(text: str) -> Digest:
    """The digest in its one form, from either spelling; ValueError for anything else."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:100]!r} is not a digest (sha256: and 64 hex digits)")
    return "sha256:" + match[1].lower()


def digest_of(content: bytes) -> Digest:
    return "sha256:" + hashlib.sha256(content).hexdigest()
