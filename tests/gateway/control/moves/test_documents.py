import inspect
import re
from pathlib import Path

import msgspec
import pytest

from olladist.gateway.control.moves import documents
from olladist.gateway.control.moves.bar import Bar

REFERENCE = Path(__file__).parents[4] / "docs" / "reference"


def test_every_field_is_documented() -> None:
    """The page names every field as JSON has it."""
    page = (REFERENCE / "gateway-api.md").read_text()
    structs = [s for s in vars(documents).values() if inspect.isclass(s) and issubclass(s, msgspec.Struct)]
    fields = {field.encode_name for struct in structs for field in msgspec.structs.fields(struct)}

    assert fields - set(re.findall(r"`([a-z_]+)`", page)) == set()


@pytest.mark.parametrize(
    "line", [Bar("copying", "sha256:" + "a" * 64, {"gpu1": 10}).start(), {"error": "x"}, {"status": "success"}]
)
def test_lines_are_as_their_schema_says(line: dict[str, object]) -> None:
    """What is streamed is what is documented."""
    assert msgspec.convert(line, documents.Progress)
