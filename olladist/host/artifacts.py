"""Which release a host needs, and its tarballs on the operator's machine: found, downloaded once, read whole, packed anew."""

import asyncio
import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from olladist import places
from olladist.errors import OlladistError, UsageError
from olladist.host.desired import choose, file_version, release_name
from olladist.host.download import Missing, download, fetch_text, size_at
from olladist.host.found import Facts
from olladist.host.tarball import BadTarball, Contents, Form, Release, Tarball, form_of, read_contents, repack
from olladist.inventory.model import Host, Inventory
from olladist.ollama.release import (
    ARCHIVE_ENDINGS,
    LATEST,
    OFFICIAL,
    Artifact,
    artifact,
    is_version,
    normalise,
    parse_checksums,
)

# (file name, bytes done, bytes in all or 0)
Watch = Callable[[str, int, int], None]


class Artifacts:
    """The releases of one inventory. Raises OlladistErrors, and before any host is touched: none of this is a host's fault."""

    def __init__(self, inventory: Inventory, *, official: str = OFFICIAL) -> None:
        self._inventory = inventory
        self._official = official
        self._known: dict[tuple[str, str, tuple[str, ...]], Release] = {}
        self._locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def release(self, host: Host, facts: Facts) -> Release | None:
        """What shall be in `releases/` on a host; None where an Ollama that is there is adopted.

        Asks the network only where the host lacks something and this machine does not have it; downloads nothing.
        """
        choice = choose(host, facts)
        if choice.adopted is not None:
            return None
        if choice.installed or choice.problems:
            version = normalise(host.ollama) if is_version(host.ollama) else ""
            return Release(choice.installed or version or "none", version)
        key = (host.ollama, facts.arch, choice.parts)
        async with self._locks[key]:
            if key not in self._known:
                self._known[key] = await self._find(*key)
        found = self._known[key]
        ours = facts.prefixes.get(choice.prefix)
        there = ours is not None and found.name in ours.releases
        return dataclasses.replace(found, tarballs=()) if there else found

    async def fetch(
        self, tarballs: Iterable[tuple[Tarball, Form]], watch: Watch = lambda name, done, total: None
    ) -> None:
        """Has these tarballs here, whole and with the right checksum, in the form that the hosts can unpack."""
        for tarball, form in dict.fromkeys(tarballs):
            async with self._locks[tarball.path]:
                if tarball.url is not None and not tarball.path.exists():
                    await self._download(tarball, watch)
                _expect(tarball, await contents_of(tarball.path, addition=tarball.addition))
                await packed(tarball, form)

    async def _download(self, tarball: Tarball, watch: Watch) -> None:
        async def verify(part: Path) -> None:
            _expect(tarball, await asyncio.to_thread(read_contents, part, addition=tarball.addition))

        url = tarball.url or ""
        await download(url, tarball.path, verify, lambda done, total: watch(tarball.name, done, total))

    # ---- what the inventory means ----

    async def _find(self, wanted: str, arch: str, parts: tuple[str, ...]) -> Release:
        if wanted == LATEST:
            wanted = await self._latest()
        if is_version(wanted):
            version = normalise(wanted)
            tarballs = [
                await self._published(
                    artifact(version, arch, mirror=self._inventory.mirror or "", part=part), bool(part)
                )
                for part in ("", *parts)
            ]
            notes = tuple(f"no checksum is known for {tarball.name}" for tarball in tarballs if tarball.sha256 is None)
            return Release(release_name(version, parts), version, tuple(tarballs), notes)
        if "://" in wanted:
            return await self._at_url(wanted)
        return await self._at_path(Path(wanted).expanduser(), parts)

    async def _latest(self) -> str:
        mirror = (self._inventory.mirror or "").rstrip("/")
        if mirror:
            try:
                text, _ = await fetch_text(f"{mirror}/latest")
            except Missing as error:
                raise OlladistError(error.message, hint='set [fleet] ollama to a version, such as "0.17.4"') from None
            version = text.strip()
        else:
            # The page of the newest release is a redirect to its tag; unlike GitHub's API it has no limit of 60 an hour.
            _, target = await fetch_text(f"{self._official}/latest", follow=False)
            version = target.rpartition("/")[2]
        if not is_version(version):
            where = mirror or self._official
            raise OlladistError(
                f'{where}/latest does not name a version: "{version[:60]}"',
                hint='set [fleet] ollama to a version, such as "0.17.4"',
            )
        return normalise(version)

    async def _published(self, found: Artifact, addition: bool) -> Tarball:
        """The first of an artifact's names that is here or there."""
        candidates = [self._from_url(url, addition) for url in found.urls]
        for tarball in candidates:
            if tarball.path.exists():
                return await _known(tarball)
        missing: list[str] = []
        for tarball in candidates:
            try:
                size = await size_at(tarball.url or "")
            except Missing as error:
                missing.append(error.message)
                continue
            return dataclasses.replace(
                tarball, size=size, sha256=tarball.sha256 or await self._checksum(tarball, found)
            )
        raise OlladistError("; ".join(missing), hint="check [fleet] ollama, and mirror if one is set")

    async def _checksum(self, tarball: Tarball, found: Artifact | None) -> str | None:
        """What stands beside the file: NAME.sha256, or the list of the whole release."""
        parts = urlsplit(tarball.url or "")
        beside = urlunsplit(parts._replace(path=f"{parts.path}.sha256"))
        for url in (beside, *([found.checksums_url] if found else [])):
            try:
                text, _ = await fetch_text(url)
            except Missing:
                continue
            listed = parse_checksums(text).get(tarball.name)
            alone = re.fullmatch(r"\s*([0-9a-fA-F]{64})\s*", text)
            if listed or alone:
                return listed or (alone[1].lower() if alone else None)
        return None

    async def _at_url(self, url: str) -> Release:
        """A URL stands for one content for ever: its release is known by the URL, so that no second `up` downloads it."""
        tarball = self._from_url(url, addition=False)
        name = release_name(
            file_version(tarball.name), sha256=tarball.sha256 or hashlib.sha256(url.encode()).hexdigest()
        )
        if tarball.path.exists():
            return Release(name, "", (await _known(tarball),))
        size = await size_at(url)
        checksum = tarball.sha256 or await self._checksum(tarball, None)
        notes = () if checksum else (f"no checksum is known for {tarball.name}",)
        return Release(name, "", (dataclasses.replace(tarball, size=size, sha256=checksum),), notes)

    def _from_url(self, url: str, addition: bool) -> Tarball:
        name = urlsplit(url).path.rpartition("/")[2] or "tarball"
        folder = places.cache_dir() / "releases" / hashlib.sha256(url.encode()).hexdigest()[:16]
        return Tarball(name, folder / name, url, self._inventory.checksums.get(name), addition=addition)

    async def _at_path(self, path: Path, parts: tuple[str, ...]) -> Release:
        path = path if path.is_absolute() else self._inventory.path.parent / path
        if not path.is_file():
            hint = "a version, latest, or the path or URL of a tarball"
            raise UsageError(f"[fleet] ollama: there is no file {path}", hint=hint)
        main = await self._local(path, addition=False)
        ending = next((end for end in ARCHIVE_ENDINGS if path.name.endswith(end)), path.suffix)
        stem = path.name.removesuffix(ending)
        beside = {part: path.with_name(f"{stem}-{part}{ending}") for part in parts}
        here = tuple(part for part in parts if beside[part].is_file())
        additions = [await self._local(beside[part], addition=True) for part in here]
        notes = tuple(
            f"{beside[part]} is not there: this host's GPUs may need it" for part in parts if part not in here
        )
        name = release_name(file_version(path.name), here, (main.sha256 or ""))
        return Release(name, "", (main, *additions), notes)

    async def _local(self, path: Path, *, addition: bool) -> Tarball:
        tarball = Tarball(path.name, path, None, self._inventory.checksums.get(path.name), addition=addition)
        return await _known(tarball)


