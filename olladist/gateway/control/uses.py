"""Requests that were served alike, column by column: to count many at once takes a third of what one after the other does. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from olladist.gateway.lease import NO_USAGE, Usage, Use
from olladist.scheduling.timings import believable


class Uses(NamedTuple):
    """So many `requests`. What one does not say, or what cannot be true of it, is left out; seconds."""

    requests: int
    first_bytes: list[float]
    durations: list[float]
    loads: list[float]
    prompt_tokens: int
    output_tokens: int
    prompts: list[tuple[int, float]]  # tokens and seconds of those that say both
    outputs: list[tuple[int, float]]


def columns(uses: Sequence[Use]) -> Uses:
    usages = [believed(use.usage, use.duration) for use in uses]
    prompts = [(usage.prompt_tokens, usage.prompt) for usage in usages if usage.prompt_tokens > 0]
    outputs = [(usage.output_tokens, usage.output) for usage in usages if usage.output_tokens > 0]
    return Uses(
        len(uses),
        [use.first_byte for use in uses if use.first_byte >= 0],
        [use.duration for use in uses if use.duration >= 0],
        [usage.load for usage in usages if usage.load >= 0],
        sum([tokens for tokens, _ in prompts]),
        sum([tokens for tokens, _ in outputs]),
        [said for said in prompts if said[1] > 0],
        [said for said in outputs if said[1] > 0],
    )


def believed(usage: Usage, duration: float) -> Usage:
    """What can be true of what an answer says of itself: no count gives back what was added to it, and a key pays for it."""
    if is_believable(usage, duration):
        return usage
    counts = Usage(usage.prompt_tokens, usage.output_tokens, estimated=usage.estimated)
    return counts if is_believable(counts, -1.0) else NO_USAGE  # where a clock has jumped nobody has miscounted


def is_believable(usage: Usage, duration: float) -> bool:
    return believable(usage.prompt_tokens, usage.output_tokens, usage.load, usage.prompt, usage.output, duration)
