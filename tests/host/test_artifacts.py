"""Which release a host needs, and its tarballs on the operator's machine."""

import hashlib
import shutil
from pathlib import Path

import pytest

from olladist.errors import OlladistError, UsageError
from olladist.host.artifacts import Artifacts, contents_of, packed
from olladist.host.found import Facts
from olladist.host.tarball import BadTarball, Form, Release, form_of
from olladist.inventory.model import Host, Inventory
from tests.host.fake import release
from tests.host.recorded import recorded
from tests.host.web import Web

NAME = "ollama-linux-amd64.tar.zst"


def artifacts(
    wanted: str, *, folder: Path = Path("/nowhere"), mirror: str | None = None, **checksums: str
) -> tuple[Artifacts, Host]:
    host = Host("gpu1", "gpu1", ollama=wanted)
    sums = {name.replace("_", "-").replace("--", "."): value for name, value in checksums.items()}
    inventory = Inventory(folder / "inventory.toml", "lab", {"gpu1": host}, {}, mirror=mirror, checksums=sums)
    return Artifacts(inventory), host


async def find(wanted: str, facts: Facts | None = None, **settings: str) -> Release:
    found, host = artifacts(wanted, mirror=settings.get("mirror"), folder=Path(settings.get("folder", "/nowhere")))
    needed = await found.release(host, facts or recorded("debian13-root"))
    assert needed is not None
    return needed


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    return release(tmp_path / NAME)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_tarball_by_its_path_is_known_by_its_content(home: Path, tarball: Path) -> None:
    """The folder on the host carries its digest, and its version where the name tells it."""
    named, homely = tarball.with_name("ollama-0.9.9-linux-amd64.tar.zst"), home / "mine.tar.zst"
    for copy in (named, homely):
        shutil.copy(tarball, copy)

    assert (await find(str(tarball))).name == f"tarball-{sha256(tarball)[:8]}"
    assert (await find(str(named))).name == f"0.9.9-{sha256(tarball)[:8]}"
    assert (await find(tarball.name, folder=str(tarball.parent))).tarballs[0].path == tarball
    assert (await find("~/mine.tar.zst")).tarballs[0].size == tarball.stat().st_size


async def test_a_path_that_is_not_there_is_an_error_of_the_inventory(home: Path) -> None:
    """With what may stand there."""
    with pytest.raises(UsageError, match=r"there is no file /nowhere/x\.tgz"):
        await find("x.tgz")


async def test_a_damaged_tarball_is_refused_before_any_plan(home: Path, tarball: Path) -> None:
    """No host hears of it."""
    tarball.write_bytes(tarball.read_bytes()[:-10])

    with pytest.raises(BadTarball, match="cut short"):
        await find(str(tarball))


async def test_a_wrong_checksum_is_refused_with_both_digests(home: Path, tarball: Path) -> None:
    """The inventory's checksums are by file name."""
    host = Host("gpu1", "gpu1", ollama=str(tarball))
    inventory = Inventory(Path("/nowhere/i.toml"), "lab", {}, {}, checksums={NAME: "ab" * 32})

    with pytest.raises(BadTarball, match=f"{sha256(tarball)}, and not {'ab' * 32}"):
        await Artifacts(inventory).release(host, recorded("debian13-root"))


async def test_what_is_read_once_is_remembered_until_the_file_changes(home: Path, tarball: Path) -> None:
    """A second `up` does not read gigabytes again."""
    first = await contents_of(tarball)
    (memory,) = (home / ".cache/olladist/contents").iterdir()
    memory.write_text(memory.read_text().replace(first.sha256, "remembered"))

    assert (await contents_of(tarball)).sha256 == "remembered"
    release(tarball, version="0.0.8")
    assert (await contents_of(tarball)).sha256 == sha256(tarball)
    memory.write_text("{")
    assert await contents_of(tarball)


