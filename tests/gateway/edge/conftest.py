import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import uvloop
from hypothesis import settings

from tests.gateway.edge.harness import Gateway, gateway

# A machine under load must not fail a property; a test as a whole has its timeout.
settings.register_profile("olladist", deadline=None)
settings.load_profile("olladist")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The edge runs on uvloop, whose transports are not asyncio's: so do its tests."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short enough for unix sockets (108 bytes), which pytest's tmp_path is not always."""
    with TemporaryDirectory(prefix="edge-") as directory:
        yield Path(directory)


@pytest.fixture
async def gate(run_dir: Path) -> AsyncIterator[Gateway]:
    """A worker and a control process that are not yet connected."""
    async with gateway(run_dir) as running:
        yield running
