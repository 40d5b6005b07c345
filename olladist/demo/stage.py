"""What the demo plays on: three throw-away hosts, a release of Ollama, two models, an inventory, an operator's home directory."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from olladist.sim import gguf, release
from olladist.sim.hosts import ThrowawayHosts, free_ports
from olladist.sim.settings import VERSION

HOSTS = ("gpu1", "gpu2", "gpu3")
SLOTS = 4

# Each model says its sentence whatever it is asked, so that every word of an answer can be checked.
SENTENCES: Mapping[str, str] = {
    "demo/sky": "The sky is blue because air scatters short waves most.",
    "demo/sea": "Seas look dark where little light comes back up.",
}
_MEGABYTES = {"demo/sky": 0.5, "demo/sea": 8.0}

# An answer of the simulated Ollama takes a third of a second: long enough to be in the middle of one when a host dies.
_SIMULATED_PACE = {"SIM_TOKENS_PER_SECOND": "30"}


@dataclass(frozen=True, slots=True)
class Source:
    """The release that the hosts get; `told` says which Ollama that is."""

    tarball: Path
    simulated: bool
    told: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything there is; `home` is the operator's, with the inventory in it."""

    folder: Path
    home: Path
    hosts: ThrowawayHosts
    source: Source
    inventory: str
    gateway: str

    @property
    def environ(self) -> dict[str, str]:
        """What commands of the operator find: nothing of the one who runs the demo but PATH and language."""
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "TERM", "TMPDIR"}}
        # 10 columns are for the demo's own margin.
        return {**kept, "HOME": str(self.home), "COLUMNS": "110", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}

    def shortened(self, text: str) -> str:
        """Without the long names of temporary folders."""
        for host in self.hosts.hosts.values():
            text = text.replace(f"{host.home}/", "~/")
        return text.replace(f"{self.home}/", "").replace(f"{self.folder}/", "…/")


def choose_source(folder: Path, *, simulated: bool) -> Source:
    """A real Ollama where one is on the PATH or in the lab and runs, unless the simulated one is asked for."""
    lab = Path(os.environ.get("OLLADIST_LAB", "/var/tmp/olladist-lab"))  # noqa: S108  tests/lab builds it there
    found = None if simulated else release.find_installed(lab)
    version = release.installed_version(found) if found else ""
    if found and version:
        return Source(
            release.pack_installed(found, folder), simulated=False, told=f"the real Ollama {version} of {found}"
        )
    why = "as you asked for" if simulated else f"{found} does not run" if found else "no `ollama` is on the PATH"
    tarball = release.pack_simulated(folder)
    return Source(tarball, simulated=True, told=f"the simulated Ollama {VERSION} of olladist.sim ({why})")


@contextmanager
def set_up(folder: Path, *, simulated: bool) -> Iterator[Stage]:
    """The stage below `folder`; the hosts are running while it stands, and killed when it is left."""
    home = folder / "operator"
    (home / "models").mkdir(parents=True)
    source = choose_source(folder, simulated=simulated)
    for name, sentence in SENTENCES.items():
        short = name.rpartition("/")[2]
        gguf.write(home / "models" / f"{short}.gguf", sentence, megabytes=_MEGABYTES[name], title=short)
        # One thread each: parallel runs of a real Ollama would fight for the cores otherwise.
        (home / "models" / f"{short}.Modelfile").write_text(f"FROM ./{short}.gguf\nPARAMETER num_thread 1\n")
    pace = _SIMULATED_PACE if source.simulated else {}
    with ThrowawayHosts(folder / "hosts", HOSTS, environ=pace) as hosts:
        (port,) = free_ports(1)
        text = inventory_text(hosts, source, port)
        (home / "inventory.toml").write_text(text)
        yield Stage(folder, home, hosts, source, text, f"http://127.0.0.1:{port}")


def inventory_text(hosts: ThrowawayHosts, source: Source, port: int) -> str:
    """The inventory as somebody could have written it."""
    fleet = hosts.inventory(
        comment="Three throw-away hosts: SSH servers on this machine, each with its own home directory."
    )
    fleet = fleet.replace('name = "throw-away"', f'name = "demo"\nollama = "{source.tarball}"')
    fleet = fleet.replace('service = "detached"', f'service = "detached"\nenv = {{ OLLAMA_NUM_PARALLEL = {SLOTS} }}')
    return f"""{fleet}
[models."demo/sky"]
source = "models/sky.Modelfile"

[models."demo/sea"]
source = "models/sea.Modelfile"
replicas = 2

[gateway]
listen = "127.0.0.1:{port}"
"""
