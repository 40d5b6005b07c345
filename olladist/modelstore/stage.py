"""Changes to one host's store: a lock, parts beside the store that become blobs once they are verified, manifests last.

Ollama never sees a half of anything: it looks into blobs/ and manifests/ only, where files appear whole by rename.
"""

import asyncio
import getpass
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from olladist.errors import CommandFailed, HostError, StoreError
from olladist.modelstore.contents import StorePlace
from olladist.modelstore.scripts import ACCEPT, ADD, CLOSE, HOLDING, LOOK, OPEN, PUBLISH, REMEMBER, fill
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Layer, Manifest
from olladist.ollama.names import ModelName
from olladist.ollama.store import STAGE, blob_path, manifest_path, stage_path
from olladist.ssh.runner import Runner
from olladist.ssh.words import quote
from olladist.units import duration, size

# A lock whose holder has not been heard of for so long is dead; it is heard of every BEAT seconds. 6 beats may get lost.
STALE = 90
BEAT = 15.0
# A blob up to this size goes along with the script that checks it: a connection of its own costs more than its bytes.
SMALL = 64 << 10

Progress = Callable[[int], None]

_HELD = re.compile(r"HELD (-?[0-9]{1,12}) (.*)\n")
_LOOKED = re.compile(r"(sha256-[0-9a-f]{64}) (-?[0-9]{1,18}) ([0-9]{1,18})")
_WHO = re.compile(r"[^ ]+@([^ ]+) pid ([0-9]{1,10}) since [^ ]+ \(([0-9a-f]+)\)")

# Tokens of the locks this process holds or asks for: one that names this process and is not among them was lost with a connection.
_HELD_HERE: set[str] = set()


def _ignore(present: int) -> None:
    """Nobody looks."""


class WrongContent(StoreError):
    """What came is not the blob; another source may have it."""


