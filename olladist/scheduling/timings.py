"""Whether what a final chunk says of itself can be true."""

import math

# Clocks of two machines measure the same seconds differently by so much, at most.
SLACK, DRIFT = 1.0, 1.05
# No context is longer: 10 million tokens is what the longest today are made for.
TOKENS_MAX = 10_000_000


def believable(tokens: tuple[float, float], seconds: tuple[float, float, float], duration: float) -> bool:
    """`tokens` of prompt and output, `seconds` of load, prompt and output; -1 for what is not said.

    `duration` is how long the whole exchange took by our own clock, below 0 where nobody knows: no part of it was longer.
    """
    if not all(math.isfinite(value) and value >= -1 for value in (*tokens, *seconds, duration)):
        return False
    if max(tokens) > TOKENS_MAX:
        return False
    said = sum(max(0.0, part) for part in seconds)
    return duration < 0 or said <= duration * DRIFT + SLACK
