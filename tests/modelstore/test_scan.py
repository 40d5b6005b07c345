import base64
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import CommandFailed, StoreError
from olladist.modelstore.contents import StoreContents, StorePlace
from olladist.modelstore.scan import parse_scan, scan, scan_script
from olladist.ssh.local import LocalRunner
from tests.modelstore.stores import Store, digest, manifest_of

DISK = "D /dev/sda1 1000000 400000 550000 43% /\nEND\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "with a 'blank' in it")


async def test_a_scan_sees_models_blobs_parts_and_recipes(store: Store) -> None:
    """Everything a plan needs comes from one script."""
    manifest = store.model("acme/Support:v3", b"config", b"weights" * 1000, b"template")
    store.blob(b"orphan")
    store.part(b"half of it", 4)
    store.write(".olladist/recipes/" + "a" * 64, manifest.digest.encode() + b"\n")
    store.write("blobs/" + digest(b"x").replace(":", "-") + "-partial", b"12345")
    store.write("blobs/sha256-123456", b"a temporary file of Ollama")

    seen = await scan(LocalRunner("here"), store.place)

    stored = seen.models["registry.ollama.ai/acme/support:v3"]
    assert (str(stored.name), stored.manifest) == ("acme/Support:v3", manifest)
    assert seen.blobs == {digest(b): len(b) for b in (b"config", b"weights" * 1000, b"template", b"orphan")}
    assert seen.parts == {digest(b"half of it"): 4}
    assert seen.recipes == {"a" * 64: manifest.digest}
    assert seen.partial_bytes == 5
    assert seen.owner == f"{os.getuid()}:{store.root.stat().st_gid}"
    assert abs(seen.free_bytes - shutil.disk_usage(store.root).free) < 1 << 30
    assert seen.problems == ()
    assert seen.complete("registry.ollama.ai/acme/support:v3") == manifest


async def test_a_store_that_is_not_there_is_empty_and_tells_the_space_it_would_have(tmp_path: Path) -> None:
    """The free bytes are those of the nearest folder that exists."""
    seen = await scan(LocalRunner("here"), StorePlace(str(tmp_path / "not" / "yet")))

    assert seen == StoreContents(free_bytes=seen.free_bytes)
    assert seen.free_bytes > 0


async def test_damage_is_a_finding_and_hides_nothing_else(store: Store) -> None:
    """Broken manifests, foreign names and names that differ in case are told; whole models are still seen."""
    store.model("good", b"c", b"w")
    store.write("manifests/registry.ollama.ai/library/broken/latest", b"\xff\x00{\nM x\n.\nEND\n")
    store.write("manifests/registry.ollama.ai/library/empty/latest", b"")
    store.write("manifests/registry.ollama.ai/library/odd/la test\nD", b"{}")
    store.write("manifests/registry.ollama.ai/library/-odd/latest", b"{}")
    store.write("manifests/registry.ollama.ai/library/deep/er/latest", b"{}")
    store.model("Good", b"c", b"w")

    seen = await scan(LocalRunner("here"), store.place)

    assert set(seen.models) == {"registry.ollama.ai/library/good:latest"}
    told = "\n".join(seen.problems)
    for words in (
        "broken/latest is damaged",
        "empty/latest is damaged",
        "odd/la?test",
        "-odd/latest is no name",
        "case",
    ):
        assert words in told
    assert "deep" not in told


async def test_linked_blobs_are_seen_with_the_size_of_what_they_link_to(store: Store, tmp_path: Path) -> None:
    """A store whose blobs lie on another disk behind links reads as any other."""
    store.model("m", b"c", b"weights")
    moved = tmp_path / "elsewhere"
    shutil.move(store.root / "blobs", moved)
    (store.root / "blobs").mkdir()
    for blob in moved.iterdir():
        (store.root / "blobs" / blob.name).symlink_to(blob)

    seen = await scan(LocalRunner("here"), store.place)

    assert seen.complete("registry.ollama.ai/library/m:latest")


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_script_runs_in_every_shell(shell: str, store: Store) -> None:
    """Each gives the same answer, and nothing on stderr."""
    store.model("m", b"c", b"weights")
    done = subprocess.run([shell, "-uc", scan_script(store.place)], capture_output=True, check=True, text=True)

    assert parse_scan(done.stdout).complete("registry.ollama.ai/library/m:latest")
    assert done.stderr == ""


