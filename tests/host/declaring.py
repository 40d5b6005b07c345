"""What an inventory with one host asks for, given the facts of that host."""

from pathlib import Path
from typing import Any

from olladist.host.desired import Desired, choose, desired
from olladist.host.found import Facts
from olladist.host.tarball import Release, Tarball
from olladist.inventory.model import Gateway, Host, Inventory, Transport
from tests.host.recorded import recorded

TARBALL = Tarball(
    "ollama-linux-amd64.tar.zst", Path("/nowhere"), sha256="ab" * 32, size=1_500_000_000, unpacked=3_500_000_000, arch="amd64"
)  # fmt: skip
ADDITION = Tarball("ollama-linux-amd64-rocm.tar.zst", Path("/nowhere"), size=900_000_000, addition=True)
RELEASE = Release("0.17.4", "0.17.4", (TARBALL,))


def one_host(host: Host, *, direct: bool = False) -> Inventory:
    gateway = Gateway(transport=Transport.DIRECT if direct else Transport.TUNNEL)
    return Inventory(Path("inventory.toml"), "lab", {host.name: host}, {}, gateway=gateway)


def declare(case: str | Facts, *, release: Release | None = None, direct: bool = False, **settings: Any) -> Desired:
    """Ollama 0.17.4 on a recorded host, or whatever `settings` of inventory.model.Host say."""
    facts = recorded(case) if isinstance(case, str) else case
    host = Host("gpu1", "gpu1.example", **{"ollama": "0.17.4", **settings})
    if release is None and choose(host, facts).adopted is None:
        release = Release("0.17.4", "0.17.4")
    return desired(host, facts, one_host(host, direct=direct), release)
