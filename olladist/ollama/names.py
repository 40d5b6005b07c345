"""Model names as Ollama reads them (types/model/name.go): `[host/][namespace/]model[:tag]`, case folded to compare."""

import re
from dataclasses import dataclass

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

# First character alphanumeric or "_"; then also "-" and, but for the namespace, "."; only the host may hold ":".
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class InvalidName(ValueError):
    """Not a model name; the message is the one Ollama answers."""

    def __init__(self, text: str) -> None:
        super().__init__("invalid model name")
        self.text = text


@dataclass(frozen=True, slots=True)
class ModelName:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def key(self) -> str:
        """What two spellings of one model have in common: all four parts, lower case."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @property
    def path(self) -> str:
        """Where its manifest lies below `manifests/`."""
        return f"{self.host}/{self.namespace}/{self.model}/{self.tag}"

    def __str__(self) -> str:
        """The shortest form that `ollama list` shows: defaults dropped, the tag always there."""
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"


def parse_name(text: str) -> ModelName:
    """The name in full, defaults filled in; InvalidName for what Ollama would not take either."""
    rest = text.split("://", 1)[-1]
    tag = DEFAULT_TAG
    if (colon := rest.rfind(":")) > rest.rfind("/"):
        rest, tag = rest[:colon], rest[colon + 1 :]
    parts = rest.rsplit("/", 2)
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[-3] if len(parts) > 2 else DEFAULT_HOST
    if not (
        _HOST.fullmatch(host) and _NAMESPACE.fullmatch(namespace) and _PART.fullmatch(model) and _PART.fullmatch(tag)
    ):
        raise InvalidName(text)
    return ModelName(host, namespace, model, tag)
