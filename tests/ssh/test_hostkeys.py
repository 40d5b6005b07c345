import base64
import hmac
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from olladist.ssh.hostkeys import (
    Entry,
    HostName,
    KnownHosts,
    KnownHostsFiles,
    Verdict,
    authorities,
    fingerprint,
    judge,
    known_types,
    matches,
    parse,
    remember,
)

KEYS = [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(4)]
BLOBS = [key.public_data for key in KEYS]
B64 = [base64.b64encode(blob).decode() for blob in BLOBS]
HOST = HostName.of("gpu1.example", 22, None)


def hashed(name: str, salt: bytes = b"12345678901234567890") -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def known(text: str) -> list[KnownHosts]:
    return [KnownHosts(parse(text, "known_hosts"))]


MARKERS = st.sampled_from(["", "", "", "revoked", "cert-authority"])
NAMES = st.sampled_from(["gpu1.example", "gpu2.example", "*.example", "[gpu1.example]:2222", "*", "!gpu1.example,*"])
ENTRIES = st.lists(st.tuples(MARKERS, NAMES, st.integers(0, 3)), max_size=6)


@given(ENTRIES, st.integers(0, 3), st.sampled_from([22, 2222]))
@example([("", "gpu1.example", 1)], 0, 22)
@example([("revoked", "*", 0), ("", "gpu1.example", 0)], 0, 22)
def test_the_judgement_keeps_its_rules(lines: list[tuple[str, str, int]], shown: int, port: int) -> None:
    """Revoked beats known, known beats changed, changed is any other plain key of that host and port, else unknown."""
    entries = [Entry(m, n, "ssh-ed25519", BLOBS[k], "file", i) for i, (m, n, k) in enumerate(lines, 1)]
    name = HostName.of("gpu1.example", port, None)

    judgement = judge([KnownHosts(entries)], name, BLOBS[shown])

    here = [entry for entry in entries if matches(entry.patterns, name.full)]
    anywhere = [*here, *(entry for entry in entries if matches(entry.patterns, name.without_port))]
    same = [entry for entry in anywhere if entry.key == BLOBS[shown]]
    if any(entry.marker == "revoked" for entry in same):
        assert judgement.verdict is Verdict.REVOKED
    elif any(not entry.marker for entry in same):
        assert judgement.verdict is Verdict.KNOWN
    elif any(not entry.marker for entry in here):
        assert judgement.verdict is Verdict.CHANGED
        assert judgement.entry in here
    else:
        assert judgement.verdict is Verdict.UNKNOWN


PATTERN = st.lists(st.text("ab*?!.", min_size=1, max_size=5), min_size=1, max_size=3).map(",".join)


@given(PATTERN, st.text("ab.", min_size=1, max_size=5))
def test_patterns_match_as_asyncssh_matches_them(patterns: str, name: str) -> None:
    """Another implementation of the same format agrees, so a host is not known here and unknown there."""
    theirs = asyncssh.import_known_hosts(f"{patterns} ssh-ed25519 {B64[0]}\n").match(name, "", None)

    assert matches(patterns, name) == bool(theirs[0])


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
@example("@revoked * ssh-ed25519")
@example("host ssh-ed25519 AAAA")
@example("|1|x|y ssh-ed25519 " + B64[0])
@example("|9|QUFB|QUFB ssh-ed25519 " + B64[0])
def test_no_file_breaks_the_parser(text: str) -> None:
    """Whatever stands in a known_hosts file gives entries or none, never an error, also when it is asked."""
    hosts = KnownHosts(parse(text, "file"))

    hosts.find("gpu1.example")


def test_lines_say_where_they_are() -> None:
    """Comments and empty lines count, so that the number is the one an editor shows."""
    entries = parse(f"# a comment\n\ngpu1 ssh-ed25519 {B64[0]} a comment\n@revoked * ssh-ed25519 {B64[1]}\n", "/etc/k")

    assert [(entry.marker, entry.line, entry.path, entry.key) for entry in entries] == [
        ("", 3, "/etc/k", BLOBS[0]),
        ("revoked", 4, "/etc/k", BLOBS[1]),
    ]


def test_a_key_whose_type_is_not_what_the_line_says_is_no_entry() -> None:
    """A line that lies about its key is passed over."""
    assert parse(f"gpu1 ssh-rsa {B64[0]}\ngpu1 ssh-ed25519 !!!\n", "file") == ()


