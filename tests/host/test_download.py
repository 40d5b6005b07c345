"""Downloads: resumed, verified, one at a time."""

import asyncio
import os
from pathlib import Path

import pytest

from olladist.errors import OlladistError
from olladist.host.download import Missing, download, fetch_text, size_at
from tests.host.web import Web

BODY = os.urandom(200_000)


async def accept(path: Path) -> None:
    if path.read_bytes() != BODY:
        raise OlladistError("not the file")


def quiet(done: int, total: int) -> None:
    pass


async def test_a_file_appears_whole_and_verified(web: Web, tmp_path: Path) -> None:
    """Progress counts to the end; nothing but the file is left."""
    web.files["/a"] = BODY
    seen: list[tuple[int, int]] = []

    await download(f"{web.url}/a", tmp_path / "sub/a", accept, lambda done, total: seen.append((done, total)))

    assert (tmp_path / "sub/a").read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["a", "a.lock"]


async def test_an_answer_that_breaks_off_is_resumed(web: Web, tmp_path: Path) -> None:
    """From the byte at which it broke, three times if need be."""
    web.files["/a"], web.cut = BODY, 2

    await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert web.requests("/a") == ["", "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "a").read_bytes() == BODY


async def test_what_an_earlier_run_left_is_gone_on_with(web: Web, tmp_path: Path) -> None:
    """The server says whether the file is still the same."""
    web.files["/a"] = BODY
    (tmp_path / "a.part").write_bytes(BODY[:70_000])
    (tmp_path / "a.part.etag").write_text(web.etag)

    await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert web.requests("/a") == ["bytes=70000-"]
    assert (tmp_path / "a").read_bytes() == BODY


async def test_a_file_that_changed_since_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    """If-Range sees to it."""
    web.files["/a"] = BODY
    (tmp_path / "a.part").write_bytes(b"x" * 70_000)
    (tmp_path / "a.part.etag").write_text('"0"')

    await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert (tmp_path / "a").read_bytes() == BODY


async def test_a_resumed_file_that_is_wrong_is_tried_once_from_its_first_byte(web: Web, tmp_path: Path) -> None:
    """The beginning may have been of something else."""
    web.files["/a"] = BODY
    (tmp_path / "a.part").write_bytes(b"x" * 70_000)
    (tmp_path / "a.part.etag").write_text(web.etag)

    await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert web.requests("/a") == ["bytes=70000-", ""]
    assert (tmp_path / "a").read_bytes() == BODY


async def test_a_file_that_is_refused_leaves_nothing(web: Web, tmp_path: Path) -> None:
    """Neither under its name nor as a part that the next run would go on with."""
    web.files["/a"] = BODY[:-1]

    with pytest.raises(OlladistError, match="not the file"):
        await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


async def test_a_server_that_breaks_off_for_ever_is_given_up(web: Web, tmp_path: Path) -> None:
    """With what it did in the error; the part stays for the next run."""
    web.files["/a"], web.cut, web.ranges = BODY, 100, False

    with pytest.raises(OlladistError, match="breaks off again and again"):
        await download(f"{web.url}/a", tmp_path / "a", accept, quiet)

    assert (tmp_path / "a.part").exists()


async def test_many_who_want_one_file_download_it_once(web: Web, tmp_path: Path) -> None:
    """The second waits for the first and finds it there."""
    web.files["/a"] = BODY

    await asyncio.gather(*(download(f"{web.url}/a", tmp_path / "a", accept, quiet) for _ in range(5)))

    assert web.requests("/a") == [""]


async def test_what_cannot_be_fetched_says_so(web: Web, port: int) -> None:
    """A missing file is told apart from a network that is not there, which leads to the ways without one."""
    with pytest.raises(Missing, match="does not exist"):
        await fetch_text(f"{web.url}/none")
    with pytest.raises(OlladistError, match="cannot be fetched") as caught:
        await fetch_text(f"http://127.0.0.1:{port}/a")
    assert "mirror" in caught.value.hint


async def test_a_size_is_known_before_the_file_is_fetched(web: Web) -> None:
    """From one byte of it, also where the server knows no ranges."""
    web.files["/a"] = BODY
    assert await size_at(f"{web.url}/a") == len(BODY)
    web.ranges = False
    assert await size_at(f"{web.url}/a") == len(BODY)
