"""One Ollama server spoken to over HTTP, wherever the runner can reach it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from olladist.errors import HostError
from olladist.ssh.runner import Endpoint

T = TypeVar("T")

# Reading a model list takes milliseconds; /api/ps may stall for seconds while a runner closes (server/sched.go holds its
# lock meanwhile). 20 s is well above both, and still ends when the host hangs.
ANSWER_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
# Loading and generating have no bound of ours: dropping the connection while a model loads aborts the load
# (llm/llama_server.go). Whoever calls may cancel.
NO_TIMEOUT = httpx.Timeout(None, connect=5.0)


# It is plain HTTP; httpx would read all certificate authorities for each client, which takes 27 ms of CPU.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Tag(msgspec.Struct, frozen=True):
    """A model in the store, as /api/tags lists it."""

    name: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """A model in memory, as /api/ps lists it; `size_vram` 0 means it runs on the CPU."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0


class Generated(msgspec.Struct, frozen=True):
    """The one answer of a generate call that is not streamed; durations in nanoseconds."""

    response: str = ""
    done: bool = False
    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class _Version(msgspec.Struct):
    version: str


class _Tags(msgspec.Struct):
    models: tuple[Tag, ...] | None = None


class _Ps(msgspec.Struct):
    models: tuple[Loaded, ...] | None = None


class _Error(msgspec.Struct):
    error: str


class OllamaAPI:
    """Speaks to one Ollama; use as an async context manager.

    Every failure is a HostError that names the host, what was asked, and what Ollama or the network said.
    """

    def __init__(self, endpoint: Endpoint, host: str) -> None:
        self._host = host
        # A loopback Ollama answers 403 to a Host header it does not know (server/routes.go allowedHostsMiddleware).
        base = "http://127.0.0.1" if endpoint.path else f"http://{endpoint.host}:{endpoint.port}"
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=NO_TLS, uds=endpoint.path), base_url=base, timeout=ANSWER_TIMEOUT
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def version(self) -> str:
        return (await self._get("/api/version", _Version, "asking Ollama for its version")).version

    async def tags(self) -> tuple[Tag, ...]:
        return (await self._get("/api/tags", _Tags, "listing models")).models or ()

    async def ps(self) -> tuple[Loaded, ...]:
        return (await self._get("/api/ps", _Ps, "listing loaded models")).models or ()

    async def show(self, model: str) -> dict[str, Any] | None:
        """What Ollama knows of a model; None where it has no such model."""
        during = f"showing {model}"
        with self._mapped(during):
            response = await self._client.post("/api/show", json={"model": model})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._decoded(response, dict[str, Any], during)

    async def generate(
        self,
        model: str,
        prompt: str = "",
        *,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        timeout: float | None = None,
    ) -> Generated:
        """The whole answer at once; an empty prompt only loads the model, `keep_alive` 0 with it unloads."""
        body: dict[str, Any] = {"model": model, "prompt": prompt, "stream": False}
        if options is not None:
            body["options"] = dict(options)
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        during = f"generating with {model}"
        with self._mapped(during):
            response = await self._client.post("/api/generate", json=body, timeout=httpx.Timeout(timeout, connect=5.0))
        return self._decoded(response, Generated, during)

    async def create(self, body: Mapping[str, Any]) -> None:
        """Makes a model of blobs that are in the store already; `body` as /api/create takes it, with "model"."""
        during = f"creating {body.get('model', 'a model')}"
        with self._mapped(during):
            response = await self._client.post("/api/create", json={**body, "stream": False}, timeout=NO_TIMEOUT)
        self._decoded(response, dict[str, Any], during)

    async def delete(self, model: str) -> bool:
        """True where the model was there and is gone now; False where there was none."""
        during = f"deleting {model}"
        with self._mapped(during):
            response = await self._client.request("DELETE", "/api/delete", json={"model": model})
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        self._succeeded(response, during)
        return True

    async def pull(self, model: str) -> AsyncIterator[dict[str, Any]]:
        """The registry's model, fetched by the host itself: each progress line as it comes, "success" the last."""
        during = f"pulling {model}"
        last = ""
        with self._mapped(during):
            request = self._client.build_request("POST", "/api/pull", json={"model": model}, timeout=NO_TIMEOUT)
            response = await self._client.send(request, stream=True)
            try:
                if response.is_error:
                    await response.aread()
                    self._succeeded(response, during)
                async for line in response.aiter_lines():
                    progress = self._progress(line, during)
                    last = str(progress.get("status", ""))
                    yield progress
            finally:
                await response.aclose()
        if last != "success":
            raise HostError(self._host, during, "the stream of progress ended without success", hint="run it again")

    async def wait_ready(self, timeout: float, *, now: Callable[[], float] = time.monotonic) -> str:
        """The version, as soon as the server answers; the last failure when it has not within `timeout` seconds."""
        deadline, pause = now() + timeout, 0.05
        while True:
            try:
                return await self.version()
            except HostError:
                if now() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _get(self, path: str, kind: type[T], during: str) -> T:
        with self._mapped(during):
            response = await self._client.get(path)
        return self._decoded(response, kind, during)

    def _decoded(self, response: httpx.Response, kind: type[T], during: str) -> T:
        self._succeeded(response, during)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise HostError(
                self._host, during, f"what answers is not an Ollama: {error}", hint="look at what listens on that port"
            ) from None

    def _succeeded(self, response: httpx.Response, during: str) -> None:
        if response.is_success:
            return
        try:
            text = msgspec.json.decode(response.content, type=_Error).error
        except msgspec.DecodeError:
            text = response.text[:200]
        raise HostError(self._host, during, f"Ollama answered {response.status_code}: {text or response.reason_phrase}")

    def _progress(self, line: str, during: str) -> dict[str, Any]:
        try:
            progress = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise HostError(self._host, during, f"a line of progress cannot be read: {error}") from None
        if "error" in progress:
            raise HostError(self._host, during, f"Ollama answered: {progress['error']}")
        return progress

    @contextmanager
    def _mapped(self, during: str) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise HostError(
                self._host, during, "Ollama did not answer in time", hint=f"olladist logs --limit {self._host}"
            ) from None
        except httpx.HTTPError as error:
            raise HostError(
                self._host,
                during,
                f"no answer from Ollama: {error or type(error).__name__}",
                hint=f"olladist status --limit {self._host}",
            ) from None
