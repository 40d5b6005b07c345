"""The system's own systemd: needs root, survives reboots, runs as the user `ollama`."""

from olladist.host.service.systemd import Systemd

SYSTEM = Systemd(
    scope="system",
    directory="/etc/systemd/system",
    ctl="systemctl",
    journal="journalctl",
    root=True,
    wanted_by="multi-user.target",
)
