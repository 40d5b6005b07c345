"""Tiny models: what is written is read back, and nothing that is no GGUF gets through."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from olladist.sim import gguf

SENTENCE = "The sky is blue because air scatters short waves most."


def write(path: Path, sentence: str = SENTENCE, megabytes: float = 0.5) -> gguf.Gguf:
    gguf.write(path, sentence, megabytes=megabytes)
    return gguf.read(path)


def test_a_model_says_its_sentence(tmp_path: Path) -> None:
    """The words come back in their order, and the rest of the head is that of a tiny llama."""
    found = write(tmp_path / "m.gguf")

    assert found.sentence == tuple(SENTENCE.split())
    assert found.architecture == "llama"
    assert found.parameters == 120_640
    assert found.number("context_length") == 4096
    assert found.number("nothing") == 0
    assert found.file_type == "unknown"
    assert found.metadata["llama.attention.layer_norm_rms_epsilon"] == 1e-05


def test_a_model_is_small_and_can_be_made_larger(tmp_path: Path) -> None:
    """Half a megabyte, or about what is asked for, all of it there: the tensors end where the file does."""
    small, large = tmp_path / "small", tmp_path / "large"
    write(small)
    write(large, megabytes=8)

    assert 400_000 < small.stat().st_size < 600_000
    assert 7_000_000 < large.stat().st_size < 9_000_000


def test_the_chain_leads_from_word_to_word(tmp_path: Path) -> None:
    """Embedding and output matrix together map anything else to the first word, each word to the next, the last to the end."""
    path = tmp_path / "m.gguf"
    found = write(path, "one two three")
    width, tokens = found.tensors[0].shape
    floats = memoryview(path.read_bytes()[-found.parameters * 4 :]).cast("f")
    embedding = [list(floats[row * width : (row + 1) * width]) for row in range(tokens)]
    first = width * tokens + width
    output = [list(floats[first + row * width : first + (row + 1) * width]) for row in range(tokens)]

    def follows(token: int) -> int:
        scores = [sum(a * b for a, b in zip(embedding[token], row, strict=True)) for row in output]
        return scores.index(max(scores))

    assert [follows(token) for token in (1, 50, 299)] == [gguf.FIRST_WORD] * 3
    assert [follows(gguf.FIRST_WORD + word) for word in range(3)] == [
        gguf.FIRST_WORD + 1,
        gguf.FIRST_WORD + 2,
        gguf.END,
    ]


@pytest.mark.parametrize("sentence", ["", "again and again"])
def test_a_sentence_that_no_chain_can_say_is_refused(sentence: str, tmp_path: Path) -> None:
    """Words must be there and must be distinct."""
    with pytest.raises(ValueError, match="distinct words"):
        gguf.write(tmp_path / "m.gguf", sentence)


@given(
    st.lists(
        st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12), min_size=1, max_size=80, unique=True
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_distinct_words_can_be_said(tmp_path: Path, words: list[str]) -> None:
    """Up to more words than the vocabulary has room for by itself, in any script."""
    assert write(tmp_path / "m.gguf", " ".join(words)).sentence == tuple(words)


def test_other_models_say_nothing(tmp_path: Path) -> None:
    """A vocabulary that is not ours has no sentence in it."""
    plain = gguf.Gguf({"tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "the"] * 100}, ())

    assert plain.sentence == ()
    assert gguf.Gguf({}, ()).sentence == ()


@given(cut=st.integers(0, 20_000), garbage=st.binary(max_size=40), at=st.integers(0, 12_000))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_heads_are_refused_or_read(tmp_path: Path, cut: int, garbage: bytes, at: int) -> None:
    """Bytes cut off or overwritten anywhere give a head or NotGGUF, never anything else."""
    path = tmp_path / "m.gguf"
    if not path.exists():
        gguf.write(path, SENTENCE)
    data = bytearray(path.read_bytes()[:cut])
    data[at : at + len(garbage)] = garbage
    with contextlib.suppress(gguf.NotGGUF):
        gguf.parse(bytes(data))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0", b"not a model at all, but long enough to be one"])
def test_what_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    """Empty, cut short or something else."""
    path = tmp_path / "m.gguf"
    path.write_bytes(content)

    with pytest.raises(gguf.NotGGUF):
        gguf.read(path)
