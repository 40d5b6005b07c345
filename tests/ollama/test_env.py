from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.ollama.env import RESERVED, VARIABLES, check_variable, slots


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_NUM_PARALLEL", "4"),
        ("OLLAMA_KEEP_ALIVE", "30m"),
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_KEEP_ALIVE", "1h30m"),
        ("OLLAMA_KEEP_ALIVE", "0"),
        ("OLLAMA_LOAD_TIMEOUT", "300"),
        ("OLLAMA_FLASH_ATTENTION", "1"),
        ("OLLAMA_FLASH_ATTENTION", "False"),
        ("OLLAMA_FLASH_ATTENTION", ""),
        ("OLLAMA_DEBUG", "2"),
        ("OLLAMA_DEBUG", "true"),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ("OLLAMA_ORIGINS", "https://a.example,https://b.example"),
        ("HTTPS_PROXY", "http://proxy.example:3128"),
        ("OLLAMA_NUM_PARALLEL", ' "4" '),
    ],
)
def test_good_values_pass(name: str, value: str) -> None:
    """What Ollama reads as it was meant is no problem, and other programs' variables are not judged."""
    assert check_variable(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OLLAMA_NUM_PARALELL", "4", "is not a variable that Ollama knows; did you mean OLLAMA_NUM_PARALLEL?"),
        ("ollama_keep_alive", "5m", "is not a variable that Ollama knows; did you mean OLLAMA_KEEP_ALIVE?"),
        ("OLLAMA_XYZZY_FROB", "1", "is not a variable that Ollama knows"),
        ("OLLAMA_NUM_PARALLEL", "four", "must be a whole number from 0 on, not 'four' (Ollama would fall back to its default)"),
        ("OLLAMA_NUM_PARALLEL", "-1", "must be a whole number from 0 on, not '-1' (Ollama would fall back to its default)"),
        ("OLLAMA_NUM_PARALLEL", "1.5", "must be a whole number from 0 on, not '1.5' (Ollama would fall back to its default)"),
        ("OLLAMA_NOPRUNE", "off", "must be true or false, not 'off' (Ollama would take it for true)"),
        (
            "OLLAMA_KEEP_ALIVE",
            "30 minutes",
            "must be a duration such as 30m, 1h30m or 300 (seconds), not '30 minutes' (Ollama would fall back to 5m)",
        ),
        ("OLLAMA_DEBUG", "loud", "must be 0, 1 (debug) or 2 (trace), not 'loud'"),
        ("OLLAMA_HOST", "127.0.0.1", "cannot be set here: olladist sets it from the port of each instance; write `port` there"),
        ("OLLAMA_MODELS", "/m", "cannot be set here: olladist sets it from the host's `models_dir`; write that"),
        ("OLLADIST_REVISION", "1", "cannot be set here: names that begin with OLLADIST_ are olladist's own"),
        ("A-B", "1", "is not a name of an environment variable (letters, digits and _)"),
        ("HTTP_PROXY", "a\nb", "holds a control character or a line break"),
    ],
)  # fmt: skip
def test_what_ollama_would_silently_misread_is_a_problem(name: str, value: str, problem: str) -> None:
    """The text says what is expected, and what Ollama would have made of it."""
    assert check_variable(name, value) == problem


@pytest.mark.parametrize(
    ("env", "count"),
    [
        ({}, 1),
        ({"OLLAMA_NUM_PARALLEL": "4"}, 4),
        ({"OLLAMA_NUM_PARALLEL": "0"}, 1),
        ({"OLLAMA_NUM_PARALLEL": " '2' "}, 2),
        ({"OLLAMA_NUM_PARALLEL": "many"}, 1),
        ({"OLLAMA_NUM_PARALLEL": "9" * 30}, 1),
    ],
)
def test_slots_are_counted_as_ollama_counts_them(env: Mapping[str, str], count: int) -> None:
    """One without the variable, one for zero, and the default for nonsense."""
    assert slots(env) == count


def test_reserved_variables_are_known_ones() -> None:
    """What is refused with a reason is a variable of Ollama's."""
    assert set(RESERVED) < set(VARIABLES)


@given(st.sampled_from(sorted(VARIABLES)) | st.text(), st.text())
def test_any_name_and_value_get_a_judgement(name: str, value: str) -> None:
    """Nothing is raised; slots are at least one."""
    assert check_variable(name, value) is None or check_variable(name, value)
    assert slots({"OLLAMA_NUM_PARALLEL": value}) >= 1