async def _known(tarball: Tarball) -> Tarball:
    """A tarball that is here, with what its content says; BadTarball where that is not what it must be."""
    contents = await contents_of(tarball.path, addition=tarball.addition)
    _expect(tarball, contents)
    return dataclasses.replace(
        tarball, sha256=contents.sha256, size=contents.size, unpacked=contents.unpacked, arch=contents.arch
    )


def _expect(tarball: Tarball, contents: Contents) -> None:
    if tarball.sha256 is not None and contents.sha256 != tarball.sha256.lower():
        where = tarball.url or str(tarball.path)
        raise BadTarball(
            f"{where} has the sha256 {contents.sha256}, and not {tarball.sha256} as it must",
            hint="it was changed or damaged on its way: get it again, or correct the checksum",
        )


# ---- what is here ----


async def contents_of(path: Path, *, addition: bool = False) -> Contents:
    """What a file holds: read whole the first time, remembered for as long as the file is not touched."""
    try:
        stat = path.stat()
    except OSError as error:
        raise OlladistError(f"{path} cannot be read: {error.strerror}", hint="run it again to fetch it anew") from None
    what = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}|{addition}"
    memory = places.cache_dir() / "contents" / f"{hashlib.sha256(what.encode()).hexdigest()}.json"
    if memory.is_file():
        try:
            return msgspec.json.decode(memory.read_bytes(), type=Contents)
        except msgspec.DecodeError:
            pass  # written by another version of olladist
    contents = await asyncio.to_thread(read_contents, path, addition=addition)
    memory.parent.mkdir(mode=0o700, exist_ok=True)
    new = memory.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(contents))
    new.replace(memory)
    return contents


async def packed(tarball: Tarball, form: Form) -> tuple[Path, Contents]:
    """The file in the form that a host can unpack, and what it holds. Call `fetch` before."""
    if form_of(tarball.path) is form:
        return tarball.path, await contents_of(tarball.path, addition=tarball.addition)
    original = await contents_of(tarball.path, addition=tarball.addition)
    target = places.cache_dir() / "repacked" / f"{original.sha256}.{form.value}"
    if not target.exists():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        await asyncio.to_thread(repack, tarball.path, target, form)
    return target, await contents_of(target, addition=tarball.addition)
