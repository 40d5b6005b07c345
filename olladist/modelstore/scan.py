"""Reads a whole store in one round trip: a POSIX script (dash, bash or busybox, no Python) and a pure parser."""

import base64
import binascii
import re
from collections.abc import Iterator

from olladist.errors import StoreError
from olladist.modelstore.contents import StoreContents, Stored, StorePlace
from olladist.modelstore.scripts import SCAN, fill
from olladist.ollama.digests import Digest
from olladist.ollama.manifest import MANIFEST_BYTES_MAX, parse_manifest
from olladist.ollama.names import InvalidName, ModelName
from olladist.ollama.store import STAGE, name_from_manifest_path
from olladist.ssh.runner import Runner
from olladist.ssh.words import quote

# A blob takes about 130 bytes of output, a manifest about 1.5 kB: 16 MiB are more than 10 000 models of 8 blobs, and
# half of what a Runner keeps of a command's output.
MAX_OUTPUT = 16 << 20
# Problems are read by a person; the first ones of each kind say what is wrong.
MAX_PROBLEMS = 20

_FREE = re.compile(r"D .*\s([0-9]{1,18})\s+(?:[0-9]+%|-)\s+\S.*")
_FILE = re.compile(r"\S+\s+[0-9]+\s+[0-9]+\s+[0-9]+\s+([0-9]{1,18})\s.*\s(\S+)")  # POSIX ls -ln
_BLOB = re.compile(r"sha256-[0-9a-f]{64}")
_RECIPE = re.compile(r"([0-9a-f]{64}) (sha256:[0-9a-f]{64})")
_OWNER = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_COUNT = re.compile(r"[0-9]{1,12}")


def scan_script(store: StorePlace) -> str:
    return fill(SCAN, {"store": quote(store.path), "stage": STAGE, "most": str(MANIFEST_BYTES_MAX + 1)})


async def scan(runner: Runner, store: StorePlace) -> StoreContents:
    """What the store of a host holds; StoreError where the answer cannot be read."""
    during = "reading the model store"
    # 2000 blobs take under a second; a store on a spun-down disk or a slow NFS may take a minute to answer.
    output = await runner.check(scan_script(store), root=store.root, timeout=120.0, during=during)
    try:
        return parse_scan(output)
    except ValueError as error:
        raise StoreError(
            runner.host, during, f"what the host answers cannot be read: {error}", hint=f"look at {store.path} there"
        ) from None


def parse_scan(output: str) -> StoreContents:
    """Any text becomes StoreContents or a ValueError; what is wrong with single files stands in `problems`."""
    if len(output) > MAX_OUTPUT:
        raise ValueError(f"more than {MAX_OUTPUT} characters")
    lines = output.split("\n")
    if lines[-2:] != ["END", ""]:
        raise ValueError("it was cut short")
    reading = _Reading()
    rest = iter(lines[:-2])
    for line in rest:
        reading.take(line[:2], line[2:], rest)
    return reading.contents()


class _Reading:
    """The state of parsing one answer."""

    def __init__(self) -> None:
        self.models: dict[str, Stored] = {}
        self.blobs: dict[Digest, int] = {}
        self.parts: dict[Digest, int] = {}
        self.recipes: dict[str, Digest] = {}
        self.partial_bytes = 0
        self.free_bytes: int | None = None
        self.owner = ""
        self.problems: list[str] = []
        self.closed = ""

    def take(self, kind: str, text: str, rest: Iterator[str]) -> None:
        if kind == "M ":
            self._manifest(text, rest)
        elif kind == "B ":
            self._file(text, self.blobs)
        elif kind == "P ":
            self._file(text, self.parts)
        elif kind == "R ":
            if found := _RECIPE.fullmatch(text):
                self.recipes[found[1]] = found[2]
        elif kind == "S " and _OWNER.fullmatch(text):
            self.owner = text
        elif kind == "D " and (found := _FREE.fullmatch("D " + text)):
            self.free_bytes = int(found[1]) * 1024
        elif kind == "X ":
            self.problems.append(f"{text[:200]} is no name that Ollama takes: while it is there, Ollama prunes nothing")
        elif kind == "O ":
            self.closed = (
                f"blobs/ lies on another file system ({text[:200]}) than its store: no blob appears there whole"
            )
            self.problems.append(self.closed)
        elif kind == "C" and not text:
            self.closed = "its folder cannot be opened by the user who logs in"
            self.problems.append(self.closed)
        elif kind == "W " and _COUNT.fullmatch(text):
            if int(text):
                self.problems.append(f"{text} files or folders belong to another user than the store")
        else:
            raise ValueError(f"unexpected line {(kind + text)[:100]!r}")

    def _manifest(self, path: str, rest: Iterator[str]) -> None:
        encoded = []
        for line in rest:
            if line == ".":
                break
            encoded.append(line)
        else:
            raise ValueError(f"the manifest {path[:200]} does not end")
        if path.count("/") != 4:
            return  # Ollama looks at this depth only
        try:
            name = name_from_manifest_path(path)
            manifest = parse_manifest(base64.b64decode("".join(encoded), validate=True))
        except InvalidName:
            self.problems.append(f"{path[:200]} is no name that Ollama takes: while it is there, Ollama prunes nothing")
        except (ValueError, binascii.Error) as error:
            self.problems.append(f"{path[:200]} is damaged: {error}")
        else:
            self._model(name, Stored(name, manifest))

    def _model(self, name: ModelName, stored: Stored) -> None:
        if other := self.models.get(name.key):
            self.problems.append(f"{name} and {other.name} differ in case only: Ollama sees one of them")
        self.models[name.key] = stored

    def _file(self, text: str, files: dict[Digest, int]) -> None:
        if not (found := _FILE.fullmatch(text)):
            raise ValueError(f"unexpected file {text[:100]!r}")
        name, size = found[2].rsplit("/", 1)[-1], int(found[1])
        if _BLOB.fullmatch(name):
            files[name.replace("-", ":")] = size
        elif "-partial" in name:
            self.partial_bytes += size

    def contents(self) -> StoreContents:
        if self.free_bytes is None:
            raise ValueError("it does not say how much space is free")
        more = len(self.problems) - MAX_PROBLEMS
        return StoreContents(
            models=self.models,
            blobs=self.blobs,
            parts=self.parts,
            recipes=self.recipes,
            free_bytes=self.free_bytes,
            partial_bytes=self.partial_bytes,
            owner=self.owner,
            problems=(*self.problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])),
            closed=self.closed,
        )
