import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.names import InvalidName, ModelName, parse_name, split_name
from olladist.ollama.store import manifest_path, name_from_manifest_path

ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


def part(extra: str, longest: int = 80) -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(ALNUM), st.text(ALNUM + extra, max_size=longest - 1))


names = st.builds(ModelName, part("-.:", 350), part("-"), part("-."), part("-."))


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest"),
        ("llama3.2:3b", "registry.ollama.ai/library/llama3.2:3b"),
        ("acme/support:v3", "registry.ollama.ai/acme/support:v3"),
        ("hf.co/u/m:Q4_K_M", "hf.co/u/m:Q4_K_M"),
        ("host:port/namespace/model", "host:port/namespace/model:latest"),
        ("scheme://host:port/namespace/model:tag", "host:port/namespace/model:tag"),
        ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
        ("registry.ollama.ai/library/dolphin-mistral:7b-v2.6", "registry.ollama.ai/library/dolphin-mistral:7b-v2.6"),
        ("a" * 350 + "/" + "b" * 80 + "/" + "c" * 80 + ":" + "d" * 80, None),
        ("x:cloud", "registry.ollama.ai/library/x:cloud"),
        ("scheme:///n/m", "registry.ollama.ai/n/m:latest"),
    ],
)
def test_names_are_filled_in(text: str, full: str | None) -> None:
    """Missing host, namespace and tag take Ollama's defaults (types/model/name_test.go)."""
    assert parse_name(text).full == (full or text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "registry.ollama.ai/library/!MISSING!:latest"),
        (":", "registry.ollama.ai/library/!MISSING!:!MISSING!"),
        ("m:", "registry.ollama.ai/library/m:!MISSING!"),
        (":t", "registry.ollama.ai/library/!MISSING!:t"),
        ("/m", "registry.ollama.ai/!MISSING!/m:latest"),
        ("n/", "registry.ollama.ai/n/!MISSING!:latest"),
        ("//", "!MISSING!/!MISSING!/!MISSING!:latest"),
        ("/n/m", "!MISSING!/n/m:latest"),
        ("h/n/", "h/n/!MISSING!:latest"),
        ("http://m", "http:/!MISSING!/m:latest"),
        ("http://n/m", "http://n/m:latest"),
        ("a/b/c/d", "a/b/c/d:latest"),
        ("@", "registry.ollama.ai/library/@:latest"),
        ("m@d", "registry.ollama.ai/library/m@d:latest"),
        (":80/n/m", ":80/n/m:latest"),
        ("h/n.x/m", "h/n.x/m:latest"),
        ("ä", "registry.ollama.ai/library/ä:latest"),
    ],
)
def test_what_is_no_name_is_shown_as_ollama_shows_it(text: str, shown: str) -> None:
    """`unqualified name: …` of a real 0.17.4, seen on POST /api/embed."""
    assert split_name(text).full == shown
    with pytest.raises(InvalidName, match="invalid model name"):
        parse_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "-hh/nn/mm:tt",
        "hh/-nn/mm:tt",
        "hh/nn/-mm:tt",
        "hh/nn/mm:-tt",
        "host/name:space/model:tag",
        "^",
        "m\n",
        "a" * 81,
        "b" * 351 + "/n/m",
        "n/m t",
    ],
)
def test_invalid_names_are_refused(text: str) -> None:
    """types/model/name_test.go, and a newline at the end."""
    with pytest.raises(InvalidName):
        parse_name(text)


@given(names)
def test_a_name_survives_being_shown(name: ModelName) -> None:
    """The short form, the full form and the manifest's path lead back to the same model."""
    assert parse_name(str(name)).key == name.key
    assert parse_name(name.full) == name
    assert name_from_manifest_path(manifest_path(name)) == name


@given(names)
def test_case_does_not_matter(name: ModelName) -> None:
    """Two spellings of a model have one key."""
    assert parse_name(name.full.upper()).key == parse_name(name.full.lower()).key == name.key


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    """Nothing else comes out, and what comes out stays below manifests/."""
    try:
        name = parse_name(text)
    except InvalidName:
        return

    assert all(piece not in {"", ".", ".."} for piece in name.path.split("/"))
