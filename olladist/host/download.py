"""Downloads to the operator's machine: resumed where one was cut off, one at a time per file, verified before the name is given."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from olladist.errors import OlladistError

_TRIES = 4
_OFFLINE = "without a way to the internet: set [fleet] mirror, or [fleet] ollama to the path of a tarball"


class Missing(OlladistError):
    """The server answers, and has no such file."""


def client() -> httpx.AsyncClient:
    # "identity": some servers compress what they send, and name a .tgz's own compression as one to undo.
    headers = {"Accept-Encoding": "identity", "User-Agent": "olladist"}
    return httpx.AsyncClient(follow_redirects=True, timeout=httpx.Timeout(30, connect=10), headers=headers)


async def fetch_text(url: str, *, follow: bool = True) -> tuple[str, str]:
    """A small text, and where a redirect that was not followed leads; Missing on 404, OlladistError offline."""
    async with _mapped(url), client() as web, web.stream("GET", url, follow_redirects=follow) as response:
        if response.is_redirect:
            return "", response.headers.get("location", "")
        _succeeded(response, url)
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > 1 << 20:
                raise OlladistError(f"{url} is no list of checksums or versions: it is larger than 1 MiB")
        return body.decode(errors="replace"), ""


async def size_at(url: str) -> int | None:
    """The size of a file, None where the server does not tell; Missing where there is none."""
    # One byte by GET and not HEAD: signed storage URLs, to which GitHub redirects, are signed for GET.
    async with _mapped(url), client() as web, web.stream("GET", url, headers={"Range": "bytes=0-0"}) as response:
        _succeeded(response, url)
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            total = response.headers.get("content-range", "").rpartition("/")[2]
        else:
            total = response.headers.get("content-length", "")
        return int(total) if total.isascii() and total.isdigit() else None


async def download(
    url: str, target: Path, verify: Callable[[Path], Awaitable[None]], progress: Callable[[int, int], None]
) -> None:
    """Fetches `url` to `target`, which appears only once `verify` has looked at all of it and not raised."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _alone(target):
        if target.exists():
            return  # somebody else was faster
        part = target.with_name(target.name + ".part")
        resumed = await _receive(url, part, progress)
        try:
            await verify(part)
        except OlladistError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            # The beginning may have been of another file: once more, from the first byte.
            await _receive(url, part, progress)
            try:
                await verify(part)
            except OlladistError:
                part.unlink(missing_ok=True)
                raise
        part.replace(target)


async def _receive(url: str, part: Path, progress: Callable[[int, int], None]) -> bool:
    """Receives the whole file into `part`; whether its beginning was there already."""
    resumed = part.exists() and part.stat().st_size > 0
    for left in reversed(range(_TRIES)):
        try:
            async with _mapped(url):
                await _receive_once(url, part, progress)
            break
        except _CutOff as error:
            if not left:
                raise OlladistError(f"{url} breaks off again and again: {error}", hint="run it again") from None
            await asyncio.sleep(0.2 * 2 ** (_TRIES - left))
    return resumed


class _CutOff(Exception):
    pass


async def _receive_once(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    validator = part.with_name(part.name + ".etag")
    have = part.stat().st_size if part.exists() and validator.exists() else 0
    # RFC 9110 section 13.1.5: the rest only if the file is still the same, else all of it.
    headers = {"Range": f"bytes={have}-", "If-Range": validator.read_text()} if have else {}
    async with client() as web, web.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise _CutOff("its end was here already")
        _succeeded(response, url)
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
            etag = response.headers.get("etag", "")
            known = response.headers.get("last-modified", "") if not etag or etag.startswith("W/") else etag
            validator.unlink(missing_ok=True)
            if known:
                validator.write_text(known)
        length = response.headers.get("content-length", "")
        total = have + int(length) if length.isascii() and length.isdigit() else 0
        with part.open("ab" if have else "wb") as file:
            try:
                async for chunk in response.aiter_raw():  # as it comes: what was buffered when it breaks off is lost
                    file.write(chunk)
                    have += len(chunk)
                    progress(have, total)
            except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout) as error:
                raise _CutOff(str(error) or type(error).__name__) from None
    validator.unlink(missing_ok=True)


def _succeeded(response: httpx.Response, url: str) -> None:
    if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise Missing(f"{url} does not exist ({response.status_code})", hint="check the version and the mirror")
    if not response.is_success:
        raise OlladistError(f"{url} answers {response.status_code} {response.reason_phrase}", hint=_OFFLINE)


@asynccontextmanager
async def _mapped(url: str) -> AsyncIterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OlladistError(f"{url} cannot be fetched: {error or type(error).__name__}", hint=_OFFLINE) from None
    except OSError as error:
        raise OlladistError(f"{url} cannot be kept here: {error.strerror} ({error.filename})") from None


@asynccontextmanager
async def _alone(target: Path) -> AsyncIterator[None]:
    """Holds a lock that another olladist on this machine sees too; the kernel drops it when we die."""
    with target.with_name(target.name + ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield
