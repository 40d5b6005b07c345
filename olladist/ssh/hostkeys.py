"""Which host keys are known (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), what to think of another, and where we keep ours."""

import base64
import fcntl
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SSH_PORT = 22


class Verdict(StrEnum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file; `marker` is "", "cert-authority" or "revoked"."""

    marker: str
    patterns: str
    key_type: str
    key: bytes
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the known hosts say about a key; `entry` is the line that says it."""

    verdict: Verdict
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class HostName:
    """What a host is looked up as: its HostKeyAlias, or its address with the port where that is not 22."""

    full: str
    without_port: str

    @classmethod
    def of(cls, address: str, port: int, alias: str | None) -> "HostName":
        # As sshconnect.c does: the alias stands for itself, whatever the port is.
        name = (alias or address).lower()
        return cls(name if alias or port == SSH_PORT else f"[{name}]:{port}", name)


def fingerprint(key: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def parse(text: str, path: str) -> tuple[Entry, ...]:
    """The entries of a file. A line that is none is passed over, as ssh does: it can only make a key unknown."""
    entries = (_entry(line, path, number) for number, line in enumerate(text.split("\n"), 1))
    return tuple(entry for entry in entries if entry)


def _entry(line: str, path: str, number: int) -> Entry | None:
    words = line.split()
    marker = words.pop(0)[1:] if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#") or marker not in ("", "cert-authority", "revoked"):
        return None
    patterns, key_type, encoded = words[:3]
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    # RFC 4253, 6.6: a key begins with its type, as a string with its length in 4 bytes.
    if key[:4] != len(key_type.encode()).to_bytes(4) or key[4 : 4 + len(key_type.encode())] != key_type.encode():
        return None
    return Entry(marker, patterns, key_type, key, path, number)


class KnownHosts:
    """Entries, arranged so that looking up a host does not read them all."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._exact: dict[str, list[Entry]] = {}
        self._patterns: list[Entry] = []
        for entry in entries:
            if any(char in entry.patterns for char in "*?!|"):
                self._patterns.append(entry)
            else:
                for name in entry.patterns.lower().split(","):
                    self._exact.setdefault(name, []).append(entry)

    def find(self, name: str) -> list[Entry]:
        return [*self._exact.get(name, ()), *(entry for entry in self._patterns if matches(entry.patterns, name))]


def matches(patterns: str, name: str) -> bool:
    """Whether a comma-separated list with *, ? and ! (or a hashed name) means the host `name` (lower case)."""
    if patterns.startswith("|"):
        return _hashed(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern[negated:])
        if re.fullmatch("".join(parts), name):
            if negated:
                return False
            found = True
    return found


def _hashed(pattern: str, name: str) -> bool:
    """|1|salt|hash: HMAC-SHA1 of the name with the salt (HashKnownHosts of ssh_config(5))."""
    try:
        _, magic, salt, digest = pattern.split("|")
        wanted = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
        return magic == "1" and hmac.compare_digest(wanted, base64.b64decode(digest))
    except ValueError:
        return False


def judge(known: Sequence[KnownHosts], name: HostName, key: bytes) -> Judgement:
    """What to think of the key that a host shows. A host with any other plain key in the files has changed."""
    named = [entry for hosts in known for entry in hosts.find(name.full)]
    loose = [entry for hosts in known for entry in hosts.find(name.without_port)]
    for entry in (*named, *loose):
        if entry.marker == "revoked" and entry.key == key:
            return Judgement(Verdict.REVOKED, entry)
    # ssh also takes a key that is known for the host without its port, but does not miss one there.
    for entry in (*named, *loose):
        if not entry.marker and entry.key == key:
            return Judgement(Verdict.KNOWN, entry)
    for entry in named:
        if not entry.marker:
            return Judgement(Verdict.CHANGED, entry)
    return Judgement(Verdict.UNKNOWN)


def authorities(known: Sequence[KnownHosts], name: HostName) -> list[Entry]:
    """The certificate authorities whose word is taken for this host."""
    return [
        entry
        for wanted in dict.fromkeys((name.full, name.without_port))
        for hosts in known
        for entry in hosts.find(wanted)
        if entry.marker == "cert-authority"
    ]


def known_types(known: Sequence[KnownHosts], name: HostName) -> list[str]:
    """Key types to ask the host for first, so that it shows the key that we can compare."""
    found = [entry for hosts in known for entry in hosts.find(name.full)]
    found += [entry for hosts in known for entry in hosts.find(name.without_port)]
    return list(dict.fromkeys(entry.key_type for entry in found if not entry.marker))


class KnownHostsFiles:
    """Files as they are now, read again only when they have changed."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int, int], KnownHosts]] = {}

    def load(self, paths: Iterable[Path]) -> list[KnownHosts]:
        """What the files say; those that cannot be read say nothing."""
        return [found for path in dict.fromkeys(paths) if (found := self._load(path))]

    def _load(self, path: Path) -> KnownHosts | None:
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if (cached := self._read.get(path)) and cached[0] == state:
                return cached[1]
            known = KnownHosts(parse(path.read_text(errors="replace"), str(path)))
        except OSError:
            return None
        self._read[path] = (state, known)
        return known


def remember(path: Path, name: str, key_type: str, key: bytes) -> Judgement:
    """Adds a key to our own file, unless another process has added one meanwhile; what then counts is the Judgement.

    The file is replaced whole (0600), under a lock, so that a reader never sees half a line. OSError if it cannot be.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = path.read_text(errors="replace") if path.exists() else ""
        judgement = judge([KnownHosts(parse(text, str(path)))], HostName(name, name), key)
        if judgement.verdict is Verdict.UNKNOWN:
            text += "" if not text or text.endswith("\n") else "\n"
            _replace(path, f"{text}{name} {key_type} {base64.b64encode(key).decode()}\n")
            return Judgement(Verdict.KNOWN)
        return judgement
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".known_hosts-")  # 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
