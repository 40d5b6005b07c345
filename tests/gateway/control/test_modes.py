import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import UsageError
from olladist.gateway.control.backends import Role
from olladist.gateway.control.modes import Chosen, Serving, Source, check_no_loop, serving_of
from olladist.gateway.settings import Overrides
from olladist.inventory.model import Fallback, Gateway, Mode

OWN = {"198.51.100.7"}
LOCAL = "http://127.0.0.1:11435"
FALLBACKS = st.lists(st.sampled_from(list(Fallback)), unique=True).map(lambda f: tuple(x for x in Fallback if x in f))


@given(
    declared=st.builds(Gateway, mode=st.sampled_from(Mode), fallback=FALLBACKS, local=st.just(LOCAL)),
    overrides=st.builds(
        Overrides,
        mode=st.sampled_from(["", *(mode.value for mode in Mode)]),
        fallback=st.none() | FALLBACKS.map(lambda f: tuple(x.value for x in f)),
        local=st.sampled_from(["", "http://[::1]:5"]),
    ),
    chosen=st.builds(Chosen, mode=st.none() | st.sampled_from(Mode), fallback=st.none() | FALLBACKS),
)
def test_the_strongest_word_counts(declared: Gateway, overrides: Overrides, chosen: Chosen) -> None:
    """An administrator before the environment before the inventory, for each thing by itself, and the source says who it was."""
    serving = serving_of(declared, overrides, chosen)

    assert serving.mode == (chosen.mode or overrides.mode or declared.mode)
    assert (serving.sources["mode"] is Source.ADMINISTRATOR) == (chosen.mode is not None)
    assert (serving.sources["mode"] is Source.INVENTORY) == (chosen.mode is None and not overrides.mode)
    for said, source in (
        (chosen.fallback, Source.ADMINISTRATOR),
        (overrides.fallback, Source.ENVIRONMENT),
        (declared.fallback, Source.INVENTORY),
    ):
        if said is not None:
            assert serving.fallback == said
            assert serving.sources["fallback"] is source
            break
    assert serving.local == (overrides.local or LOCAL)


@given(mode=st.sampled_from(Mode), fallback=FALLBACKS, local=st.sampled_from(["", LOCAL]))
def test_what_the_modes_mean(mode: Mode, fallback: tuple[Fallback, ...], local: str) -> None:
    """Standalone has no fallback of any kind; nobody answers twice; the first choice is the mode's."""
    serving = Serving(mode, fallback, local)
    first, *others = serving.order

    assert first is (Role.NODE if mode is Mode.DISTRIBUTED else Role.LOCAL)
    assert first not in others
    assert serving.distributed == (mode is Mode.DISTRIBUTED)
    if mode is Mode.STANDALONE or not fallback:
        assert not others
        assert not serving.uses_cache
    if mode is Mode.DISTRIBUTED:
        assert bool(others) == (bool(local) and Fallback.LOCAL in fallback)


@pytest.mark.parametrize("mode", [Mode.LOCAL, Mode.STANDALONE])
def test_a_mode_that_needs_a_local_ollama_is_refused_without_one(mode: Mode) -> None:
    """The message says who wanted it and the hint where to say its address."""
    with pytest.raises(UsageError, match=f"mode {mode.value} .set by the inventory. needs a local Ollama") as caught:
        serving_of(Gateway(mode=mode), Overrides())
    assert "OLLAMA_LOCAL_ADDR" in caught.value.hint

    with pytest.raises(UsageError, match=r"set by OLLAMA_(DISTRIBUTED=false|STANDALONE)"):
        serving_of(Gateway(), Overrides(mode=mode.value))
    assert serving_of(Gateway(), Overrides(mode=mode.value, local=LOCAL)).mode is mode


def test_the_inventorys_address_is_checked_too() -> None:
    """A URL with a path or of https is refused by the name of its key."""
    with pytest.raises(UsageError, match=r"\[gateway\] local = 'https://box' is https"):
        serving_of(Gateway(local="https://box"), Overrides())


@pytest.mark.parametrize(
    ("local", "host", "port", "refused"),
    [
        ("http://127.0.0.1:11434", "127.0.0.1", 11434, True),
        ("http://localhost:11434", "0.0.0.0", 11434, True),  # noqa: S104  compared with, not listened on
        ("http://[::1]:11434", "::", 11434, True),
        ("http://127.0.0.1:11434", "::1", 11434, True),
        ("http://box:11434", "127.0.0.1", 11434, False),
        ("http://box:11434", "box", 11434, True),
        ("http://198.51.100.7:11434", "0.0.0.0", 11434, True),  # noqa: S104  compared with, not listened on
        ("http://198.51.100.8:11434", "0.0.0.0", 11434, False),  # noqa: S104
        ("http://127.0.0.1:11435", "127.0.0.1", 11434, False),
        ("", "127.0.0.1", 11434, False),
    ],
)
def test_the_gateway_is_not_its_own_local_ollama(local: str, host: str, port: int, refused: bool) -> None:
    """It would send its requests round in a circle."""
    if refused:
        with pytest.raises(UsageError, match="has the address of the gateway itself"):
            check_no_loop(local, host, port, OWN.__contains__)
    else:
        check_no_loop(local, host, port, OWN.__contains__)