@pytest.mark.parametrize(
    ("address", "port", "alias", "full"),
    [
        ("GPU1.example", 22, None, "gpu1.example"),
        ("gpu1.example", 2222, None, "[gpu1.example]:2222"),
        ("::1", 2222, None, "[::1]:2222"),
        ("gpu1.example", 2222, "fleet", "fleet"),
    ],
)
def test_hosts_are_looked_up_as_ssh_does(address: str, port: int, alias: str | None, full: str) -> None:
    """Lower case; the port in brackets where it is not 22; an alias stands for itself."""
    assert HostName.of(address, port, alias).full == full


def test_hashed_names_are_found() -> None:
    """HashKnownHosts hides the names; they are found all the same, with their port."""
    hosts = known(f"{hashed('gpu1.example')} ssh-ed25519 {B64[0]}\n{hashed('[b]:2222')} ssh-ed25519 {B64[1]}\n")

    assert judge(hosts, HOST, BLOBS[0]).verdict is Verdict.KNOWN
    assert judge(hosts, HOST, BLOBS[1]).verdict is Verdict.CHANGED
    assert judge(hosts, HostName.of("b", 2222, None), BLOBS[1]).verdict is Verdict.KNOWN
    assert judge(hosts, HostName.of("b", 22, None), BLOBS[1]).verdict is Verdict.UNKNOWN


def test_a_key_known_without_the_port_is_taken_but_not_missed() -> None:
    """As ssh: gpu1's key is good on port 2222 as well, but another sshd there is not a changed one."""
    hosts = known(f"gpu1.example ssh-ed25519 {B64[0]}\n")
    name = HostName.of("gpu1.example", 2222, None)

    assert judge(hosts, name, BLOBS[0]).verdict is Verdict.KNOWN
    assert judge(hosts, name, BLOBS[1]).verdict is Verdict.UNKNOWN


def test_authorities_and_types_are_those_of_the_host() -> None:
    """A @cert-authority of others is no authority here; known types are asked for first."""
    hosts = known(
        f"@cert-authority *.example ssh-ed25519 {B64[0]}\n@cert-authority other ssh-ed25519 {B64[1]}\n"
        f"gpu1.example ssh-ed25519 {B64[2]}\n"
    )

    assert [entry.key for entry in authorities(hosts, HOST)] == [BLOBS[0]]
    assert known_types(hosts, HOST) == ["ssh-ed25519"]


def test_the_fingerprint_is_the_one_that_ssh_prints() -> None:
    """SHA256, base64, without its padding."""
    assert fingerprint(BLOBS[0]) == KEYS[0].get_fingerprint()


def test_remembering_writes_one_private_line(tmp_path: Path) -> None:
    """The file is 0600 and holds the key once, however often it is remembered; other lines stay."""
    path = tmp_path / "new" / "known_hosts"
    path.parent.mkdir()
    path.write_text("# mine, no newline at the end")

    for _ in range(2):
        assert remember(path, "gpu1.example", "ssh-ed25519", BLOBS[0]).verdict is Verdict.KNOWN

    assert path.read_text() == f"# mine, no newline at the end\ngpu1.example ssh-ed25519 {B64[0]}\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_remembering_another_key_is_refused(tmp_path: Path) -> None:
    """Of two processes that accept different keys for one host only the first gets its way."""
    path = tmp_path / "known_hosts"
    remember(path, "gpu1.example", "ssh-ed25519", BLOBS[0])

    assert remember(path, "gpu1.example", "ssh-ed25519", BLOBS[1]).verdict is Verdict.CHANGED
    assert B64[1] not in path.read_text()


def test_processes_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    """Many processes write the same file; every line of every one is there afterwards."""
    path = tmp_path / "known_hosts"
    script = (
        "import sys; from pathlib import Path; from olladist.ssh.hostkeys import remember\n"
        "for n in range(10):\n"
        "    remember(Path(sys.argv[1]), f'h{sys.argv[2]}-{n}', 'ssh-ed25519', bytes.fromhex(sys.argv[3]))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, path, str(n), BLOBS[0].hex()]) for n in range(4)]

    assert [writer.wait() for writer in writers] == [0] * 4
    names = {line.split()[0] for line in path.read_text().splitlines()}
    assert names == {f"h{writer}-{n}" for writer in range(4) for n in range(10)}


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    """A key that another process adds is known at once; a file that is not there says nothing."""
    path = tmp_path / "known_hosts"
    files = KnownHostsFiles()
    assert files.load([path]) == []

    remember(path, "gpu1.example", "ssh-ed25519", BLOBS[0])
    first = files.load([path, path])
    assert len(first) == 1
    assert files.load([path])[0] is first[0]

    remember(path, "gpu2.example", "ssh-ed25519", BLOBS[1])
    assert judge(files.load([path]), HostName.of("gpu2.example", 22, None), BLOBS[1]).verdict is Verdict.KNOWN
