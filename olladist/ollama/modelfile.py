"""What POST /api/show says of the files that a runner is made of."""

import re
from collections.abc import Mapping
from typing import Any

from olladist.ollama.request import RUNNER_OPTIONS

_BLOB = re.compile(r"(?:FROM|ADAPTER) (?:.*[/\\])?sha256[-:]([0-9a-f]{64})")


def runner_files(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """The digests of weights, adapters and projectors, in their order: two models for which they are equal share one runner.

    Empty where that is not said, or where the model has options of its own that make another runner (server/sched.go needsReload).
    """
    modelfile, parameters = shown.get("modelfile"), shown.get("parameters", "")
    if not isinstance(modelfile, str) or not isinstance(parameters, str):
        return ()
    if any(line.partition(" ")[0] in RUNNER_OPTIONS for line in parameters.splitlines()):
        return ()
    digests = []
    for line in modelfile.splitlines():
        if not line or line.startswith("#"):
            continue
        # They come first (server/images.go String); a template that follows may hold anything.
        if not line.startswith(("FROM ", "ADAPTER ")):
            break
        blob = _BLOB.fullmatch(line)
        if blob is None:
            return ()
        digests.append("sha256:" + blob[1])
    return tuple(digests)
