"""Models that say one sentence: tiny GGUF files that a real Ollama loads and runs, and their reader.

The weights are a chain. Every token but the words of the sentence has the same embedding; word n has its own. Attention and
feed-forward are zero, so the last token's embedding reaches the output matrix unchanged, and that maps "anything else" to the
first word, word n to word n + 1, and the last word to the end. The logit of the next word is NEXT * sqrt(width), that of all
others 0: no temperature in use and no repeat penalty changes the walk. (tests/lab/tiny_gguf.py is the same idea with numpy.)
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

# GGUF value types (ggml's docs/gguf.md): code to struct format.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_ALIGNMENT = 32
_LIMIT = 1 << 24  # entries of one array and bytes of one string: the largest vocabularies have 2^18 tokens

LAYERS, HEADS, CONTEXT, VOCABULARY = 2, 4, 4096, 300
FIRST_WORD, END = 259, 2  # <unk> <s> </s> and the 256 bytes come before
NEXT = 4.0

_FILE_TYPES: Final = {1: "F16", 2: "Q4_0", 7: "Q8_0", 15: "Q4_K_M", 32: "BF16"}  # Ollama takes 0, all F32, for unknown
_TENSOR_TYPES: Final = {0: "F32", 1: "F16", 2: "Q4_0", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 30: "BF16"}

Value = bool | int | float | str | list["bool | int | float | str"]


class NotGGUF(ValueError):
    """The bytes are no GGUF, or one that is cut short."""


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]  # as the file has it: innermost first
    kind: int

    @property
    def type_name(self) -> str:
        return _TENSOR_TYPES.get(self.kind, "unknown")

    @property
    def elements(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a GGUF says about itself; arrays longer than five are kept only for the vocabulary."""

    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        kind = self.metadata.get("general.file_type", 0)
        return _FILE_TYPES.get(kind, "unknown") if isinstance(kind, int) else "unknown"

    def number(self, key: str) -> int:
        """A number below the architecture's name ("context_length"), 0 where there is none."""
        value = self.metadata.get(f"{self.architecture}.{key}", 0)
        return value if isinstance(value, int) else 0

    @property
    def sentence(self) -> tuple[str, ...]:
        """The words the weights were made to say, () for any other model."""
        tokens = self.metadata.get("tokenizer.ggml.tokens", [])
        if not isinstance(tokens, list) or len(tokens) < VOCABULARY or tokens[END + 1] != "<0x00>":
            return ()
        after = [str(token) for token in tokens[FIRST_WORD:]]
        for count in range(len(after)):
            if after[count] == _filler(0) and after[count:] == [_filler(i) for i in range(len(after) - count)]:
                return tuple(word.removeprefix("▁") for word in after[:count])
        return ()


def _filler(i: int) -> str:
    return f"▁{chr(97 + i % 26)}{chr(97 + i * 7 % 26)}{i // 26}"


