"""What all tests share."""

import os

from hypothesis import settings

# A noisy machine must not fail a property; and CI judges a change by the same examples each time, while everybody's own runs
# look for new ones.
settings.register_profile("olladist", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("olladist")
