"""Every metric of a gateway: its name, its labels and what it means. docs/reference/metrics.md is made from this list.

Labels are bounded: nodes and keys are those of the inventory, routes those of Ollama's API, and a model is named only where
the fleet lists it; all others are "other". Nothing that multiplies models with nodes is a histogram: with 200 of each that
would be half a million lines for every scrape.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

# A cached answer takes milliseconds, a warm chat begins within half a second; a cold 70B model takes a minute to load, and
# ten minutes is what the longest answers last.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)
# 1 is a large model on a CPU, 40 about as fast as people read; 400 a small one on a new GPU.
TOKENS_PER_SECOND = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0)
# Prompts are read in batches, ten to a hundred times as fast.
PROMPT_TOKENS_PER_SECOND = (10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 25000.0)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """`name` as in a query, so that a counter's ends in _total."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: tuple[str, ...], meaning: str) -> Family:
    return Family(name, Kind.COUNTER, labels, meaning)


def _gauge(name: str, labels: tuple[str, ...], meaning: str) -> Family:
    return Family(name, Kind.GAUGE, labels, meaning)


def _histogram(name: str, labels: tuple[str, ...], meaning: str, buckets: tuple[float, ...] = SECONDS) -> Family:
    return Family(name, Kind.HISTOGRAM, labels, meaning, buckets)


# Requests: counted when they end.
REQUESTS = _counter(
    "olladist_requests_total",
    ("route", "model", "node", "outcome", "status"),
    "Inference requests that ended, one for each backend they were tried on. Outcome: served, retryable, connect, died, cut, left",
)
FIRST_BYTE = _histogram(
    "olladist_first_byte_seconds",
    ("route", "model"),
    "From the moment a backend was sent the request to the first byte of its answer: queueing, loading and reading the prompt",
)
DURATION = _histogram(
    "olladist_request_seconds",
    ("route", "model"),
    "From the moment a backend was sent the request to the end of its answer, where that came whole",
)
RETRIES = _counter(
    "olladist_retries_total",
    ("reason",),
    "Requests that were tried on another backend. Reason: connect, died, 404, 500, 503, other",
)
FALLBACKS = _counter(
    "olladist_fallbacks_total",
    ("kind", "reason"),
    "Requests that were given to a fallback. Kind: local, cache, nodes. Reason: down (no holder can be reached), failed (all holders "
    "failed with it), missing (nobody has the model), drained, other",
)
REFUSALS = _counter(
    "olladist_refusals_total", ("route", "status"), "Requests that were given to no backend, by the answer"
)
IN_FLIGHT = _gauge("olladist_requests_in_flight", (), "Requests that run now, on any backend")
WAITING = _gauge("olladist_requests_waiting", (), "Requests that wait to be given to a backend")

WAITS = _counter(
    "olladist_waits_ended_total",
    ("reason",),
    "Requests that came to wait for a slot, by how that ended, at once or later. Reason: granted, left (the client went away), late (its "
    "X-Ollama-Timeout has passed), gone (its worker has ended), given_back (nobody can serve it any more, or it is placed anew)",
)
PRELOADS = _counter(
    "olladist_preloads_total",
    ("result",),
    "Loads of a model on another node for requests to come, where those that run crowd each other. Result: loaded, failed",
)

# What answers say of themselves.
TOKENS = _counter(
    "olladist_tokens_total", ("model", "node", "kind"), "Tokens of answers that said so. Kind: prompt, output"
)
TOKEN_SECONDS = _counter(
    "olladist_token_seconds_total",
    ("model", "node", "kind"),
    "Seconds that backends say they spent on these tokens: tokens per second of a model on a node are the quotient of both rates",
)
OUTPUT_SPEED = _histogram(
    "olladist_output_tokens_per_second", ("model",), "Speed of each answer, as its backend says", TOKENS_PER_SECOND
)
PROMPT_SPEED = _histogram(
    "olladist_prompt_tokens_per_second", ("model",), "Speed of reading each prompt", PROMPT_TOKENS_PER_SECOND
)
LOAD = _histogram(
    "olladist_load_seconds",
    ("model",),
    "Part of each request until its model was in memory; below 0.1 s it was there already",
)
LOADS = _counter(
    "olladist_model_loads_total",
    ("model", "node"),
    "Times that a model was seen in a node's memory anew, whoever had it loaded",
)

