"""Client libraries, unmodified: the same calls against one Ollama and against a gateway, and the same results."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olladist.sim import gguf
from tests.lab.conformance import plain
from tests.lab.conformance.clients import steps
from tests.lab.conformance.servers import Side
from tests.lab.machines import LAB

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
SCRIPTS = HERE / "conformance/clients"
CLIENTS = LAB / "clients"


def run(side: Side, *words: str, given: str = "") -> list[Any]:
    """What a script prints against one side; each line is a call and its result."""
    done = subprocess.run(
        words,
        input=given,
        env=side.environ | {"PYTHONPATH": str(HERE.parent.parent), "CLIENTS": str(CLIENTS)},
        cwd=side.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return plain.documents(done.stdout, side.names)


def same(want: list[Any], got: list[Any]) -> None:
    """Fails with what differs alone, and where it stands in which call."""
    different = [
        f"  call {number}, {a[0]}{place}"
        for number, (a, b) in enumerate(zip(want, got, strict=False))
        for place in unlike(a[1], b[1])
    ]
    assert not different, "\n".join([f"{len(different)} of {len(want)} differ", *different])
    assert len(want) == len(got)


def unlike(want: Any, got: Any) -> Iterator[str]:
    if isinstance(want, dict) and isinstance(got, dict) and want.keys() == got.keys():
        yield from (f".{key}{place}" for key in want for place in unlike(want[key], got[key]))
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        yield from (f"[{at}]{place}" for at, (a, b) in enumerate(zip(want, got, strict=True)) for place in unlike(a, b))
    elif want != got:
        yield f"\n    direct:  {want!r:.800}\n    gateway: {got!r:.800}"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "own.gguf"
    gguf.write(path, "A file of its own.")
    return path


@pytest.mark.parametrize("way", ["plain", "async"])
@pytest.mark.parametrize("library", ["openai", "anthropic", "langchain"])
def test_libraries_get_the_same_answers(sides: tuple[Side, Side], library: str, way: str) -> None:
    """The libraries of OpenAI, Anthropic and LangChain, with their streams and their errors."""
    script = [str(CLIENTS / "venv/bin/python"), str(SCRIPTS / f"{library}_python.py"), way]

    direct, gateway = (run(side, *script, side.server.url) for side in sides)

    same(direct, gateway)


@pytest.mark.parametrize("way", ["plain", "async"])
def test_ollama_python_gets_the_same_answers(sides: tuple[Side, Side], model: Path, way: str) -> None:
    """Every method of Ollama's own library for Python: what reads, what answers, and what changes models."""
    script = [str(CLIENTS / "venv/bin/python"), str(SCRIPTS / "ollama_python.py"), way]

    direct, gateway = (run(side, *script, side.server.url, side.registry, str(model)) for side in sides)

    same(direct, gateway)


def test_ollama_js_gets_the_same_answers(sides: tuple[Side, Side]) -> None:
    """Ollama's library for JavaScript, which throws where a stream ends without its last word."""
    script = ["node", str(SCRIPTS / "ollama_js.mjs")]

    direct, gateway = (
        run(side, *script, side.server.url, given=json.dumps(steps.steps(side.registry))) for side in sides
    )

    same(direct, gateway)


def examples(language: str) -> list[str]:
    """The blocks of the guide in one language."""
    page = (HERE.parent.parent / "docs/guides/clients.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_guides_examples_work_as_they_stand(sides: tuple[Side, Side]) -> None:
    """Every block of the guide runs against a gateway, with the address and the model of this test in their places."""
    side = sides[1]
    runs = [("python", str(CLIENTS / "venv/bin/python"), "-c"), ("js", "node", "--input-type=module", "-e")]
    asked = 0
    (side.home / "node_modules").symlink_to(CLIENTS / "node_modules")
    for language, *words in runs:
        for block in examples(language):
            code = block.replace("http://gateway:11434", side.server.url).replace("llama3.2:3b", "sky")
            assert run(side, *words, code) == []
            asked += 1

    assert asked == 5
