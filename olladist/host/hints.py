"""The next step for causes that commands and logs name in their own words."""

import re

_KNOWN = (
    (r"no space left on device|disk quota exceeded|wrote only \d+ of \d+", "free some space there (`df -h`), then run this again"),
    (r"address already in use|bind: .*in use", "another program listens on that port: `ss -ltnp`; stop it or choose another `port`"),
    (r"read-only file system", "that file system is mounted read-only: choose another one, or look for disk errors in `dmesg`"),
    (
        r"cannot execute binary file|exec format error",
        "the binary is for another processor: take the release for this host's architecture (`uname -m`)",
    ),
    (
        r"bin/ollama.*no such file or directory",
        "its loader is missing: releases are made for glibc and do not run on musl (Alpine) without `apk add gcompat`",
    ),
    (
        r"error while loading shared libraries|no such file or directory.*\.so|glibc_\d",
        "a system library is missing or too old for this release: install it, or take a release made for this system",
    ),
    (
        r"(mkdir|open|ensure path elements are traversable|blobs|manifests|models).*permission denied",
        "the service's user must own the model store and be able to enter every folder above it",
    ),
    (r"permission denied|operation not permitted", "the user may not do that there: check owner and mode, or noexec mounts"),
    (r"invalid (host|port)|OLLAMA_\w+.*invalid|bad origin", "correct `env` in the inventory"),
    (r"is masked", "somebody has masked that unit: `systemctl unmask` it, or give this host another `service`"),
    (r"text file busy", "a program runs from that file: stop it first"),
    (r"text is not a command|command not found|not found$", "a program is missing on the host: install the package that holds it"),
)  # fmt: skip


def hint_for(text: str) -> str:
    """What to do about the first known cause in `text`, "" for none."""
    for pattern, hint in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return hint
    return ""
