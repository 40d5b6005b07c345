"""A user's systemd: needs no root; lives as long as the user is logged in, or for ever with lingering."""

from olladist.host.found import Facts
from olladist.host.service.systemd import Systemd


def user_service(facts: Facts) -> Systemd:
    # A shell that no login made has no XDG_RUNTIME_DIR, without which the bus is not found (systemd#40604).
    bus = f"XDG_RUNTIME_DIR=/run/user/{facts.uid}"
    return Systemd(
        scope="user",
        directory=f"{facts.home}/.config/systemd/user",
        ctl=f"{bus} systemctl --user",
        journal=f"{bus} journalctl --user",
        root=False,
        wanted_by="default.target",
    )
