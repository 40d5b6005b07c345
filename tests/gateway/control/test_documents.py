import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from olladist.gateway.control import documents

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGE = (REFERENCE / "gateway-api.md").read_text()


def cleaned(value: Any) -> Any:
    """Descriptions without the indent of their source."""
    if isinstance(value, dict):
        return {k: inspect.cleandoc(v) if k == "description" else cleaned(v) for k, v in value.items()}
    return [cleaned(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("document", [documents.Status, documents.Nodes])
def test_the_schemas_in_the_docs_are_current(document: type[msgspec.Struct]) -> None:
    """The schema files say what the program answers; GOLDEN=write writes them anew."""
    path = REFERENCE / f"gateway-{document.__name__.lower()}.schema.json"
    text = json.dumps(cleaned(msgspec.json.schema(document)), indent=1) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)

    assert path.read_text() == text


def test_every_field_is_documented() -> None:
    """The page names every field of both documents and of what is in them."""
    structs = [s for s in vars(documents).values() if inspect.isclass(s) and issubclass(s, msgspec.Struct)]
    fields = {field for struct in structs for field in struct.__struct_fields__}

    assert fields - set(re.findall(r"`([a-z_]+)`", PAGE)) == set()


def test_every_strategy_is_documented() -> None:
    """The page explains each strategy that the inventory takes."""
    for strategy in ("round-robin", "least-loaded", "model-affinity"):
        assert f"| `{strategy}`" in PAGE
