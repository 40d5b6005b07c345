"""generate, chat, embed and embeddings: the handlers of server/routes.go in their order of checks, with simulated runners."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from olladist.ollama.gojson import quote
from olladist.ollama.names import ModelName, split_name
from olladist.sim import words
from olladist.sim.golang import Document, utc
from olladist.sim.model import Model
from olladist.sim.reply import Answer, Failure, Refused, Reply, Stream
from olladist.sim.runners import Hold, Runners
from olladist.sim.scheduler import Options
from olladist.sim.settings import Settings
from olladist.sim.store import Store

# A prompt is read this many times faster than an answer is written: about what GPUs do.
PREFILL_SPEEDUP = 20

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread"), "integer"),
    **dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n"), "integer"),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "temperature"), "float32"),
    **dict.fromkeys(("repeat_penalty", "presence_penalty", "frequency_penalty"), "float32"),
    "stop": "array",
    "use_mmap": "boolean",
}


@dataclass(frozen=True, slots=True)
class Server:
    """One simulated Ollama: what every handler gets."""

    settings: Settings
    store: Store
    runners: Runners


def not_found(name: str) -> Refused:
    return Refused(404, f"model '{name}' not found")


def _read(server: Server, name: ModelName, asked: str) -> Model:
    try:
        return server.store.read(server.store.existing(name))
    except FileNotFoundError:
        raise not_found(asked) from None
    except (OSError, ValueError, KeyError) as error:
        raise Refused(500, str(error)) from None


def merged_options(server: Server, model: Model, asked: Mapping[str, Any]) -> Document:
    """Defaults, the model's parameters, the request's options; Refused(500) for a value of the wrong type."""
    merged: Document = {"num_ctx": server.settings.context}
    for options in (model.parameters, asked):
        for key, value in options.items():
            if key in _KINDS and value is not None:
                _check_option(key, value)
                merged[key] = value
    return merged


def _check_option(key: str, value: object) -> None:
    kind = _KINDS[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "integer": number,
        "float32": number,
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
    }[kind]
    if not right:
        raise Refused(500, f"option {quote(key)} must be of type {kind}")
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise Refused(500, f"option {quote(key)} must be of an array of strings")


def runner_options(options: Document) -> Options:
    return Options(
        num_ctx=max(4, int(options["num_ctx"])),
        num_batch=int(options.get("num_batch", 512)),
        num_gpu=int(options.get("num_gpu", -1)),
        main_gpu=int(options.get("main_gpu", 0)),
        use_mmap=options.get("use_mmap"),
        num_thread=int(options.get("num_thread", 0)),
    )


async def hold(
    server: Server, stack: AsyncExitStack, model: Model, request: Document, capabilities: tuple[str, ...]
) -> tuple[Hold, Document]:
    """The model's runner, held until the exchange is over (scheduleRunner)."""
    missing = [capability for capability in capabilities if capability not in model.capabilities]
    if missing:
        lines = "\n".join(missing)
        raise Refused(400, f"{model.name.full} does not support {lines}")
    options = merged_options(server, model, request.get("options") or {})
    if model.weights is None or not model.weights.exists():
        raise Refused(500, f"unable to load model: {model.weights}")
    held = await stack.enter_async_context(
        server.runners.hold(model, runner_options(options), request.get("keep_alive"))
    )
    return held, options


def _check_thinking(request: Document, model: Model) -> None:
    think = request.get("think")
    if isinstance(think, str) and think:
        raise Refused(400, f"think value {quote(think)} is not supported for this model")
    if think and "thinking" not in model.capabilities:
        raise Refused(400, f"{quote(request['model'])} does not support thinking")


def _check_logprobs(request: Document) -> None:
    if not 0 <= request.get("top_logprobs", 0) <= 20:
        raise Refused(400, "top_logprobs must be between 0 and 20")


