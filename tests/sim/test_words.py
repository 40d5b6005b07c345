"""What a simulated model reads and says."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.manifest import parse_manifest
from olladist.ollama.names import parse_name
from olladist.sim import gguf, words
from olladist.sim.model import Entry, Model

MANIFEST = parse_manifest(b'{"config":{"digest":"sha256:' + b"0" * 64 + b'","size":1},"layers":[]}')


def model(head: gguf.Gguf | None = None) -> Model:
    return Model(Entry(parse_name("sky"), MANIFEST, 0, {}), {}, head=head)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_templates_are_filled() -> None:
    """Prompts and system texts go where the template has them; a template without .Response has the answers appended."""
    talk = [user("hi"), {"role": "assistant", "content": "yo"}, user("b")]

    assert words.render("{{ .Prompt }}", talk, "S") == "hiyob"
    assert words.render("{{ .System }}|{{ .Prompt }}", [user("x")], "S") == "S|x"
    assert words.render("{{ .Prompt }}>{{ .Response }}.", talk, "") == "hi>.b>."
    assert words.render("{{ range .Messages }}", talk, "S") == "S\nhi\nyo\nb"
    assert words.render("{{ .Prompt }}", [user("a"), user("b")], "") == "a\n\nb"
    assert words.render("{{ .Prompt }}", [{"role": "tool", "content": "x"}], "") == ""


def test_unclosed_templates_are_seen() -> None:
    """An action that is opened has to be closed."""
    assert words.unclosed("{{ .Prompt }} {{")
    assert not words.unclosed("{{ .Prompt }}")


def test_tokens_are_bytes() -> None:
    """Every byte is a token and a blank is three; a prompt has one more, that begins it."""
    assert words.tokens("a b") == [229, 153, 132, 100, 229, 153, 132, 101]
    assert words.count("why?") == 8
    assert words.count("") == 1


def test_the_answer_is_the_models_sentence_or_names_host_and_model(tmp_path: Path) -> None:
    """A model that was made to say something says that."""
    gguf.write(tmp_path / "m", "Ask me.")

    assert words.sentence(model(gguf.read(tmp_path / "m")), "h1") == (" Ask", " me.")
    assert "".join(words.sentence(model(), "h1")).startswith(" This is sky:latest on h1,")


def said(sentence: str, *, limit: int = -1, stops: tuple[str, ...] = ()) -> tuple[str, str, int]:
    found = list(words.pieces([f" {word}" for word in sentence.split()], limit=limit, stops=stops))
    assert [piece.reason for piece in found[:-1]] == [""] * (len(found) - 1)
    return "".join(piece.text for piece in found), found[-1].reason, found[-1].evaluated


def test_an_answer_ends_where_it_must() -> None:
    """At its end, at the limit of tokens, or before a stop sequence, as a real 0.17.4 counts them."""
    assert said("The sky is blue") == (" The sky is blue", "stop", 5)
    assert said("The sky is blue", limit=3) == (" The sky is", "length", 3)
    assert said("The sky is blue", stops=("blue",)) == (" The sky is ", "stop", 4)
    assert said("The sky is blue", stops=("sky is",)) == (" The ", "stop", 3)
    assert said("The sky is blue", stops=("sky was",)) == (" The sky is blue", "stop", 5)


@given(
    st.lists(st.text("ab ", min_size=1, max_size=4), max_size=12),
    st.lists(st.text("ab ", min_size=1, max_size=3), max_size=3),
    st.integers(-1, 12),
)
def test_no_answer_holds_a_stop_sequence_or_too_many_tokens(sentence: list[str], stops: list[str], limit: int) -> None:
    """What is sent is the sentence up to the first stop sequence, whatever is held back on the way."""
    found = list(words.pieces(sentence, limit=limit, stops=stops))
    text = "".join(piece.text for piece in found)

    assert not any(stop in text for stop in stops)
    assert "".join(sentence).startswith(text)
    assert found[-1].reason in {"stop", "length"}
    assert limit < 1 or found[-1].evaluated <= limit
    if not stops and limit < 1:
        assert text == "".join(sentence)


def test_vectors_are_the_same_everywhere() -> None:
    """A text has one direction of length 1, another text another one."""
    one, again, other = (words.embedding(model(), text) for text in ("a", "a", "b"))

    assert one == again != other
    assert abs(sum(number * number for number in one) - 1) < 1e-9