def _vocabulary(words: Sequence[str]) -> tuple[list[str], list[int]]:
    """Tokens and their types: 1 normal, 2 unknown, 3 control, 6 byte; any prompt tokenises into the bytes."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + [f"▁{word}" for word in words]
    fillers = max(VOCABULARY - len(tokens), 1)
    tokens += [_filler(i) for i in range(fillers)]
    return tokens, [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - FIRST_WORD)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _metadata(words: Sequence[str], width: int, hidden: int, title: str) -> tuple[bytes, int]:
    """The key-value section and the count of its keys."""
    tokens, kinds = _vocabulary(words)

    def array(kind: int, values: list[bytes]) -> bytes:
        return struct.pack("<IQ", kind, len(values)) + b"".join(values)

    pairs: list[tuple[str, int, bytes]] = [
        ("general.architecture", _STRING, _string("llama")),
        ("general.name", _STRING, _string(title)),
        ("llama.context_length", _UINT32, struct.pack("<I", CONTEXT)),
        ("llama.embedding_length", _UINT32, struct.pack("<I", width)),
        ("llama.block_count", _UINT32, struct.pack("<I", LAYERS)),
        ("llama.feed_forward_length", _UINT32, struct.pack("<I", hidden)),
        ("llama.attention.head_count", _UINT32, struct.pack("<I", HEADS)),
        ("llama.attention.head_count_kv", _UINT32, struct.pack("<I", HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
        ("llama.rope.dimension_count", _UINT32, struct.pack("<I", width // HEADS)),
        ("llama.vocab_size", _UINT32, struct.pack("<I", len(tokens))),
        ("general.file_type", _UINT32, struct.pack("<I", 0)),
        ("tokenizer.ggml.model", _STRING, _string("llama")),
        ("tokenizer.ggml.tokens", _ARRAY, array(_STRING, [_string(token) for token in tokens])),
        ("tokenizer.ggml.scores", _ARRAY, array(_FLOAT32, [struct.pack("<f", 0.0)] * len(tokens))),
        ("tokenizer.ggml.token_type", _ARRAY, array(_INT32, [struct.pack("<i", kind) for kind in kinds])),
        ("tokenizer.ggml.bos_token_id", _UINT32, struct.pack("<I", 1)),
        ("tokenizer.ggml.eos_token_id", _UINT32, struct.pack("<I", END)),
        ("tokenizer.ggml.unknown_token_id", _UINT32, struct.pack("<I", 0)),
    ]
    return b"".join(_string(key) + struct.pack("<I", kind) + data for key, kind, data in pairs), len(pairs)


class _Matrix(NamedTuple):
    """A tensor and where it is not zero: (row, column) to value; `fill` for every other element."""

    tensor: Tensor
    points: Mapping[tuple[int, int], float] = {}
    fill: float = 0.0


def _weights(words: int, tokens: int, width: int, hidden: int) -> Iterator[_Matrix]:
    def zeros(name: str, columns: int, rows: int) -> _Matrix:
        return _Matrix(Tensor(name, (columns, rows), 0))

    def ones(name: str) -> _Matrix:
        return _Matrix(Tensor(name, (width,), 0), fill=1.0)

    # Column 0: "anything else"; column n: word n, counted from 1.
    column = {token: max(0, token - FIRST_WORD + 1) for token in range(FIRST_WORD + words)}
    after = [FIRST_WORD, *range(FIRST_WORD + 1, FIRST_WORD + words), END]
    yield _Matrix(Tensor("token_embd.weight", (width, tokens), 0), {(t, column.get(t, 0)): 1.0 for t in range(tokens)})
    yield ones("output_norm.weight")
    yield _Matrix(Tensor("output.weight", (width, tokens), 0), {(token, n): NEXT for n, token in enumerate(after)})
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        yield ones(name + "attn_norm.weight")
        yield ones(name + "ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield zeros(f"{name}{part}.weight", width, width)
        yield zeros(name + "ffn_gate.weight", width, hidden)
        yield zeros(name + "ffn_up.weight", width, hidden)
        yield zeros(name + "ffn_down.weight", hidden, width)


def _padding(position: int) -> int:
    return -position % _ALIGNMENT


def write(path: Path, sentence: str, *, megabytes: float = 0.5, title: str = "olladist-demo") -> None:
    """Writes a model that answers with `sentence`, word by word, whatever the prompt.

    Its words must be distinct (case counts). Beyond 0.5 MB the feed-forward weights, all zero, fill the size asked for.
    Raises ValueError for a sentence that cannot be said.
    """
    words = sentence.split()
    if not words or len(set(words)) < len(words):
        raise ValueError("a model can say only a sentence of distinct words, at least one")
    width = -(-(len(words) + 1) // 64) * 64
    hidden = max(128, int((megabytes - 0.3) * 1e6 / (LAYERS * 3 * width * 4)) // 32 * 32)
    metadata, keys = _metadata(words, width, hidden, title)
    matrices = tuple(_weights(len(words), len(_vocabulary(words)[0]), width, hidden))
    infos, offset = [], 0
    for matrix in matrices:
        name, shape, kind = matrix.tensor
        infos.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += matrix.tensor.elements * 4
        offset += _padding(offset)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(matrices), keys) + metadata + b"".join(infos)
    with path.open("wb") as file:
        file.write(head + bytes(_padding(len(head))))
        for matrix in matrices:
            start = file.tell()
            size = matrix.tensor.elements * 4
            if matrix.fill:
                file.write(struct.pack("<f", matrix.fill) * matrix.tensor.elements)
            for (row, column), value in matrix.points.items():
                file.seek(start + (row * matrix.tensor.shape[0] + column) * 4)
                file.write(struct.pack("<f", value))
            file.seek(start + size + _padding(size))
        file.truncate()


class _Reader:
    """Walks the head of a GGUF; every read is checked against the end of the bytes."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or count > _LIMIT or end > len(self.data):
            raise NotGGUF("unexpected end of the file")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, form: Literal["I", "Q"]) -> int:
        value: int = struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]
        return value

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def scalar(self, kind: int) -> bool | int | float | str:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise NotGGUF(f"unknown type of value: {kind}")
        form = "<" + _SCALARS[kind]
        value: bool | int | float = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return _shortest(value) if kind == _FLOAT32 and isinstance(value, float) else value

    def value(self) -> Value:
        kind = self.number("I")
        if kind != _ARRAY:
            return self.scalar(kind)
        of, count = self.number("I"), self.number("Q")
        if count > _LIMIT:
            raise NotGGUF(f"an array of {count} entries")
        return [self.scalar(of) for _ in range(count)]


def _shortest(value: float) -> float:
    """The shortest decimal number that is the same float32: what Go and people write for it."""
    exact = struct.pack("<f", value)
    shorts = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((short for short in shorts if math.isfinite(short) and struct.pack("<f", short) == exact), value)


def parse(data: mmap.mmap | bytes) -> Gguf:
    """The head of a GGUF, version 2 or 3; NotGGUF for anything else."""
    reader = _Reader(data)
    magic, version = reader.take(4), reader.number("I")
    if magic != b"GGUF" or version not in (2, 3):
        raise NotGGUF("no GGUF")
    tensors, keys = reader.number("Q"), reader.number("Q")
    if tensors > _LIMIT or keys > _LIMIT:
        raise NotGGUF(f"{tensors} tensors and {keys} keys")
    metadata: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.string()
        value = reader.value()
        keep = not isinstance(value, list) or len(value) <= 5 or key == "tokenizer.ggml.tokens"
        metadata[key] = value if keep else []
    found = []
    for _ in range(tensors):
        name, sides = reader.string(), reader.number("I")
        if sides > 8:
            raise NotGGUF(f"a tensor of {sides} dimensions")
        shape = tuple(reader.number("Q") for _ in range(sides))
        found.append(Tensor(name, shape, reader.number("I")))
        reader.number("Q")
    return Gguf(metadata, tuple(found))


def read(path: Path) -> Gguf:
    """The head of the GGUF at `path`; OSError where it cannot be read, NotGGUF where it is none."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise NotGGUF("an empty file") from error
        with data:
            return parse(data)
