"""Model names as Ollama reads them (types/model/name.go): `[host/][namespace/]model[:tag]`, case folded to compare."""

import re
from dataclasses import dataclass

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

# First character alphanumeric or "_"; then also "-" and, but for the namespace, "."; only the host may hold ":".
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")

# What Ollama puts where a separator promises a part and none is there; it makes the name invalid and shows in errors.
_MISSING = "!MISSING!"


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
        return self.full.lower()

    @property
    def full(self) -> str:
        """All four parts, as `unqualified name: …` and capability errors show them."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def path(self) -> str:
        """Where its manifest lies below `manifests/`."""
        return f"{self.host}/{self.namespace}/{self.model}/{self.tag}"

    def is_valid(self) -> bool:
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    def __str__(self) -> str:
        """The shortest form that `ollama list` shows: defaults dropped, the tag always there."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"


def parse_name(text: str) -> ModelName:
    """The name in full, defaults filled in; InvalidName for what Ollama would not take either."""
    name = split_name(text)
    if not name.is_valid():
        raise InvalidName(text)
    return name


def split_name(text: str) -> ModelName:
    """The parts of any text, valid or not, defaults filled in (ParseName): what Ollama's error texts show."""
    rest, host, namespace, tag = text, "", "", ""
    if rest.rfind(":") > rest.rfind("/"):
        rest, tag = _cut_last(rest, ":")
    if "/" not in rest:
        model = rest or _MISSING
    else:
        rest, model = _cut_last(rest, "/")
        if "/" not in rest:
            namespace = rest
        else:
            rest, namespace = _cut_last(rest, "/")
            host = rest.split("://", 1)[-1]
    return ModelName(host or DEFAULT_HOST, namespace or DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG)


def is_cloud(text: str) -> bool:
    """Whether an Ollama passes the model on to ollama.com instead of running it: by its tag (internal/modelref ParseRef)."""
    _, colon, tag = text.strip().lower().rpartition(":")
    return bool(colon) and "/" not in tag and (tag == "cloud" or tag.endswith("-cloud"))


def _cut_last(text: str, separator: str) -> tuple[str, str]:
    before, _, after = text.rpartition(separator)
    return before or _MISSING, after or _MISSING