async def test_a_version_comes_from_the_mirror_with_its_checksum(home: Path, tarball: Path, web: Web) -> None:
    """Laid out as GitHub's downloads are; downloaded when it is fetched, once, and not before."""
    web.files = {
        f"/v0.17.4/{NAME}": tarball.read_bytes(),
        "/v0.17.4/sha256sum.txt": f"{sha256(tarball)}  {NAME}\n".encode(),
    }
    found, host = artifacts("0.17.4", mirror=web.url)

    needed = await found.release(host, recorded("debian13-root"))

    assert needed is not None
    assert (needed.name, needed.version, needed.notes) == ("0.17.4", "0.17.4", ())
    (wanted,) = needed.tarballs
    assert (wanted.sha256, wanted.size, wanted.path.exists()) == (sha256(tarball), tarball.stat().st_size, False)
    await found.fetch([(wanted, Form.ZSTD)])
    assert wanted.path.read_bytes() == tarball.read_bytes()
    again, host = artifacts("0.17.4", mirror=web.url)
    asked = len(web.asked)
    (known,) = (await again.release(host, recorded("debian13-root")) or needed).tarballs
    assert (known.unpacked, len(web.asked)) == ((await contents_of(tarball)).unpacked, asked)


async def test_a_download_with_the_wrong_checksum_is_refused(home: Path, tarball: Path, web: Web) -> None:
    """And nothing is kept of it."""
    web.files = {f"/v0.17.4/{NAME}": tarball.read_bytes(), f"/v0.17.4/{NAME}.sha256": b"cd" * 32}
    found, host = artifacts("0.17.4", mirror=web.url)
    needed = await found.release(host, recorded("debian13-root"))
    assert needed is not None

    with pytest.raises(BadTarball, match="cdcd"):
        await found.fetch([(needed.tarballs[0], Form.ZSTD)])

    assert not needed.tarballs[0].path.exists()


async def test_an_older_release_is_found_under_its_other_name(home: Path, tmp_path: Path, web: Web) -> None:
    """.tgz before 0.14, and whichever of the two is there; without a checksum the plan says so."""
    tgz = release(tmp_path / "x.tgz", form=Form.GZIP)
    web.files = {
        "/v0.9.4/ollama-linux-amd64.tgz": tgz.read_bytes(),
        "/v0.17.4/ollama-linux-amd64.tgz": tgz.read_bytes(),
    }

    assert (await find("0.9.4", mirror=web.url)).tarballs[0].name == "ollama-linux-amd64.tgz"
    newer = await find("v0.17.4", mirror=web.url)
    assert newer.tarballs[0].name == "ollama-linux-amd64.tgz"
    assert newer.notes == ("no checksum is known for ollama-linux-amd64.tgz",)


async def test_a_version_that_nobody_has_is_an_error_with_all_that_was_tried(home: Path, web: Web) -> None:
    """Each URL is named."""
    with pytest.raises(OlladistError, match=r"v0.99.0/ollama-linux-amd64.tar.zst.*v0.99.0/ollama-linux-amd64.tgz"):
        await find("0.99.0", mirror=web.url)


async def test_the_latest_version_is_what_the_mirror_says(home: Path, tarball: Path, web: Web) -> None:
    """Its file `latest`; without that, a hint."""
    web.files = {"/latest": b"v0.18.0\n", f"/v0.18.0/{NAME}": tarball.read_bytes()}
    assert (await find("latest", mirror=f"{web.url}/")).name == "0.18.0"

    web.files["/latest"] = b"<html>"
    with pytest.raises(OlladistError, match="does not name a version"):
        await find("latest", mirror=web.url)
    del web.files["/latest"]
    with pytest.raises(OlladistError) as caught:
        await find("latest", mirror=web.url)
    assert "0.17.4" in caught.value.hint


