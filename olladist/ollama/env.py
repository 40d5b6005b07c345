"""Ollama's environment variables: what they are called, what values they take, and how a server reads them.

Source: envconfig/config.go of 0.17.4 and 0.33.0-rc2. Ollama itself never complains: a wrong bool counts as true, a wrong
number or duration as the default, an unknown name as nothing. So an operator has to hear of it from us.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum


class Kind(StrEnum):
    """How Ollama reads a value."""

    BOOL = "bool"  # strconv.ParseBool
    COUNT = "count"  # strconv.ParseUint
    DURATION = "duration"  # time.ParseDuration, or whole seconds
    LEVEL = "level"  # a bool, or a whole number
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Variable:
    """`default` is what Ollama does without it, in words where it is no plain value."""

    kind: Kind
    default: str
    meaning: str


VARIABLES: Mapping[str, Variable] = {
    "OLLAMA_AUTH": Variable(Kind.BOOL, "false", "sign requests between Ollama's client and server"),
    "OLLAMA_CLOUD_BASE_URL": Variable(Kind.TEXT, "https://ollama.com", "where cloud models are"),
    "OLLAMA_CONTEXT_LENGTH": Variable(Kind.COUNT, "0 (4k, 32k or 256k by VRAM)", "context in tokens, of each slot"),
    "OLLAMA_DEBUG": Variable(Kind.LEVEL, "0", "log level: 1 debug, 2 trace"),
    "OLLAMA_DEBUG_LOG_REQUESTS": Variable(Kind.BOOL, "false", "log whole requests"),
    "OLLAMA_EDITOR": Variable(Kind.TEXT, "", "editor of the interactive client"),
    "OLLAMA_EXPERIMENT": Variable(Kind.TEXT, "", "names of experiments, with commas"),
    "OLLAMA_FLASH_ATTENTION": Variable(Kind.BOOL, "by model", "flash attention"),
    "OLLAMA_GO_TEMPLATE": Variable(Kind.BOOL, "true", "Go templates"),
    "OLLAMA_GPU_OVERHEAD": Variable(Kind.COUNT, "0", "bytes of VRAM to leave free on each GPU"),
    "OLLAMA_HOST": Variable(Kind.TEXT, "127.0.0.1:11434", "address to listen on"),
    "OLLAMA_IGPU_ENABLE": Variable(Kind.BOOL, "by GPU", "use integrated GPUs"),
    "OLLAMA_KEEP_ALIVE": Variable(Kind.DURATION, "5m", "how long an idle model stays in memory; below 0: for ever"),
    "OLLAMA_KV_CACHE_TYPE": Variable(Kind.TEXT, "f16", "quantization of the K/V cache: f16, q8_0, q4_0"),
    "OLLAMA_LIBRARY_PATH": Variable(Kind.TEXT, "", "where the GPU libraries are"),
    "OLLAMA_LLM_LIBRARY": Variable(Kind.TEXT, "", "GPU library to use instead of the one found"),
    "OLLAMA_LOAD_TIMEOUT": Variable(Kind.DURATION, "5m", "how long a load may stand still; 0 or less: for ever"),
    "OLLAMA_MAX_LOADED_MODELS": Variable(Kind.COUNT, "0 (3 for each GPU)", "models in memory at once"),
    "OLLAMA_MAX_QUEUE": Variable(Kind.COUNT, "512", "requests that may wait for a model to load"),
    "OLLAMA_MAX_TRANSFER_STREAMS": Variable(Kind.COUNT, "4", "parallel streams of a pull or push of tensors"),
    "OLLAMA_MODELS": Variable(Kind.TEXT, "~/.ollama/models", "the model store"),
    "OLLAMA_MULTIUSER_CACHE": Variable(Kind.BOOL, "false", "prompt cache for many users"),
    "OLLAMA_NEW_ENGINE": Variable(Kind.BOOL, "false", "the new engine"),
    "OLLAMA_NOHISTORY": Variable(Kind.BOOL, "false", "no history in the interactive client"),
    "OLLAMA_NOPRUNE": Variable(Kind.BOOL, "false", "do not remove unused blobs at start"),
    "OLLAMA_NO_CLOUD": Variable(Kind.BOOL, "false", "no cloud models and no web search"),
    "OLLAMA_NUM_PARALLEL": Variable(Kind.COUNT, "1", "slots: requests that one model answers at the same time"),
    "OLLAMA_ORIGINS": Variable(Kind.TEXT, "local pages only", "origins that browsers may call from, with commas"),
    "OLLAMA_REMOTES": Variable(Kind.TEXT, "ollama.com", "hosts that remote models may be on, with commas"),
    "OLLAMA_SCHED_SPREAD": Variable(Kind.BOOL, "false", "spread every model over all GPUs"),
    "OLLAMA_VULKAN": Variable(Kind.BOOL, "by version", "GPUs through Vulkan"),
}

# What olladist sets by itself on every instance, and which key of the inventory decides it.
RESERVED: Mapping[str, str] = {
    "OLLAMA_HOST": "olladist sets it from the port of each instance; write `port` there",
    "OLLAMA_MODELS": "olladist sets it from the host's `models_dir`; write that",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOOLS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})
_COUNT = re.compile(r"\+?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_variable(name: str, value: str) -> str | None:
    """What is wrong with giving `value` to `name`, for the operator to read; None where nothing is."""
    if not _NAME.fullmatch(name):
        return "is not a name of an environment variable (letters, digits and _)"
    if name in RESERVED:
        return f"cannot be set here: {RESERVED[name]}"
    if name.startswith("OLLADIST_"):
        return "cannot be set here: names that begin with OLLADIST_ are olladist's own"
    if _CONTROL.search(value):
        return "holds a control character or a line break"
    variable = VARIABLES.get(name)
    if variable is None:
        return _unknown(name) if name.upper().startswith("OLLAMA_") else None
    return _wrong_value(variable.kind, _stripped(value))


def slots(env: Mapping[str, str]) -> int:
    """Requests that a server with this environment works on at once for one model; server/sched.go takes 0 as 1."""
    value = _stripped(env.get("OLLAMA_NUM_PARALLEL", ""))
    return max(int(value), 1) if _COUNT.fullmatch(value) and int(value) < 2**64 else 1


def models_max(env: Mapping[str, str], gpus: int) -> int:
    """Models that a server with this environment keeps in memory at once; without a number, three for each GPU (server/sched.go)."""
    value = _stripped(env.get("OLLAMA_MAX_LOADED_MODELS", ""))
    declared = int(value) if _COUNT.fullmatch(value) and int(value) < 2**64 else 0
    return declared or 3 * max(gpus, 1)


def _unknown(name: str) -> str:
    near = get_close_matches(name.upper(), VARIABLES, n=1)
    return "is not a variable that Ollama knows" + (f"; did you mean {near[0]}?" if near else "")


def _wrong_value(kind: Kind, value: str) -> str | None:
    if kind is Kind.TEXT or not value:
        return None
    if kind is Kind.BOOL and value not in _BOOLS:
        return f"must be true or false, not {value!r} (Ollama would take it for true)"
    if kind is Kind.COUNT and not (_COUNT.fullmatch(value) and int(value) < 2**64):
        return f"must be a whole number from 0 on, not {value!r} (Ollama would fall back to its default)"
    if kind is Kind.DURATION and not (_DURATION.fullmatch(value) or _WHOLE.fullmatch(value)):
        return f"must be a duration such as 30m, 1h30m or 300 (seconds), not {value!r} (Ollama would fall back to 5m)"
    if kind is Kind.LEVEL and not (value in _BOOLS or _WHOLE.fullmatch(value)):
        return f"must be 0, 1 (debug) or 2 (trace), not {value!r}"
    return None


def _stripped(value: str) -> str:
    """envconfig.Var: without blanks, then without quotes, around it."""
    return value.strip().strip("\"'")
