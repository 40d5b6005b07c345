import os
from pathlib import Path

import pytest

from olladist.errors import UsageError
from olladist.inventory.model import DeclaredModel, Inventory
from olladist.modelstore.digests import LocalDigests
from olladist.modelstore.source import FromHost, LocalFile, Recipe, Sources, read_recipe, read_sources
from olladist.ollama.names import parse_name
from tests.modelstore.stores import digest

WEIGHTS = b"GGUF weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.gguf", "lora.gguf", "vision.gguf"):
        (tmp_path / name).write_bytes(WEIGHTS + (b"" if name == "model.gguf" else name.encode()))
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    return tmp_path


async def read(folder: Path, text: str | None = None, source: str = "Modelfile") -> Recipe:
    if text is not None:
        (folder / "Modelfile").write_text(text)
    return await read_recipe(source, folder, LocalDigests(folder / "cache.json"))


async def test_a_gguf_alone_is_a_recipe(folder: Path) -> None:
    """It is asked for by its digest, under a name that tells Ollama its format."""
    recipe = await read(folder, source="model.gguf")

    assert recipe.files == (LocalFile(folder / "model.gguf", digest(WEIGHTS), len(WEIGHTS)),)
    assert recipe.body(parse_name("acme/support:v3")) == {
        "model": "acme/support:v3",
        "files": {"model-1.gguf": digest(WEIGHTS)},
    }


async def test_a_modelfile_says_the_same_as_the_gguf_it_names_alone(folder: Path) -> None:
    """Comments and blanks make no new recipe; what Ollama is asked to do does."""
    alone = await read(folder, source="model.gguf")
    plain = await read(folder, "FROM ./model.gguf")
    blank = await read(folder, "# comment\n\nfrom    model.gguf   \n")
    other = await read(folder, "FROM ./model.gguf\nSYSTEM x")

    assert alone.digest == plain.digest == blank.digest != other.digest


async def test_a_recipe_changes_with_its_file(folder: Path) -> None:
    """The digest of the content counts, not the path."""
    before = await read(folder, "FROM ./model.gguf")
    (folder / "model.gguf").rename(folder / "renamed.gguf")
    renamed = await read(folder, "FROM ./renamed.gguf")
    (folder / "renamed.gguf").write_bytes(b"GGUF other")
    changed = await read(folder, "FROM ./renamed.gguf")

    assert before.digest == renamed.digest != changed.digest


async def test_adapters_and_several_files_are_sent_apart(folder: Path) -> None:
    """A vision model has two files, a tuned one an adapter."""
    recipe = await read(folder, "FROM model.gguf\nFROM vision.gguf\nADAPTER ./lora.gguf\nPARAMETER num_ctx 512")

    assert recipe.body(parse_name("m")) == {
        "model": "m:latest",
        "files": {"model-1.gguf": digest(WEIGHTS), "model-2.gguf": digest(WEIGHTS + b"vision.gguf")},
        "adapters": {"model-1.gguf": digest(WEIGHTS + b"lora.gguf")},
        "parameters": {"num_ctx": 512},
    }


async def test_from_a_model_names_it_as_the_base(folder: Path) -> None:
    """What is no file and does not look like one is a model."""
    recipe = await read(folder, "FROM llama3.2:3b\nSYSTEM x")

    assert recipe.files == ()
    assert recipe.base == parse_name("llama3.2:3b")
    assert recipe.body(parse_name("m")) == {"model": "m:latest", "from": "llama3.2:3b", "system": "x"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM ./gone.gguf", "gone.gguf cannot be read: No such file"),
        ("FROM gone.gguf", "gone.gguf cannot be read: No such file"),
        ("FROM a b c", "FROM a b c is neither a file nor a model's name"),
        ("FROM ./Modelfile", "Modelfile is not a GGUF file"),
        ("FROM .", "is a folder"),
        ("FROM ./model.gguf\nFROM llama3.2", "FROM names a model"),
        ("FROM llama3.2\nFROM mistral", "FROM names a model"),
        ("FROM ./model.gguf\nADAPTER gone", "gone cannot be read"),
        ("FROM ./model.gguf\nTEMPERATURE 1", "Modelfile:2: a command must be one of"),
        ("FROM ~nobody-of-that-name/x.gguf", "nobody-of-that-name"),
    ],
)
async def test_what_cannot_become_a_model_says_why(text: str, problem: str, folder: Path) -> None:
    """The message names the file, and the line where there is one."""
    with pytest.raises(UsageError, match=problem):
        await read(folder, text)


async def test_every_declared_source_is_read_and_problems_stay_with_their_model(folder: Path) -> None:
    """Paths count from the inventory; one bad source does not hide the others."""
    names = {name: parse_name(name) for name in ("file", "copy", "pulled", "bad")}
    inventory = Inventory(
        folder / "inventory.toml",
        "lab",
        hosts={},
        groups={},
        models=(
            DeclaredModel(names["file"], source="model.gguf"),
            DeclaredModel(names["copy"], source="host:gpu1"),
            DeclaredModel(names["pulled"]),
            DeclaredModel(names["bad"], source="gone.gguf"),
        ),
    )
    hashed: list[Path] = []

    sources = await read_sources(
        inventory,
        digests=LocalDigests(folder / "cache.json"),
        on_hash=lambda path, done, total: hashed.append(path),
    )

    assert isinstance(sources, Sources)
    assert sources.of[names["copy"].key] == FromHost("gpu1")
    assert sources.of[names["pulled"].key] is None
    assert isinstance(sources.of[names["file"].key], Recipe)
    assert sources.problems[names["bad"].key].message.startswith("bad:latest: ")
    assert hashed == [folder / "model.gguf"]
