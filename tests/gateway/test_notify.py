import socket
from pathlib import Path

from olladist.gateway.notify import notify


def test_systemd_is_told_where_it_wants_to_know(tmp_path: Path) -> None:
    """One datagram to NOTIFY_SOCKET, be it a path or an abstract name."""
    for path, name in ((str(tmp_path / "n"), str(tmp_path / "n")), ("\0olladist-notify-test", "@olladist-notify-test")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(path)

            notify("READY=1", {"NOTIFY_SOCKET": name})

            assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    """No socket, one that is nobody's, and a form that we do not know."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notify("READY=1", environ)
