"""What a simulated model reads and says: prompts rendered from templates, tokens counted, sentences cut where they must end."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olladist.sim.golang import Document
from olladist.sim.model import Model

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


def unclosed(template: str) -> bool:
    """Whether Go's template parser would answer "unclosed action"."""
    return template.rfind("{{") > template.rfind("}}")


def render(template: str, messages: Sequence[Mapping[str, Any]], system: str) -> str:
    """The prompt: as Ollama's own for templates of .System, .Prompt and .Response; the texts alone for cleverer ones."""
    texts: list[tuple[str, str]] = []
    for message in messages:
        role, text = str(message.get("role", "")).lower(), str(message.get("content") or "")
        if texts and texts[-1][0] == role:  # one role speaking twice is one message (template.go collate)
            text = f"{texts.pop()[1]}\n\n{text}"
        texts.append((role, text))
    if ".Messages" in template or "if " in template:
        return "\n".join([system, *(text for _, text in texts)]).strip("\n")
    rendered, pending = "", {"System": system, "Prompt": "", "Response": ""}
    for role, text in texts:
        match role:
            case "system":
                pending["System"] = text
            case "user":
                if pending["Prompt"]:
                    rendered += _fill(template, pending)
                    pending = {"System": "", "Prompt": "", "Response": ""}
                pending["Prompt"] = text
            case "assistant":
                rendered += _fill(template, pending) + ("" if ".Response" in template else text)
                pending = {"System": "", "Prompt": "", "Response": ""}
            case _:
                continue
    return rendered + (_fill(template, pending) if pending["Prompt"] else "")


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _ACTION.sub(lambda action: values.get(action[1].removeprefix("."), ""), template)


def tokens(text: str) -> list[int]:
    """The byte tokens of our tiny models' vocabulary (sim/gguf.py): a blank before the text, blanks as "▁", three per "▁"."""
    return [byte + 3 for byte in ("▁" + text.replace(" ", "▁")).encode()] if text else []


def count(text: str) -> int:
    """Tokens of a prompt, with the one that begins it."""
    return len(tokens(text)) + 1


def sentence(model: Model, host: str) -> tuple[str, ...]:
    """The pieces of the answer: what the weights were made to say, else one that names the host and the model."""
    if model.head is not None and model.head.sentence:
        words: Sequence[str] = model.head.sentence
    else:
        words = f"This is {model.name} on {host}, simulated, and it says these words whatever you ask.".split()
    return tuple(f" {word}" for word in words)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer: text to send now ("" for none) after `evaluated` tokens; `reason` where it ends."""

    text: str
    evaluated: int
    reason: str = ""


def pieces(words: Sequence[str], *, limit: int, stops: Sequence[str]) -> Iterator[Piece]:
    """The answer token by token, cut at `limit` tokens ("length") or before a stop sequence ("stop").

    Text that may be the beginning of a stop sequence is held back until that is known (runner/common/stop.go).
    """
    held = ""
    for number, word in enumerate(words, 1):
        held += word
        if (at := _first_stop(held, stops)) >= 0:
            yield Piece(held[:at], number)
            yield Piece("", number, "stop")
            return
        last = 0 < limit == number
        if last or not _may_stop(held, stops):
            yield Piece(held, number)
            held = ""
        if last:
            yield Piece("", number, "length")
            return
    if held:
        yield Piece(held, len(words))
    yield Piece("", len(words) + 1, "stop")


def _first_stop(text: str, stops: Sequence[str]) -> int:
    return min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=-1)


def _may_stop(text: str, stops: Sequence[str]) -> bool:
    return any(text.endswith(stop[:length]) for stop in stops for length in range(1, len(stop)))


def embedding(model: Model, text: str) -> list[float]:
    """A vector of the model's width: tiny chain models see the last token only, others get a direction from the text."""
    width = (model.head.number("embedding_length") if model.head else 0) or 64
    vector = [0.0] * width
    if model.head is not None and model.head.sentence:
        vector[0] = 1.0
        return vector
    drawn = hashlib.shake_256(text.encode()).digest(2 * width)  # the same text gives the same vector on every host
    vector = [int.from_bytes(drawn[at : at + 2], "big") - 32768.0 for at in range(0, 2 * width, 2)]
    length = sum(number * number for number in vector) ** 0.5 or 1.0
    return [number / length for number in vector]


def metrics(*, total: int, load: int, prompt: int, prompt_time: int, evaluated: int, eval_time: int) -> Document:
    """The figures of a final chunk; times in nanoseconds. What is 0 is left out (omitempty)."""
    figures = {
        "total_duration": total,
        "load_duration": load,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": prompt_time,
        "eval_count": evaluated,
        "eval_duration": eval_time,
    }
    return {key: value for key, value in figures.items() if value}