@dataclass(frozen=True, slots=True)
class _Answering:
    """One answer on its way: whose, from when on, and what was read for it."""

    server: Server
    held: Hold
    model: Model
    started: int
    loaded: int
    prompt: str
    options: Document

    async def pieces(self) -> AsyncGenerator[tuple[words.Piece, Document], None]:
        """The answer at the pace of the settings; figures come with the last piece."""
        await self.held.slot()
        settings, rate = self.server.settings, self.server.settings.tokens_per_second
        read = min(words.count(self.prompt), self.options["num_ctx"], self.model.trained_context)
        begun = time.perf_counter()
        await asyncio.sleep(read / rate / PREFILL_SPEEDUP if rate else 0)
        prefilled = time.perf_counter()
        limit, stops = int(self.options.get("num_predict", -1)), self.options.get("stop", [])
        for piece in words.pieces(words.sentence(self.model, settings.name), limit=limit, stops=stops):
            due = prefilled + (piece.evaluated / rate if rate else 0)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            figures: Document = {}
            if piece.reason:
                figures = words.metrics(
                    total=time.perf_counter_ns() - self.started,
                    load=self.loaded - self.started,
                    prompt=read,
                    prompt_time=int((prefilled - begun) * 1e9),
                    evaluated=piece.evaluated,
                    eval_time=int((time.perf_counter() - prefilled) * 1e9),
                )
            yield piece, figures


def _bad_format(request: Document) -> Failure | None:
    wanted = request.get("format")
    if wanted in (None, "", "json") or isinstance(wanted, dict):
        return None
    shown = quote(wanted) if isinstance(wanted, str) else str(wanted)
    return Failure(f'invalid format: {quote(shown)}; expected "json" or a valid JSON Schema object')


async def _collected(documents: AsyncGenerator[Document | Failure, None], text_of: str) -> Reply:
    """The one answer of a request that does not stream: the last chunk with all the text."""
    text, latest = "", Document()
    async with aclosing(documents):
        async for document in documents:
            if isinstance(document, Failure):
                raise Refused(document.status, document.text)
            latest = document
            text += document["message"]["content"] if text_of == "message" else document["response"]
    whole = {"role": "assistant", "content": text} if text_of == "message" else text
    return Answer(latest | {text_of: whole})


