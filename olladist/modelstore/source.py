"""Where a declared model comes from: a GGUF or Modelfile on this machine, another host, or the registry."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olladist.errors import OlladistError, UsageError
from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.digests import LocalDigests
from olladist.modelstore.modelfile import MAX_BYTES, BadModelfile, Modelfile, parse_modelfile
from olladist.ollama.digests import Digest
from olladist.ollama.names import InvalidName, ModelName, parse_name

_GGUF = b"GGUF"
_MODEL_SUFFIXES = (".gguf", ".bin", ".safetensors")

OnHash = Callable[[Path, int, int], None]
"""Called with a file, the bytes of it that are hashed, and its size."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A GGUF on this machine; as a blob it is the same file under its digest."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model is made from. Two with the same `digest` make the same model, wherever their files lie."""

    digest: str  # hex
    source: str  # as the inventory says it
    files: tuple[LocalFile, ...]
    adapters: tuple[LocalFile, ...] = ()
    base: ModelName | None = None  # FROM a model instead of a file
    request: Mapping[str, Any] = field(default_factory=dict)

    def body(self, model: ModelName) -> dict[str, Any]:
        """The body of the /api/create request that makes `model`."""
        body: dict[str, Any] = {"model": str(model), **self.request}
        if self.base:
            body["from"] = str(self.base)
        for key, files in (("files", self.files), ("adapters", self.adapters)):
            if files:
                # Ollama takes GGUF by the suffix; any other name would do as well.
                body[key] = {f"model-{number}.gguf": file.digest for number, file in enumerate(files, 1)}
        return body


@dataclass(frozen=True, slots=True)
class FromHost:
    """The model as it is on the host of that name."""

    host: str


Source = Recipe | FromHost | None  # None: the registry


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of declared models by ModelName.key; a model whose source cannot be read is in `problems` instead."""

    of: Mapping[str, Source] = field(default_factory=dict)
    problems: Mapping[str, OlladistError] = field(default_factory=dict)


async def read_sources(
    inventory: Inventory,
    models: Sequence[DeclaredModel] | None = None,
    *,
    digests: LocalDigests | None = None,
    on_hash: OnHash | None = None,
) -> Sources:
    """Reads and hashes what `models` (all of the inventory's) name on this machine; paths count from the inventory."""
    found: dict[str, Source] = {}
    problems: dict[str, OlladistError] = {}
    for model in inventory.models if models is None else models:
        if model.source is None:
            found[model.name.key] = None
        elif model.source.startswith("host:"):
            found[model.name.key] = FromHost(model.source.removeprefix("host:"))
        else:
            digests = digests or LocalDigests()
            try:
                found[model.name.key] = await read_recipe(model.source, inventory.path.parent, digests, on_hash)
            except UsageError as error:
                problems[model.name.key] = UsageError(f"{model.name}: {error.message}", hint=error.hint)
    return Sources(found, problems)


async def read_recipe(source: str, folder: Path, digests: LocalDigests, on_hash: OnHash | None = None) -> Recipe:
    """The recipe of a GGUF or Modelfile; UsageError where there is none."""
    path = _expanded(source, folder)
    modelfile = Modelfile((str(path),), ()) if _is_gguf(path) else _modelfile(path)
    named = {text: _named_file(text, path.parent) for text in modelfile.sources}
    files = tuple(file for file in named.values() if file)
    bases = tuple(text for text, file in named.items() if not file)
    if bases and (files or len(bases) > 1):
        raise UsageError(f"{path}: FROM names a model ({bases[0]}) beside other things", hint="leave one of them")
    adapters = tuple(_expanded(text, path.parent) for text in modelfile.adapters)

    async def hashed(paths: tuple[Path, ...]) -> tuple[LocalFile, ...]:
        return tuple([await _local_file(path, digests, on_hash) for path in dict.fromkeys(paths)])

    base = _base(bases[0], path) if bases else None
    return _recipe(source, await hashed(files), await hashed(adapters), base, modelfile.request)


def _recipe(
    source: str,
    files: tuple[LocalFile, ...],
    adapters: tuple[LocalFile, ...],
    base: ModelName | None,
    request: Mapping[str, Any],
) -> Recipe:
    # What counts is what Ollama is asked to do; blanks and comments of the Modelfile and the files' names do not.
    meaning = {
        "recipe": 1,
        "from": base.key if base else None,
        "files": [file.digest for file in files],
        "adapters": [file.digest for file in adapters],
        "request": request,
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return Recipe(digest, source, files, adapters, base, request)


def _expanded(text: str, folder: Path) -> Path:
    try:
        return (folder / Path(text).expanduser()).absolute()
    except RuntimeError as error:  # ~name of somebody who is not here
        raise UsageError(f"{text}: {error}") from error


def _named_file(text: str, folder: Path) -> Path | None:
    """The file a FROM line names; None where it is the name of a model. As Ollama: what exists is a file."""
    path = _expanded(text, folder)
    looks_like_a_path = text.startswith(("/", "./", "../", "~")) or text.lower().endswith(_MODEL_SUFFIXES)
    return path if looks_like_a_path or path.exists() else None


def _base(text: str, path: Path) -> ModelName:
    try:
        return parse_name(text)
    except InvalidName:
        raise UsageError(
            f"{path}: FROM {text} is neither a file nor a model's name", hint="paths count from the Modelfile's folder"
        ) from None


def _modelfile(path: Path) -> Modelfile:
    try:
        with path.open("rb") as file:
            return parse_modelfile(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except BadModelfile as error:
        raise UsageError(f"{path}:{error.line}: {error}", hint="a source is a GGUF file or a Modelfile") from error


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder; a model is made from a GGUF file or a Modelfile",
            hint="convert safetensors with llama.cpp's convert_hf_to_gguf.py, then name the GGUF",
        )
    try:
        with path.open("rb") as file:
            return file.read(len(_GGUF)) == _GGUF
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


async def _local_file(path: Path, digests: LocalDigests, on_hash: OnHash | None) -> LocalFile:
    if not _is_gguf(path):
        raise UsageError(f"{path} is not a GGUF file", hint="convert it with llama.cpp's convert_hf_to_gguf.py")
    digest = await digests.of(path, lambda done, total: on_hash(path, done, total) if on_hash else None)
    return LocalFile(path, digest, path.stat().st_size)
