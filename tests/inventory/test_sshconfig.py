from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import UsageError
from olladist.inventory.sshconfig import ssh_hosts


def names(folder: Path) -> list[str]:
    return [destination.host for destination in ssh_hosts(folder / "config")]


def test_hosts_without_wildcards_are_listed(tmp_path: Path) -> None:
    """In any spelling of the keyword, once each; negations, wildcards and git hosts are left out."""
    (tmp_path / "config").write_text(
        "# Host no\n"
        "Host gpu1 gpu2.example *.internal !gpu9 gpu?\n"
        "  HostName 198.51.100.1\n"
        '\thost="gpu3" # trailing\n'
        "Host github.com\n  User git\n"
        "Match host other\n  User git\n"
        "HOST gpu1\n  User git\n"
        "Host gpu4\n  User ops\n  User git\n"
        "Host 'unclosed\n"
        "Hostname nothing\n"
        "Host -oProxyCommand=x\n"
        "Host *\n  ServerAliveInterval 5\n"
    )  # fmt: skip

    assert names(tmp_path) == ["gpu2.example", "gpu3", "gpu4"]


def test_includes_are_followed(tmp_path: Path) -> None:
    """Relative to the file's folder, by pattern, in place, and not for ever."""
    (tmp_path / "config").write_text("Host a\nInclude conf.d/*.conf missing.conf\nHost z\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/1.conf").write_text("Host b\n")
    (tmp_path / "conf.d/2.conf").write_text(f"Host c\nInclude {tmp_path}/config *.conf\n")
    (tmp_path / "d.conf").write_text("Host d\n")

    assert names(tmp_path) == ["a", "b", "c", "d", "z"]


def test_two_stars_in_an_include_are_one(tmp_path: Path) -> None:
    """As in glob(3), which ssh uses: nothing walks through all folders below."""
    (tmp_path / "near").mkdir()
    (tmp_path / "near/deep").mkdir()
    (tmp_path / "near/hosts").write_text("Host gpu1\n")
    (tmp_path / "near/deep/hosts").write_text("Host gpu2\n")
    (tmp_path / "config").write_text("Include **/hosts\n")

    assert names(tmp_path) == ["gpu1"]


def test_a_missing_file_says_what_to_do_instead(tmp_path: Path) -> None:
    """The hosts can be named on the command line."""
    with pytest.raises(UsageError, match="cannot be read: No such file or directory") as caught:
        ssh_hosts(tmp_path / "config")

    assert "olladist init user@host" in caught.value.hint


@given(st.binary(max_size=300) | st.lists(st.sampled_from(["Host", "Include", "Match", "User", "=", " ", "\t", "*", "[", "/**", "~x/", '"', "\n", "a", "git"])).map(lambda parts: "".join(parts).encode()))  # fmt: skip
def test_any_file_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What ssh would not take is passed over; names are hosts."""
    folder = tmp_path_factory.mktemp("ssh")
    (folder / "config").write_bytes(content)

    assert all(
        destination.host and not destination.host.startswith("-") for destination in ssh_hosts(folder / "config")
    )
