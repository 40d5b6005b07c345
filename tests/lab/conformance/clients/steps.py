"""What the Ollama libraries are made to do: a method and its arguments, in this order. REGISTRY stands for a registry's name."""

import json
import sys
from typing import Any

ASK = [{"role": "user", "content": "why?"}]
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
COPY = "http://REGISTRY/you/sky:v1"

# Python and JavaScript spell them alike but for a few.
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("list", {}),
    ("ps", {}),
    ("show", {"model": "sky"}),
    ("show", {"model": "nope"}),
    ("generate", {"model": "sky", "prompt": "why?"}),
    ("generate", {"model": "sky", "prompt": "why?", "stream": True, "options": {"num_predict": 4}}),
    ("generate", {"model": "sky", "prompt": "why?", "raw": True, "keep_alive": "5m"}),
    ("generate", {"model": "nope", "prompt": "why?"}),
    ("generate", {"model": "nope", "prompt": "why?", "stream": True}),
    ("generate", {"model": "sky", "prompt": ""}),
    ("chat", {"model": "sky", "messages": ASK}),
    ("chat", {"model": "sky2", "messages": ASK, "stream": True}),
    ("chat", {"model": "sky", "messages": ASK, "tools": [TOOL]}),
    ("chat", {"model": "sky", "messages": ASK, "think": True}),
    ("chat", {"model": "nope", "messages": ASK, "stream": True}),
    ("chat", {"model": "sky", "messages": []}),
    ("embed", {"model": "sky", "input": ["a", "b c"]}),
    ("embed", {"model": "sky", "input": "a", "truncate": False, "dimensions": 4}),
    ("embed", {"model": "nope", "input": "a"}),
    ("embeddings", {"model": "sky", "prompt": "a"}),
    ("copy", {"source": "sky", "destination": COPY}),
    ("copy", {"source": "nope", "destination": "x"}),
    ("push", {"model": COPY, "insecure": True}),
    ("push", {"model": COPY, "insecure": True, "stream": True}),
    ("push", {"model": "nope", "stream": True}),
    ("delete", {"model": COPY}),
    ("delete", {"model": COPY}),
    ("pull", {"model": COPY, "insecure": True, "stream": True}),
    ("pull", {"model": COPY, "insecure": True}),
    ("pull", {"model": COPY + "-nope", "insecure": True, "stream": True}),
    ("pull", {"model": COPY + "-nope", "insecure": True}),
    ("show", {"model": COPY}),
    ("create", {"model": "made", "from_": "sky", "system": "Be brief.", "parameters": {"temperature": 0.5}}),
    ("create", {"model": "made", "from_": "made", "template": "{{ .Prompt }}", "stream": True}),
    ("create", {"model": "made", "from_": "made", "template": "{{"}),
    ("show", {"model": "made"}),
    ("generate", {"model": "made", "prompt": "why?", "options": {"seed": 1}}),
    ("list", {}),
    ("generate", {"model": "made", "keep_alive": 0}),
    ("delete", {"model": "made"}),
    ("delete", {"model": COPY}),
    ("list", {}),
]


def steps(registry: str) -> list[tuple[str, dict[str, Any]]]:
    """STEPS with the name of a real registry."""
    made: list[tuple[str, dict[str, Any]]] = json.loads(json.dumps(STEPS).replace("REGISTRY", registry))
    return made


def say(call: str, result: Any) -> None:
    sys.stdout.write(json.dumps([call, result], default=_document, separators=(",", ":")) + "\n")


def _document(value: Any) -> Any:
    """What libraries answer with, as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return repr(value)
