"""What the gateway must know of a create: where it will work. Everything else is for the builder to judge."""

from dataclasses import dataclass

import msgspec

from olladist.ollama import gojson
from olladist.ollama.digests import parse_digest

_strings = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Needs:
    """`base` as it was sent, "" for none; `blobs` are digests."""

    base: str = ""
    blobs: frozenset[str] = frozenset()


def read_needs(body: bytes) -> Needs:
    """As far as it can be read, the way Go reads it: in any case, the last one counts. `body` has passed read_body."""
    found = gojson.members(body)
    if isinstance(found, str):
        return Needs()
    last = {gojson.fold(member.key): member.value for member in found}
    base = last.get("from", b"null")
    digests = {digest for field in ("files", "adapters") for digest in _digests(last.get(field, b"null"))}
    return Needs(gojson.string(base) if gojson.kind(base) == "string" else "", frozenset(digests))


def _digests(value: bytes) -> set[str]:
    try:
        named = _strings.decode(value).values()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return set()
    found = set()
    for digest in named:
        try:
            found.add(parse_digest(digest))
        except ValueError:
            continue  # the builder says what is wrong with it
    return found
