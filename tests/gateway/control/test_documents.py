import inspect
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from olladist.gateway.control import documents, explanation, holdings, statistics, waiting

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
PAGE = (REFERENCE / "gateway-api.md").read_text()


@pytest.mark.parametrize(
    "module",
    [documents, explanation, holdings, statistics, waiting],
    ids=lambda module: module.__name__.rsplit(".", 1)[1],
)
def test_every_field_is_documented(module: ModuleType) -> None:
    """The page names every field of each document and of what is in it."""
    structs = [s for s in vars(module).values() if inspect.isclass(s) and issubclass(s, msgspec.Struct)]
    structs = [struct for struct in structs if struct.__module__ == module.__name__]
    fields = {field for struct in structs for field in struct.__struct_fields__}

    assert fields - set(re.findall(r"`([a-z_0-9]+)`", PAGE)) == set()


def test_every_strategy_is_documented() -> None:
    """The page explains each strategy that the inventory takes."""
    for strategy in ("adaptive", "round-robin", "least-loaded", "model-affinity"):
        assert f"| `{strategy}`" in PAGE
