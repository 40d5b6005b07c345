"""create: a model from uploaded GGUFs or from another model, layer by layer as server/create.go puts it together."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import PurePosixPath

from olladist.ollama.digests import parse_digest
from olladist.ollama.framing import encode
from olladist.ollama.manifest import MODEL_LAYER
from olladist.ollama.names import ModelName, split_name
from olladist.sim import words
from olladist.sim.golang import Document, in_order
from olladist.sim.inference import Server
from olladist.sim.library import INVALID_NAME, asked_name, config_of, pulling
from olladist.sim.model import read_head
from olladist.sim.reply import Failure, Refused, Reply, progress
from olladist.sim.store import CONFIG, LICENSE, MESSAGES, PARAMS, SYSTEM, TEMPLATE, Layer


async def create(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    for file in request.get("files", {}):
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or file in {"", "."}:
            raise Refused(400, "file path must be relative")
    name = split_name(asked_name(request))
    if not name.is_valid():
        raise Refused(400, INVALID_NAME)
    return await progress(request, _creating(server, server.store.existing(name), request))


async def _creating(server: Server, name: ModelName, request: Document) -> AsyncGenerator[Document | Failure, None]:
    store = server.store
    try:
        before = store.entry(name).manifest
    except (OSError, ValueError):
        before = None
    layers: list[Layer] = []
    try:
        async for line in _base(server, request):
            if isinstance(line, Layer):
                layers.append(line)
            else:
                yield line
        layers = _described(server, layers, request)
    except Refused as error:
        yield Failure(error.text, error.status)
        return
    for layer in layers:
        yield {"status": layer.status}
    yield {"status": "writing manifest"}
    heads = [
        head for layer in layers if layer.media_type == MODEL_LAYER and (head := read_head(store.blob(layer.digest)))
    ]
    store.write_manifest(name, store.add(config_of(layers, heads), CONFIG), layers)
    if before is not None and server.settings.prune:
        store.drop_unused(before)
    yield {"status": "success"}


async def _base(server: Server, request: Document) -> AsyncGenerator[Document | Layer, None]:
    """The layers that the new model starts from, and the lines about how they were come by."""
    if request.get("from"):
        async for line in _from_model(server, request["from"]):
            yield line
        return
    if "files" not in request:
        raise Refused(400, "neither 'from' or 'files' was specified")
    if _files_kind(server, request["files"]) != "gguf":
        raise Refused(400, "unknown type")
    for digest in request["files"].values():
        yield {"status": "parsing GGUF"}
        yield _gguf_layer(server, digest)


async def _from_model(server: Server, asked: str) -> AsyncGenerator[Document | Layer, None]:
    """The layers of another model; one that is not here is pulled first."""
    name = split_name(asked)
    if not name.is_valid():
        raise Refused(400, INVALID_NAME)
    if not server.store.manifest_file(name).exists():
        async for line in pulling(server, name):
            if isinstance(line, Failure):
                raise Refused(500, line.text)
            if line != {"status": "success"}:
                yield line
    for layer in server.store.entry(name).manifest.layers:
        yield server.store.keep(layer.digest, layer.media_type, str(name))


def _files_kind(server: Server, files: dict[str, str]) -> str:
    """By the name of the first file, else by its first bytes (detectModelTypeFromFiles)."""
    for file, digest in files.items():
        if file.endswith(".safetensors"):
            return "safetensors"
        if file.endswith(".gguf"):
            return "gguf"
        try:
            path = server.store.blob(parse_digest(digest))
            return "gguf" if path.read_bytes()[:4] == b"GGUF" else ""
        except (OSError, ValueError):
            return ""
    return ""


def _gguf_layer(server: Server, digest: str) -> Layer:
    try:
        path = server.store.blob(parse_digest(digest))
    except ValueError:
        raise Refused(500, "invalid digest format") from None
    if not path.exists():
        raise Refused(500, f"open {path}: no such file or directory")
    if read_head(path) is None:
        raise Refused(400, "supplied file was not in GGUF format")
    return server.store.keep(parse_digest(digest), MODEL_LAYER, str(path))


def _described(server: Server, layers: Sequence[Layer], request: Document) -> list[Layer]:
    """The layers with what the request says about template, system, license, parameters and messages."""
    store = server.store
    parameters: Document = dict(request.get("parameters") or {})
    for layer in layers:
        if layer.media_type == PARAMS:
            parameters = json.loads(store.blob(layer.digest).read_bytes()) | parameters
    given: list[tuple[str, bytes]] = []
    if template := request.get("template"):
        if words.unclosed(template):
            raise Refused(400, "template error: template: :1: unclosed action")
        given.append((TEMPLATE, template.encode()))
    if system := request.get("system"):
        given.append((SYSTEM, system.encode()))
    license_text = request.get("license")
    licenses = [license_text] if isinstance(license_text, str) else license_text or []
    given += [(LICENSE, str(text).encode()) for text in licenses]
    if parameters:
        given.append((PARAMS, encode(in_order(parameters)) + b"\n"))
    if messages := request.get("messages"):
        rows = [{"role": message.get("role", ""), "content": message.get("content", "")} for message in messages]
        given.append((MESSAGES, encode(rows) + b"\n"))
    replaced = {media_type for media_type, _ in given} - {LICENSE}
    kept = [layer for layer in layers if layer.media_type not in replaced]
    return kept + [store.add(content, media_type) for media_type, content in given]
