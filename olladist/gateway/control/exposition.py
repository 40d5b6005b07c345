"""Metrics as text, written in a thread, so that the loop goes on meanwhile.

200 nodes with 200 models that all have been used are 218 000 lines, 18 MB and two seconds of a core; the longest that the loop
was held up then was 15 ms (370 ms before collections waited and families were written one by one).
"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class _One(Collector):
    """A single family, so that its lines can go before the next one's are made."""

    family: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.family


def content_type(accept: str) -> str:
    """OpenMetrics for who asks for it, as Prometheus does; the text format 0.0.4 for everybody else."""
    asked = any(part.partition(";")[0].strip().lower() == OPENMETRICS for part in accept.split(","))
    return openmetrics.CONTENT_TYPE_LATEST if asked else CONTENT_TYPE_PLAIN_0_0_4


async def written(metrics: Collector, content_type: str) -> bytes:
    """All families; `metrics` may be read by another thread."""
    if content_type.startswith(OPENMETRICS):
        return await asyncio.to_thread(_write, openmetrics.generate_latest, metrics, _END)
    return await asyncio.to_thread(_write, generate_latest, metrics, b"")


def _write(encode: Callable[[Collector], bytes], metrics: Collector, end: bytes) -> bytes:
    # A collection stops every thread and looks at all that has been made: it is not due for what lives for a moment.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return b"".join(encode(_One(family)).removesuffix(end) for family in metrics.collect()) + end
    finally:
        if collecting:
            gc.enable()
