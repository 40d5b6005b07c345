"""The documents of --json keep their shape."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from olladist.output import documents
from tests.output.golden import assert_golden

EXPECTED = Path(__file__).parent / "expected"
DOCUMENTS = [
    value
    for value in vars(documents).values()
    if inspect.isclass(value) and issubclass(value, msgspec.Struct) and "schema" in value.__struct_fields__
]


def test_the_schemas_are_as_they_were() -> None:
    """A field may come; one that goes or changes asks for another version."""
    _, components = msgspec.json.schema_components(DOCUMENTS)
    for component in components.values():
        component.pop("description", None)  # the docstring, whose blanks differ between versions of Python

    assert_golden(EXPECTED / "schemas.json", json.dumps(components, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.__name__)
def test_every_document_says_what_it_is(document: Any) -> None:
    """A schema that begins with olladist, and a version."""
    fields = {field.name: field for field in msgspec.structs.fields(document)}

    assert all(name.startswith("olladist.") for name in fields["schema"].type.__args__)
    assert fields["version"].default == 1
    assert document.__doc__
