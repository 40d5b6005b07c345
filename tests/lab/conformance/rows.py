"""How rows of the tables are written."""

import hashlib
from typing import Any

from tests.lab.conformance.wire import Request

SENTENCE = "The sky is blue because air scatters short waves most."
ASK = [{"role": "user", "content": "why?"}]
X = hashlib.sha256(b"x").hexdigest()
ZEROS = "0" * 64


def post(path: str, *bodies: Any) -> list[Request]:
    return [Request("POST", path, body) for body in bodies]
