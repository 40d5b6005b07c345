"""One command on many hosts."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import HostError
from olladist.fleet.execute import execute, folded, script_of
from olladist.ssh.runner import Completed
from tests.fleet.fleets import local, opened

word = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8)


@given(st.lists(word, min_size=2, max_size=4))
def test_several_words_reach_the_program_as_they_are(words: list[str]) -> None:
    """Whatever stands in them, the shell on the host makes the same words of them again."""
    script = script_of(["printf", "%s\\0", *words])
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)

    assert done.stdout.decode().split("\0")[:-1] == words


def test_one_word_is_a_line_of_shell() -> None:
    """As with ssh: pipes and variables are the host's."""
    assert script_of(["ls | wc -l"]) == "ls | wc -l"


async def test_a_status_is_a_result() -> None:
    """A command that fails is an answer like any other."""
    async with opened(local("a", "b")) as fleet:
        results = await execute(fleet, ["echo out; echo err >&2; exit 5"])

    assert {
        host: (done.status, done.stdout, done.stderr)
        for host, done in results.items()
        if not isinstance(done, HostError)
    } == {"a": (5, "out\n", "err\n"), "b": (5, "out\n", "err\n")}


completed = st.builds(
    Completed, st.just(""), st.sampled_from([0, 1]), st.sampled_from("xy"), st.sampled_from(["", "e"])
)


@given(st.dictionaries(st.text(min_size=1, max_size=2), completed))
def test_folding_keeps_every_answer_once(results: dict[str, Completed]) -> None:
    """Each host stands in exactly one group, with just its own answer."""
    groups = folded(results)

    assert sorted(host for group in groups for host in group.hosts) == sorted(results)
    assert len({(g.status, g.stdout, g.stderr) for g in groups}) == len(groups)
    for group in groups:
        for host in group.hosts:
            said = results[host]
            assert (said.status, said.stdout, said.stderr) == (group.status, group.stdout, group.stderr)
