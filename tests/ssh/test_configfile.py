import os
from pathlib import Path

import pytest
from asyncssh.config import SSHClientConfig
from hypothesis import given
from hypothesis import strategies as st

from olladist.ssh.configfile import ConfigFile

NAMES = ["gpu1", "gpu2", "bastion", "*", "gpu*", "!gpu1"]
BLOCKS = st.one_of(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: f"Host {' '.join(names)}"),
    st.sampled_from(NAMES[:5]).map(lambda name: f'HOST="{name}"'),
    st.sampled_from(["Match host gpu1", "Match all", "match user ops", "Match final originalhost gpu2"]),
)
OPTIONS = st.one_of(
    st.sampled_from(["HostName 198.51.100.1", "Hostname=there.example", "User ops", "Port 2222", "# Host gpu1", ""]),
    st.sampled_from(
        ["HostKeyAlias a", "IdentityFile ~/.ssh/%h", "ProxyJump bastion", "IdentitiesOnly yes", "\tPort 22"]
    ),
)


@given(st.lists(st.one_of(BLOCKS, OPTIONS), max_size=20), st.sampled_from(["gpu1", "gpu2", "bastion", "other"]))
def test_the_part_for_a_host_says_what_the_whole_says(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], host: str
) -> None:
    """asyncssh reads the same options from the part as from the whole file, for every host, and as many lines."""
    folder = tmp_path_factory.mktemp("config")
    whole, part = folder / "whole", folder / "part"
    whole.write_text("\n".join(lines))
    part.write_text(ConfigFile(whole).for_host(host))

    assert part.read_text().count("\n") == whole.read_text().count("\n")
    options = [
        SSHClientConfig.load(None, [path], False, False, False, "me", (), host, ())._options for path in (whole, part)
    ]
    assert options[0] == options[1]


def test_blocks_of_others_are_blank(tmp_path: Path) -> None:
    """What asyncssh has to read does not grow with the number of hosts, and line numbers stay."""
    path = tmp_path / "config"
    path.write_text("".join(f"Host node{n}\n  HostName 198.51.100.{n}\n\n" for n in range(60)) + "Host *\n  User ops\n")

    lines = ConfigFile(path).for_host("node7").split("\n")
    assert [line for line in lines if line] == ["Host node7", "  HostName 198.51.100.7", "Host *", "  User ops"]
    assert lines[21] == "Host node7"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """A gateway that runs for weeks sees what the operator edits."""
    path = tmp_path / "config"
    path.write_text("User one\n")
    file = ConfigFile(path)
    assert file.for_host("gpu1") == "User one\n"

    path.write_text("User two\n")
    os.utime(path, ns=(1, 1))
    assert file.for_host("gpu1") == "User two\n"


def test_a_host_line_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    """So that asyncssh complains about it, with its line."""
    path = tmp_path / "config"
    path.write_text('Host "gpu1\n  User ops\nHost\n  User x\n')

    assert ConfigFile(path).for_host("other") == path.read_text()
