"""What an answer says of its cost, as msgspec reads it. Never compiled: msgspec looks at the annotations."""

import msgspec


class Metrics(msgspec.Struct, gc=False):
    """api/types.go Metrics; omitted where zero."""

    load_duration: int = -1
    prompt_eval_count: int = -1
    prompt_eval_duration: int = -1
    eval_count: int = -1
    eval_duration: int = -1


class Counts(msgspec.Struct, gc=False):
    """OpenAI's names for chat, completions and embeddings, or its newer ones for responses, which are Anthropic's too."""

    prompt_tokens: int = -1
    completion_tokens: int = -1
    input_tokens: int = -1
    output_tokens: int = -1


class Inner(msgspec.Struct, gc=False):
    usage: Counts | None = None


class Event(msgspec.Struct, gc=False):
    """A body, or the data of an event: `usage` stands in it, or in the `response` of response.completed."""

    usage: Counts | None = None
    response: Inner | None = None


metrics = msgspec.json.Decoder(Metrics)
event = msgspec.json.Decoder(Event)
