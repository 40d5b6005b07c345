"""What all tests share."""

import os
import signal

from hypothesis import HealthCheck, settings

# A noisy machine must not fail a property; and CI judges a change by the same examples each time, while everybody's own runs
# look for new ones.
settings.register_profile(
    "olladist",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("olladist")

# A shell starts what runs in the background with Ctrl-C ignored, and so would be every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
