"""The layout of a model store ($OLLAMA_MODELS); every path here is relative to it."""

from olladist.ollama.digests import Digest, parse_digest
from olladist.ollama.names import InvalidName, ModelName

BLOBS = "blobs"
MANIFESTS = "manifests"

# Ours, on the store's own file system so that a finished blob is renamed into place. Ollama looks only into blobs/ and
# manifests/ (server/images.go PruneLayers, manifest/manifest.go Manifests), so nothing in here is listed or pruned.
STAGE = ".olladist"


def blob_path(digest: Digest) -> str:
    return f"{BLOBS}/{_file_name(digest)}"


def stage_path(digest: Digest) -> str:
    """Where a blob is collected until it is whole and verified."""
    return f"{STAGE}/{_file_name(digest)}"


def manifest_path(name: ModelName) -> str:
    return f"{MANIFESTS}/{name.path}"


def name_from_manifest_path(path: str) -> ModelName:
    """The model whose manifest lies at `path`; InvalidName where Ollama would not take it for a manifest."""
    parts = path.split("/")
    if len(parts) != 5 or parts[0] != MANIFESTS:
        raise InvalidName(path)
    name = ModelName(*parts[1:])
    if not name.is_valid():
        raise InvalidName(path)
    return name


def _file_name(digest: Digest) -> str:
    return parse_digest(digest).replace(":", "-")