async def generate(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    started = time.perf_counter_ns()
    _check_logprobs(request)
    asked = request.get("model", "")
    name = split_name(asked)
    if not name.is_valid():
        raise not_found(asked)
    model = _read(server, name, asked)
    bare: Document = {"model": asked, "created_at": utc(time.time_ns()), "response": "", "done": True}
    prompt = request.get("prompt", "")
    if not prompt and request.get("keep_alive") == 0:
        server.runners.expire(model)
        return Answer(bare | {"done_reason": "unload"})
    if request.get("raw") and any(request.get(key) for key in ("template", "system", "context")):
        raise Refused(400, "raw mode does not support template, system, or context")
    _check_thinking(request, model)
    if "completion" not in model.capabilities:
        raise Refused(400, f"{quote(asked)} does not support generate")
    held, options = await hold(server, stack, model, request, ("insert",) if request.get("suffix") else ())
    loaded = time.perf_counter_ns()
    if not prompt:
        return Answer(bare | {"created_at": utc(time.time_ns()), "done_reason": "load"})
    if not request.get("raw"):
        template = request.get("template") or model.template
        if words.unclosed(template):
            raise Refused(500, "template: :1: unclosed action")
        message = {"role": "user", "content": prompt}
        prompt = words.render(template, [*model.messages, message], request.get("system") or model.system)

    async def documents() -> AsyncGenerator[Document | Failure, None]:
        if failure := _bad_format(request):
            yield failure
            return
        said = ""
        answering = _Answering(server, held, model, started, loaded, prompt, options)
        async for piece, figures in answering.pieces():
            said += piece.text
            chunk: Document = {"model": asked, "created_at": utc(time.time_ns()), "response": piece.text}
            if not piece.reason:
                yield chunk | {"done": False}
                continue
            context = {} if request.get("raw") else {"context": words.tokens(prompt + said)}
            yield chunk | {"done": True, "done_reason": piece.reason} | context | figures

    return Stream(documents()) if request.get("stream", True) else await _collected(documents(), "response")


async def chat(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    started = time.perf_counter_ns()
    _check_logprobs(request)
    asked = request.get("model", "")
    name = split_name(asked)
    if not name.is_valid():
        raise Refused(400, "model is required")
    model = _read(server, name, asked)
    empty = {"role": "assistant", "content": ""}
    bare: Document = {"model": asked, "created_at": utc(time.time_ns()), "message": empty, "done": True}
    messages = [message or {} for message in request.get("messages", [])]
    if not messages and request.get("keep_alive") == 0:
        server.runners.expire(model)
        return Answer(bare | {"done_reason": "unload"})
    _check_thinking(request, model)
    if "completion" not in model.capabilities:
        raise Refused(400, f"{quote(asked)} does not support chat")
    held, options = await hold(server, stack, model, request, ("tools",) if request.get("tools") else ())
    loaded = time.perf_counter_ns()
    if not messages:
        return Answer(bare | {"created_at": utc(time.time_ns()), "done_reason": "load"})
    prompt = words.render(model.template, [*model.messages, *messages], model.system)

    async def documents() -> AsyncGenerator[Document | Failure, None]:
        if failure := _bad_format(request):
            yield failure
            return
        answering = _Answering(server, held, model, started, loaded, prompt, options)
        async for piece, figures in answering.pieces():
            message = {"role": "assistant", "content": piece.text}
            chunk: Document = {"model": asked, "created_at": utc(time.time_ns()), "message": message}
            ending = {"done": True, "done_reason": piece.reason} if piece.reason else {"done": False}
            yield chunk | ending | figures

    return Stream(documents()) if request.get("stream", True) else await _collected(documents(), "message")


def _unqualified(name: ModelName) -> Refused:
    return Refused(500, f"unqualified name: {name.full}")


async def _embedded(server: Server, held: Hold, model: Model, texts: list[str], options: Document) -> int:
    """Waits as long as it takes to read the texts; the count of their tokens. Refused(400) for one that is too long."""
    counts = [words.count(text) for text in texts]
    if any(count > min(options["num_ctx"], model.trained_context) for count in counts):
        raise Refused(400, "the input length exceeds the context length")
    await held.slot()
    rate = server.settings.tokens_per_second
    await asyncio.sleep(sum(counts) / rate / PREFILL_SPEEDUP if rate else 0)
    return sum(counts)


async def embed(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    started = time.perf_counter_ns()
    given = request.get("input")
    texts = [given] if isinstance(given, str) and given else given if isinstance(given, list) else []
    if not (given is None or isinstance(given, str | list)) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type")
    asked = request.get("model", "")
    name = split_name(asked)
    model = _embedder(server, server.store.existing(name), asked)
    held, options = await hold(server, stack, model, request, ())
    loaded = time.perf_counter_ns()
    if not texts:
        return Answer({"model": asked, "embeddings": []})
    read = await _embedded(server, held, model, texts, options)
    vectors = [words.embedding(model, text)[: request.get("dimensions") or None] for text in texts]
    total = time.perf_counter_ns() - started
    figures = words.metrics(total=total, load=loaded - started, prompt=read, prompt_time=0, evaluated=0, eval_time=0)
    return Answer({"model": asked, "embeddings": vectors} | figures)


async def embeddings(server: Server, stack: AsyncExitStack, request: Document) -> Reply:
    """The old route: the name has to be spelled as on disk, and errors of the runner are 500."""
    asked = request.get("model", "")
    name = split_name(asked)
    if not name.is_valid():
        raise Refused(400, "model is required")
    model = _embedder(server, name, asked)
    held, options = await hold(server, stack, model, request, ())
    prompt = request.get("prompt", "")
    if not prompt:
        return Answer({"embedding": []})
    try:
        await _embedded(server, held, model, [prompt], options)
    except Refused as error:
        raise Refused(500, error.text) from None
    return Answer({"embedding": words.embedding(model, prompt)})


def _embedder(server: Server, name: ModelName, asked: str) -> Model:
    if not name.is_valid():
        raise _unqualified(name)
    try:
        return server.store.read(name)
    except FileNotFoundError:
        raise Refused(404, f"model {quote(asked)} not found, try pulling it first") from None
    except (OSError, ValueError, KeyError) as error:
        raise Refused(500, str(error)) from None
