"""Whether what a final chunk says of itself can be true."""

import math

# Clocks of two machines measure the same seconds differently by so much, at most.
SLACK, DRIFT = 1.0, 1.05
# No context is longer: 10 million tokens is what the longest today are made for.
TOKENS_MAX = 10_000_000


def believable(prompt: float, output: float, load: float, reading: float, writing: float, duration: float) -> bool:
    """Tokens of prompt and output, seconds of load and of both; -1 for what is not said.

    `duration` is how long the whole exchange took by our own clock, below 0 where nobody knows: no part of it was longer.
    """
    # Written out, for it is looked at with each request: NaN compares as false with everything.
    if not (-1 <= prompt <= TOKENS_MAX and -1 <= output <= TOKENS_MAX and -1 <= duration < math.inf):
        return False
    if not (-1 <= load < math.inf and -1 <= reading < math.inf and -1 <= writing < math.inf):
        return False
    said = (load if load > 0 else 0.0) + (reading if reading > 0 else 0.0) + (writing if writing > 0 else 0.0)
    return duration < 0 or said <= duration * DRIFT + SLACK