async def test_the_script_starts_two_programs_per_manifest_and_none_per_blob(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that two hundred models of ten blobs are read in seconds, on slow hosts too."""
    for number in range(200):
        store.model(f"model{number}", *(b"%d of %d" % (part, number) for part in range(10)))
    started, counting = tmp_path / "started", tmp_path / "counting"
    counting.mkdir()
    for name in ("base64", "df", "dirname", "find", "head", "ls", "sed", "sh", "stat", "tail", "tr", "wc"):
        program = counting / name
        program.write_text(f'#!/bin/bash\necho {name} >> "{started}"\nexec {shutil.which(name)} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{counting}:{os.environ['PATH']}")

    seen = await scan(LocalRunner("here"), store.place)

    programs = Counter(started.read_text().split())
    assert (len(seen.models), len(seen.blobs)) == (200, 2000)
    assert (programs.pop("head"), programs.pop("base64")) == (200, 200)
    assert programs.total() < 30


def answer(*lines: str) -> str:
    return "\n".join(lines) + "\n" + DISK


@pytest.mark.parametrize(
    "output",
    [
        "",
        "END\n",
        DISK.removesuffix("END\n"),
        answer("S 0:0", "M manifests/registry.ollama.ai/library/m/latest", "e30="),
        answer("Q what is this"),
        answer("B rubbish"),
        answer("S root:root"),
        "X" * ((16 << 20) + 1),
    ],
)
def test_an_answer_that_is_cut_or_strange_is_refused(output: str) -> None:
    """A plan is never made on half of what there is."""
    with pytest.raises(ValueError):
        parse_scan(output)


async def test_an_answer_that_cannot_be_read_names_the_host(tmp_path: Path) -> None:
    """A host whose programs answer otherwise is a StoreError with its name."""
    (tmp_path / "df").write_text("#!/bin/sh\necho gibberish\n")
    (tmp_path / "df").chmod(0o755)
    path = os.environ["PATH"]

    class OddRunner(LocalRunner):
        async def check(self, script: str, **how: object) -> str:
            return await super().check(f"PATH={tmp_path}:{path}\n{script}", **how)  # type: ignore[arg-type]  # passed on

    with pytest.raises(StoreError, match="gpu1: what the host answers cannot be read"):
        await scan(OddRunner("gpu1"), StorePlace(str(tmp_path)))


async def test_a_script_that_fails_is_told_as_such(store: Store) -> None:
    """Failing to run is the runner's error, not an empty store."""

    class NoShell(LocalRunner):
        async def check(self, script: str, **how: object) -> str:
            return await super().check("exit 9", **how)  # type: ignore[arg-type]  # passed on

    with pytest.raises(CommandFailed):
        await scan(NoShell("gpu1"), store.place)


def manifest_lines(raw: bytes) -> tuple[str, ...]:
    return ("M manifests/registry.ollama.ai/library/m/latest", base64.b64encode(raw).decode(), ".")


def test_where_blobs_lie_elsewhere_or_belong_to_others_is_a_finding() -> None:
    """What would make a later step fail is said beforehand."""
    seen = parse_scan(answer("S 998:997", *manifest_lines(manifest_of(b"c", b"w")), "O /mnt/nas", "W 12"))

    assert seen.owner == "998:997"
    assert "another file system (/mnt/nas)" in seen.problems[0]
    assert seen.closed == seen.problems[0]
    assert "12 files or folders belong to another user" in seen.problems[1]
    assert seen.free_bytes == 550000 * 1024


def test_a_store_that_cannot_be_opened_is_closed_not_empty() -> None:
    """Its models are unknown, so nothing is sent there."""
    seen = parse_scan(answer("C"))

    assert seen.closed == seen.problems[0] == "its folder cannot be opened by the user who logs in"


def test_a_flood_of_problems_is_counted_not_listed() -> None:
    """Twenty are shown."""
    seen = parse_scan(answer(*[f"X odd{number}" for number in range(100)]))

    assert len(seen.problems) == 21
    assert seen.problems[-1] == "and 80 more"


PIECES = [
    "M ",
    "B ",
    "P ",
    "R ",
    "S ",
    "D ",
    "X ",
    "O ",
    "W ",
    "C",
    "END\n",
    ".\n",
    "\n",
    "sha256-",
    "manifests/a/b/c/d",
    " 1 2 3 ",
]


@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_gives_contents_or_a_refusal(text: str) -> None:
    """Nothing but ValueError comes out of the parser."""
    for output in (text, answer(text), answer(*manifest_lines(text.encode()))):
        try:
            seen = parse_scan(output)
        except ValueError:
            continue
        assert all(size >= 0 for size in seen.blobs.values())
