"""What the environment says: Ollama's own variables, and SIM_* for what a simulation can choose (docs/guides/demo.md)."""

import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from olladist.units import parse_go_duration

VERSION = "0.17.4"  # the Ollama whose behaviour this is; tests/lab/test_sim_conformance.py holds it to a real one


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int
    models: Path
    parallel: int = 1
    max_loaded: int = 3  # three for each GPU, or for the CPU (server/sched.go defaultModelsPerGPU)
    max_queue: int = 512
    keep_alive: float = 300.0
    context: int = 4096
    prune: bool = True
    origins: tuple[str, ...] = ()
    version: str = VERSION
    name: str = ""  # what the host calls itself in its answers
    load_rate: float = 2e9  # bytes a second
    tokens_per_second: float = 200.0  # 0: as fast as it goes


def read_settings(environ: Mapping[str, str]) -> Settings:
    """As envconfig does it: what cannot be read is taken for its default, unknown variables are nobody's business."""
    value = {key: text.strip().strip("\"'").strip() for key, text in environ.items()}
    host, port = listen_address(value.get("OLLAMA_HOST", ""))
    return Settings(
        host=host,
        port=port,
        models=Path(value.get("OLLAMA_MODELS") or Path(environ.get("HOME", "/"), ".ollama", "models")),
        parallel=max(1, _count(value.get("OLLAMA_NUM_PARALLEL"), 1)),
        max_loaded=_count(value.get("OLLAMA_MAX_LOADED_MODELS"), 0) or 3,
        max_queue=_count(value.get("OLLAMA_MAX_QUEUE"), 512),
        keep_alive=_keep_alive(value.get("OLLAMA_KEEP_ALIVE", "")),
        context=_count(value.get("OLLAMA_CONTEXT_LENGTH"), 0) or 4096,
        prune=value.get("OLLAMA_NOPRUNE", "").lower() in {"", "0", "f", "false"},
        origins=tuple(part for part in value.get("OLLAMA_ORIGINS", "").split(",") if part),
        version=value.get("SIM_VERSION") or VERSION,
        name=value.get("SIM_NAME") or socket.gethostname(),
        load_rate=_rate(value.get("SIM_LOAD_RATE"), 2e9),
        tokens_per_second=_rate(value.get("SIM_TOKENS_PER_SECOND"), 200.0),
    )


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of OLLAMA_HOST: "h", "h:p", ":p", "http://h" (80), "[::1]:p"."""
    scheme, separator, rest = text.partition("://")
    default = {"http": 80, "https": 443}.get(scheme, 11434) if separator else 11434
    place = (rest if separator else text).partition("/")[0]
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, ""
    number = int(port) if port.isascii() and port.isdigit() and int(port) < 65536 else default
    return host.strip("[]") or ("0.0.0.0" if colon and port else "127.0.0.1"), number  # noqa: S104  Ollama's ":p" is any


def _count(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default


def _rate(text: str | None, default: float) -> float:
    try:
        rate = float(text or default)
    except ValueError:
        return default
    return rate if rate >= 0 else default


def _keep_alive(text: str) -> float:
    try:
        seconds = parse_go_duration(text) if text else 300.0
    except ValueError:
        return 300.0
    return math.inf if seconds < 0 else seconds


def from_environment() -> Settings:
    return read_settings(os.environ)
