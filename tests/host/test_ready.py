"""Waiting for a server that was just started."""

import pytest

from olladist.errors import HostError
from olladist.host.ready import Ready, telling
from olladist.ssh.local import LocalRunner
from tests.host.web import Web


def ready(port: int, *, version: str = "", probe: str = "", logs: str = "", patience: float = 20) -> Ready:
    return Ready(port, version, f"ollama.service on port {port}", probe, logs, root=False, patience=patience)


async def test_a_server_that_answers_is_ready(web: Web) -> None:
    """With the version that was started, or with any where none is known."""
    web.files["/api/version"] = b'{"version":"0.17.4"}'
    port = int(web.url.rpartition(":")[2])

    await ready(port, version="0.17.4").execute(LocalRunner("gpu1"))
    await ready(port).execute(LocalRunner("gpu1"))


async def test_another_ollama_that_answers_is_not_the_one_that_was_started(web: Web) -> None:
    """It would be taken for a success otherwise."""
    web.files["/api/version"] = b'{"version":"0.5.0"}'

    with pytest.raises(HostError, match=r"answered by Ollama 0\.5\.0, and not by the 0\.17\.4"):
        await ready(int(web.url.rpartition(":")[2]), version="0.17.4").execute(LocalRunner("gpu1"))


async def test_a_server_that_never_will_is_given_up_early_with_its_log(port: int) -> None:
    """Once the probe says why; the hint comes from the log."""
    logs = "printf 'starting\\nError: mkdir /data/models: permission denied\\n'"

    with pytest.raises(HostError) as caught:
        await ready(port, probe="echo it has failed", logs=logs, patience=3600).execute(LocalRunner("gpu1"))

    assert str(caught.value) == (
        f"gpu1: ollama.service on port {port} does not run: it has failed; the last lines of its log:\n"
        "  Error: mkdir /data/models: permission denied "
        f"(while waiting until ollama.service on port {port} answers)"
    )
    assert "own the model store" in caught.value.hint


async def test_patience_ends(port: int) -> None:
    """Where nothing says why, the last answer of the network does; the hint leads to the log."""
    with pytest.raises(HostError, match=r"no answer within 0 s: no answer from Ollama") as caught:
        await ready(port, patience=0.3).execute(LocalRunner("gpu1"))

    assert caught.value.hint == "read its log: olladist logs --limit gpu1"


def test_the_reason_is_found_before_a_long_stack() -> None:
    """Lines from the last reason on; without one, the last lines."""
    stack = [f"goroutine {number}" for number in range(40)]

    assert telling(["Error: an earlier one", "panic: bad origin", *stack]) == ["panic: bad origin", *stack[:11]]
    assert telling(stack) == stack[-12:]
    assert telling([]) == []


def test_it_says_what_could_be_typed_instead() -> None:
    """A plan shows a command for it too."""
    assert "http://127.0.0.1:11434/api/version" in ready(11434).commands()[0]