# Nodes and models: read when asked for.
NODE_STATE = _gauge("olladist_node_state", ("node", "state"), "1 for the state a node is in: up, degraded, down")
NODE_INFO = _gauge("olladist_node_info", ("node", "host", "way", "role", "ollama"), "Always 1")
NODE_SLOTS = _gauge("olladist_node_slots", ("node",), "Requests a node answers at the same time for one model")
NODE_EFFECTIVE_SLOTS = _gauge(
    "olladist_node_effective_slots",
    ("node",),
    "Slots of a node that placing counts on: fewer than olladist_node_slots while others use the node past the gateway",
)
MODEL_EFFECTIVE_SLOTS = _gauge(
    "olladist_model_effective_slots",
    ("model", "node"),
    "Slots of a model that gets fewer on a node than others: Ollama gives some one alone, and some nodes have fewer than they say",
)
FOREIGN = _counter(
    "olladist_foreign_requests_total",
    ("node",),
    "Requests that reached a node past the gateway, as far as they have left a trace there: one for each model and reading at most",
)
NODE_FITTED = _gauge(
    "olladist_node_memory_fitted_bytes",
    ("node",),
    "The most that models took together in a node's memory, GPU where it has one",
)
NODE_EXCEEDED = _gauge(
    "olladist_node_memory_exceeded_bytes",
    ("node",),
    "The least that models would have taken together where Ollama unloaded one of them instead; only for nodes that have done so",
)
UNBELIEVABLE = _counter(
    "olladist_unbelievable_answers_total",
    ("node",),
    "Answers whose final chunk could not be true, such as times longer than the whole exchange: nothing is learned from them",
)
NODE_IN_FLIGHT = _gauge("olladist_node_in_flight", ("node",), "Requests of this gateway that run on a node now")
NODE_DRAINED = _gauge("olladist_node_drained", ("node",), "1 for a node that gets no new work")
NODE_MODELS = _gauge("olladist_node_models", ("node",), "Models in a node's store, as last listed")
MODEL_NODES = _gauge("olladist_model_nodes", ("model",), "Nodes that have a model and are not down")
MODEL_SLOTS = _gauge("olladist_model_slots", ("model",), "Slots of the nodes that have a model and are not down")
MODEL_IN_FLIGHT = _gauge("olladist_model_in_flight", ("model",), "Requests that run on a model now")
MODEL_LOADED = _gauge(
    "olladist_model_loaded_bytes", ("model", "node"), "What a model takes of a node's memory, GPU and CPU"
)
MODEL_VRAM = _gauge("olladist_model_vram_bytes", ("model", "node"), "The part of it that lies on GPUs")
PROBES = _counter("olladist_probes_total", ("node",), "Probes of a node that ended")
PROBE_FAILURES = _counter("olladist_probe_failures_total", ("node",), "Probes of a node that failed")

# Kept answers.
KEPT_HITS = _counter("olladist_cache_hits_total", (), "Requests that were answered from kept answers")
KEPT_STORED = _counter("olladist_cache_stored_total", (), "Answers that were kept")
KEPT_ANSWERS = _gauge("olladist_cache_answers", (), "Answers that are kept now")
KEPT_BYTES = _gauge("olladist_cache_bytes", (), "What they take on disk")

# Keys.
KEY_REQUESTS = _counter("olladist_key_requests_total", ("key",), "Requests by API key, retries not counted")
KEY_TOKENS = _counter("olladist_key_tokens_total", ("key", "kind"), "Tokens by API key. Kind: prompt, output")
RATE_LIMITED = _counter(
    "olladist_rate_limited_total", ("key", "limit"), "Requests that were refused with 429. Limit: requests, tokens"
)

# The gateway itself.
BUILD = _gauge("olladist_build_info", ("version", "python", "compiled"), "Always 1. Compiled: true, false")
MODE = _gauge("olladist_mode", ("mode",), "1 for the mode the gateway is in: distributed, local, standalone")
WORKERS = _gauge("olladist_workers", (), "Edge workers that are connected to the control process")
WORKER_EVENTS = _counter(
    "olladist_worker_events_total",
    ("worker", "event"),
    "What edge workers count themselves. Event: connections, bad_request, unauthorized, forbidden, too_many, cut_slow",
)
WORKER_MEMORY = _gauge("olladist_worker_resident_bytes", ("worker",), "Resident memory of an edge worker (Linux)")
WORKER_CPU = _counter("olladist_worker_cpu_seconds_total", ("worker",), "CPU time of an edge worker (Linux)")

GROUPS: Mapping[str, tuple[Family, ...]] = {
    "Requests": (REQUESTS, FIRST_BYTE, DURATION, IN_FLIGHT, WAITING, WAITS, RETRIES, FALLBACKS, REFUSALS),
    "Tokens and loads": (TOKENS, TOKEN_SECONDS, OUTPUT_SPEED, PROMPT_SPEED, LOAD, LOADS, PRELOADS),
    "Nodes": (
        NODE_STATE,
        NODE_INFO,
        NODE_SLOTS,
        NODE_EFFECTIVE_SLOTS,
        NODE_IN_FLIGHT,
        NODE_DRAINED,
        NODE_MODELS,
        NODE_FITTED,
        NODE_EXCEEDED,
        FOREIGN,
        UNBELIEVABLE,
        PROBES,
        PROBE_FAILURES,
    ),
    "Models": (MODEL_NODES, MODEL_SLOTS, MODEL_EFFECTIVE_SLOTS, MODEL_IN_FLIGHT, MODEL_LOADED, MODEL_VRAM),
    "Kept answers": (KEPT_HITS, KEPT_STORED, KEPT_ANSWERS, KEPT_BYTES),
    "API keys": (KEY_REQUESTS, KEY_TOKENS, RATE_LIMITED),
    "The gateway": (BUILD, MODE, WORKERS, WORKER_EVENTS, WORKER_MEMORY, WORKER_CPU),
}
FAMILIES: tuple[Family, ...] = tuple(family for group in GROUPS.values() for family in group)