class Stage:
    """One host's store for as long as we hold its lock."""

    def __init__(self, runner: Runner, store: StorePlace, *, beat: float = BEAT) -> None:
        self.host = runner.host
        self._runner = runner
        self._store = store
        self._beat = beat
        self._token = secrets.token_hex(4)
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._who = f"{_user()}@{socket.gethostname()} pid {os.getpid()} since {since} ({self._token})"

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Holds the store's lock; StoreError where another sync is at work there."""
        _HELD_HERE.add(self._token)  # before it is: others may see it before we know of it
        try:
            try:
                await self._open()
            except asyncio.CancelledError:
                await self._close()  # the host may have given it to us before we could hear of it
                raise
            beating = asyncio.create_task(self._keep_alive())
            try:
                yield
            finally:
                beating.cancel()
                await asyncio.wait({beating})
                await self._close()
        finally:
            _HELD_HERE.discard(self._token)

    async def lacking(self, blobs: Iterable[Layer]) -> list[tuple[Layer, int]]:
        """The blobs that are not there with their right size, each with the number of its bytes that are staged."""
        wanted = {blob.digest: blob for blob in blobs}
        names = "".join(f"{digest.replace(':', '-')} {blob.size}\n" for digest, blob in wanted.items())
        output = await self._script(LOOK, "looking for blobs", stdin=names.encode())
        seen = {found[1]: found for found in map(_LOOKED.fullmatch, output.splitlines()) if found}
        result = []
        for digest, blob in wanted.items():
            if not (found := seen.get(digest.replace(":", "-"))):
                raise StoreError(self.host, "looking for blobs", f"no word about {digest[:19]}")
            if int(found[2]) != blob.size:
                result.append((blob, int(found[3])))
        return result

    async def receive(self, blob: Layer, source: Path, staged: int, progress: Progress = _ignore) -> None:
        """Sends what is missing of a blob from a local file; the blob appears once its digest is right.

        A resumed part that turns out wrong is sent once more as a whole. `progress` gets the bytes that are there.
        """
        for start in dict.fromkeys((staged, 0)):
            said = await self._arrive(blob, source, start, progress)
            verdict, _, detail = said.strip().partition(" ")
            if verdict == "WHOLE":
                return
            if verdict == "SHORT":
                cause = f"{source} gave {detail} of {blob.size} bytes: it changed meanwhile"
                raise WrongContent(self.host, _copying(blob), cause, hint="run this again")
        cause = f"wrong digest: what arrived from {source} has sha256:{detail[:12]}…; it was removed"
        raise WrongContent(self.host, _copying(blob), cause, hint="the source is damaged, or changed while it was read")

    async def publish(self, name: ModelName, manifest: Manifest) -> None:
        """Puts the manifest in its place in one step: from now on Ollama has the model."""
        during = f"publishing {name}"
        path = manifest_path(name)
        folders = [path.rsplit("/", up)[0] for up in (3, 2, 1)]
        fields = {f"dir{number}": quote(folder) for number, folder in enumerate(folders, 1)}
        fields |= {"path": quote(path), "hex": _hex(manifest.digest)}
        if (await self._script(PUBLISH, during, fields, stdin=manifest.raw)).strip() != "PUBLISHED":
            raise StoreError(self.host, during, "the manifest arrived damaged", hint="run this again")

    async def remember(self, recipe: str, digest: Digest) -> None:
        """Notes that the recipe became the model with that digest."""
        fields = {"digest": digest, "recipe": recipe}
        await self._script(REMEMBER, "noting what a model was made of", fields)

    async def _open(self) -> None:
        during = "locking the model store"
        dead = ""
        while True:
            fields = {"owner": quote(self._store.owner), "dead": quote(dead), "stale": str(STALE)}
            output = await self._run(OPEN, during, fields)
            if output == "TAKEN\n":
                return
            if not (held := _HELD.fullmatch(output)):
                raise StoreError(self.host, during, f"what the host answers cannot be read: {output[:100]!r}")
            age, holder = held.groups()
            if dead == holder or not _died(holder):
                cause = f"another sync is at work there: {holder[:200] or 'one that has only begun'} (last heard of {duration(max(int(age), 0))} ago)"
                raise StoreError(
                    self.host, during, cause, hint=f"wait for it; {STALE} s after its last word it is over"
                )
            dead = holder

    async def _close(self) -> None:
        """Lets go of the lock, where it is ours."""
        with suppress(HostError, TimeoutError):  # a lock that stays behind goes stale
            async with asyncio.timeout(10):
                await self._run(CLOSE, "releasing the store's lock", {})

    async def _keep_alive(self) -> None:
        """Is heard of while bytes move; what goes wrong here will stop the next script anyway."""
        with suppress(HostError):
            while True:
                await asyncio.sleep(self._beat)
                await self._script("", "keeping the store's lock")

    async def _arrive(self, blob: Layer, source: Path, start: int, progress: Progress) -> str:
        """Sends the bytes of a blob from `start` on; what its check says."""
        fields = _fields(blob)
        if start < blob.size <= SMALL:
            with self._readable(blob, source), source.open("rb") as file:
                file.seek(start)
                content = file.read(blob.size - start + 1)
            said = await self._script(f"{ADD}\n{ACCEPT}", _copying(blob), fields, stdin=content)
            progress(start + len(content))
            return said
        if start < blob.size or not blob.size:
            await self._send(blob, source, start, progress)
        # No timeout: an old disk reads 100 MB/s, so 40 GB take seven minutes.
        return await self._script(ACCEPT, _verifying(blob), fields, timeout=None)

    async def _send(self, blob: Layer, source: Path, start: int, progress: Progress) -> None:
        target = f"{self._store.path}/{stage_path(blob.digest)}"
        try:
            with self._mapped(_copying(blob)), self._readable(blob, source):
                await self._runner.put(
                    source, target, offset=start, root=self._store.root, progress=lambda sent: progress(start + sent)
                )
        except StoreError:
            # A part that fills the disk up would keep Ollama from writing; there is no resuming into no space either.
            with suppress(HostError):
                await self._script("rm -f @part@", "removing a part", _fields(blob))
            raise

    async def _script(
        self,
        script: str,
        during: str,
        fields: Mapping[str, str] | None = None,
        *,
        stdin: bytes = b"",
        timeout: float | None = 120.0,
    ) -> str:
        return await self._run(HOLDING + script, during, fields or {}, stdin=stdin, timeout=timeout)

    async def _run(
        self, script: str, during: str, fields: Mapping[str, str], *, stdin: bytes = b"", timeout: float | None = 120.0
    ) -> str:
        ours = {"store": quote(self._store.path), "stage": STAGE, "who": quote(self._who), "token": self._token}
        filled = fill(script, {**ours, **fields})
        with self._mapped(during):
            return await self._runner.check(filled, root=self._store.root, stdin=stdin, timeout=timeout, during=during)

    @contextmanager
    def _readable(self, blob: Layer, source: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cause = f"{source} cannot be read: {error.strerror}"
            raise WrongContent(self.host, _copying(blob), cause, hint="was it moved? then run this again") from error

    @contextmanager
    def _mapped(self, during: str) -> Iterator[None]:
        """What the system says about a store, said with the next step."""
        try:
            yield
        except CommandFailed as error:
            said = error.stderr.strip().splitlines()[-1:] or [f"exit status {error.status}"]
            for words, cause, hint in _MEANINGS:
                if words in error.stderr:
                    raise StoreError(self.host, during, f"{cause}: {said[0]}", hint=hint) from error
            raise


_MEANINGS = (
    ("No space left on device", "the disk is full", "remove models there, or set models_dir to a larger disk"),
    ("Disk quota exceeded", "the quota is used up", "remove models there, or ask for more space"),
    ("Read-only file system", "the disk cannot be written", "look at dmesg there: a disk error makes it read-only"),
    ("Permission denied", "the store is not ours to change", "use the user that owns it, or one with sudo"),
    ("Operation not permitted", "the store is not ours to change", "use the user that owns it, or one with sudo"),
    ("the lock was taken over", "another sync has begun there", "wait for it, then run this again"),
    ("is a link", "the stage is a link, which could lead anywhere", f"remove {STAGE} from the store there"),
)


def _fields(blob: Layer) -> dict[str, str]:
    part, whole = quote(stage_path(blob.digest)), quote(blob_path(blob.digest))
    return {"part": part, "blob": whole, "hex": _hex(blob.digest), "size": str(blob.size)}


def _hex(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


def _copying(blob: Layer) -> str:
    return f"copying blob {_hex(blob.digest)[:12]} ({size(blob.size)})"


def _verifying(blob: Layer) -> str:
    return f"verifying blob {_hex(blob.digest)[:12]} ({size(blob.size)})"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return str(os.getuid())


def _died(holder: str) -> bool:
    """Whether a lock's holder was a process of this machine that is gone."""
    found = _WHO.fullmatch(holder)
    if not found or found[1] != socket.gethostname():
        return False
    if int(found[2]) == os.getpid():
        return found[3] not in _HELD_HERE
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
