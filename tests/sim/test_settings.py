"""What the environment says."""

import math
from pathlib import Path

import pytest

from olladist.sim.settings import listen_address, read_settings

ANY = "0.0.0.0"  # noqa: S104  an address to read, not to bind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("127.0.0.1", 11434)),
        (ANY, (ANY, 11434)),
        (f"{ANY}:1234", (ANY, 1234)),
        (":1234", (ANY, 1234)),
        ("http://h", ("h", 80)),
        ("https://h/path", ("h", 443)),
        ("h:99999", ("h", 11434)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 11434)),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(text: str, address: tuple[str, int]) -> None:
    """With and without scheme and port; a port that is none is the default."""
    assert listen_address(text) == address


def test_variables_are_read() -> None:
    """Quotes and blanks around values are dropped, what cannot be read is the default, the unknown is ignored."""
    found = read_settings(
        {
            "OLLAMA_MODELS": "'/m'",
            "OLLAMA_NUM_PARALLEL": " 4 ",
            "OLLAMA_MAX_LOADED_MODELS": "0",
            "OLLAMA_MAX_QUEUE": "many",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_FLASH_ATTENTION": "1",
            "SIM_TOKENS_PER_SECOND": "0",
            "SIM_LOAD_RATE": "-3",
            "SIM_NAME": "gpu1",
        }
    )

    assert found.models == Path("/m")
    assert (found.parallel, found.max_loaded, found.max_queue, found.keep_alive) == (4, 3, 512, math.inf)
    assert (found.prune, found.tokens_per_second, found.load_rate, found.name) == (False, 0, 2e9, "gpu1")


def test_the_store_is_in_the_home_directory_where_nothing_else_is_said() -> None:
    """As Ollama's."""
    assert read_settings({"HOME": "/home/me"}).models == Path("/home/me/.ollama/models")
    assert read_settings({"OLLAMA_KEEP_ALIVE": "soon"}).keep_alive == 300
