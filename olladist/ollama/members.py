"""The members of a request body, as msgspec reads those of most. Never compiled: msgspec looks at the annotations."""

import msgspec

# Keys that need no second look: spelled in lower case, and all that common clients send. Any other key may be one that
# we read in another case ("Model"), and is looked at.
# fmt: off
USUAL_KEYS = frozenset({
    "model", "name", "messages", "prompt", "stream", "options", "format", "keep_alive", "tools", "think", "system",
    "template", "raw", "context", "images", "suffix", "input", "truncate", "dimensions", "temperature", "top_p",
    "max_tokens", "stop", "seed", "response_format", "stream_options", "tool_choice", "user", "frequency_penalty",
    "presence_penalty", "metadata", "instructions", "reasoning", "max_output_tokens",
})
# fmt: on


class Usual(msgspec.Struct, gc=False):
    """What is read of them. A null, which Go passes over, is none of these types."""

    model: str = ""
    name: str = ""
    source: str = ""
    stream: bool | msgspec.UnsetType = msgspec.UNSET
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    options: msgspec.Raw = msgspec.Raw()
    temperature: msgspec.Raw = msgspec.Raw()
    seed: msgspec.Raw = msgspec.Raw()
    keep_alive: msgspec.Raw = msgspec.Raw()


usual: msgspec.json.Decoder[Usual] = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Usual",
        [(key, msgspec.Raw, msgspec.Raw()) for key in sorted(USUAL_KEYS.difference(Usual.__struct_fields__))],
        bases=(Usual,),
        forbid_unknown_fields=True,
    )
)