async def test_the_latest_official_version_is_where_github_redirects_to(home: Path, tarball: Path, web: Web) -> None:
    """Asked for without GitHub's API and its limit; the tarball of that version lies here already."""
    web.redirects = {"/latest": f"{web.url}/tag/v0.17.4"}
    host = Host("gpu1", "gpu1", ollama="latest")
    inventory = Inventory(Path("/nowhere/i.toml"), "lab", {}, {})
    mine = Artifacts(inventory, official=web.url)
    url = f"https://github.com/ollama/ollama/releases/download/v0.17.4/{NAME}"
    cached = home / ".cache/olladist/releases" / hashlib.sha256(url.encode()).hexdigest()[:16] / NAME
    cached.parent.mkdir(parents=True)
    shutil.copy(tarball, cached)

    needed = await mine.release(host, recorded("debian13-root"))

    assert needed is not None
    assert (needed.name, needed.tarballs[0].path) == ("0.17.4", cached)


async def test_a_url_is_known_without_being_downloaded(home: Path, tarball: Path, web: Web) -> None:
    """So that the second `up`, also from another machine, needs neither the network nor the file."""
    web.files = {f"/any/{NAME}": tarball.read_bytes(), f"/any/{NAME}.sha256": f"{sha256(tarball)} *{NAME}".encode()}

    needed = await find(f"{web.url}/any/{NAME}?token=x")

    assert needed.name.startswith("tarball-")
    assert needed.tarballs[0].sha256 == sha256(tarball)
    assert not needed.tarballs[0].path.exists()


async def test_a_host_that_has_it_needs_no_tarball_and_no_network(home: Path, tarball: Path) -> None:
    """Found among its releases by name."""
    facts = recorded("debian13-system-service")
    assert await find("latest", facts) == Release("tarball-de317275", "")
    assert (await find(str(tarball), facts)).tarballs
    ours = facts.prefixes["/opt/olladist"]
    there = type(ours)(ours.path, (f"tarball-{sha256(tarball)[:8]}",), "", (), ())
    facts = type(facts)(**{**{name: getattr(facts, name) for name in facts.__slots__}, "prefixes": {ours.path: there}})
    assert (await find(str(tarball), facts)).tarballs == ()


async def test_an_adopted_ollama_needs_nothing() -> None:
    """No release, no network, no file."""
    found, host = artifacts("0.6.2")

    assert await found.release(host, recorded("ubuntu22-a100-official")) is None


async def test_amd_gpus_and_jetsons_get_their_archives_on_top(
    home: Path, tarball: Path, web: Web, tmp_path: Path
) -> None:
    """From the mirror, or beside a local tarball; where that is missing the plan says so."""
    addition = release(tmp_path / "add.tar.zst").read_bytes()
    web.files = {f"/v0.17.4/{NAME}": tarball.read_bytes(), "/v0.17.4/ollama-linux-amd64-rocm.tar.zst": addition}
    amd = recorded("ubuntu24-mi300x-rocm7")

    published = await find("0.17.4", amd, mirror=web.url)
    assert published.name == "0.17.4-rocm"
    assert [item.addition for item in published.tarballs] == [False, True]

    assert "ollama-linux-amd64-rocm.tar.zst is not there" in (await find(str(tarball), amd)).notes[0]
    (tarball.parent / "ollama-linux-amd64-rocm.tar.zst").write_bytes(addition)
    assert (await find(str(tarball), amd)).name == f"tarball-rocm-{sha256(tarball)[:8]}"

    web.files["/v0.17.4/ollama-linux-arm64.tar.zst"] = tarball.read_bytes()
    with pytest.raises(OlladistError, match="arm64-jetpack6"):
        await find("0.17.4", recorded("jetson-orin"), mirror=web.url)


async def test_a_host_without_zstd_gets_it_packed_anew_once(home: Path, tarball: Path) -> None:
    """The copy is kept beside the downloads."""
    found, host = artifacts(str(tarball))
    needed = await found.release(host, recorded("debian13-root"))
    assert needed is not None

    await found.fetch([(needed.tarballs[0], Form.GZIP), (needed.tarballs[0], Form.GZIP)])
    path, contents = await packed(needed.tarballs[0], Form.GZIP)

    assert form_of(path) is Form.GZIP
    assert contents.sha256 == sha256(path)
    assert path.is_relative_to(home / ".cache")
