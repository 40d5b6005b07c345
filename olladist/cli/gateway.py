"""A gateway for the length of a check: `olladist proxy` as a process of its own, on a port that is free."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from olladist.errors import GatewayError
from olladist.inventory.model import Inventory
from olladist.output.documents import ProxyDocument

START_SECONDS = 30.0
# The check is over when it ends, so nothing is under way that it would have to wait for.
END_SECONDS = 10.0
SAID_BYTES = 4000


@asynccontextmanager
async def temporary_gateway(inventory: Inventory, limit: str | None) -> AsyncIterator[str]:
    """Its URL, once clients are served; GatewayError with what it said where it does not start."""
    words = ["-m", "olladist", "--json", "-i", str(inventory.path.absolute())]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        *(["--limit", limit] if limit else []),
        "proxy",
        "--listen",
        "127.0.0.1:0",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C comes to us, and we end it in order
    )
    said = asyncio.create_task(_tail(process))
    try:
        yield await _url(process, said)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        await said


async def _url(process: asyncio.subprocess.Process, said: asyncio.Task[str]) -> str:
    """Reads the document that it prints when it is ready."""
    text = b""
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.stdout and (line := await process.stdout.readline()):
                text += line
                if line.strip() == b"}":
                    return msgspec.json.decode(text, type=ProxyDocument).url
            problem = (await said).strip()
    except TimeoutError:
        raise GatewayError(f"the gateway was not ready within {START_SECONDS:g} s") from None
    raise GatewayError(f"the gateway did not start: {problem[-500:]}")


async def _tail(process: asyncio.subprocess.Process) -> str:
    """The end of what it says on stderr, read to the end so that it never has to wait."""
    kept = b""
    while process.stderr and (chunk := await process.stderr.read(SAID_BYTES)):
        kept = (kept + chunk)[-SAID_BYTES:]
    return kept.decode(errors="replace")
