"""Models on real hosts: a real Ollama makes, lists and runs what a sync has brought, whatever happens on the way.

gpu71 logs in as ops (sudo) and keeps its models as the user ollama, gpu72 as plain (no sudo), box73 as root and with a
disk of 700 MB.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from olladist.errors import ConnectionLost, HostError, StoreError, Unreachable
from olladist.host.api import OllamaAPI
from olladist.inventory.model import DeclaredModel, Host, HostKeys, Inventory
from olladist.modelstore.contents import StoreContents, StorePlace
from olladist.modelstore.digests import LocalDigests
from olladist.modelstore.plan import SyncPlan, plan_sync
from olladist.modelstore.progress import OnProgress, unwatched
from olladist.modelstore.scan import scan
from olladist.modelstore.source import read_sources
from olladist.modelstore.transfer import sync
from olladist.ollama.names import parse_name
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import Prompts
from olladist.ssh.runner import Runner
from tests.lab import tiny_gguf
from tests.lab.machines import KEY, OLLAMA, Hosts, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

USERS = {"gpu71": "ops", "gpu72": "plain", "box73": "root"}
STORES = {
    "gpu71": StorePlace("/usr/share/ollama/.ollama/models", root=True, owner="ollama:ollama"),
    "gpu72": StorePlace("/home/plain/.ollama/models"),
    "box73": StorePlace("/root/.ollama/models"),
}
SERVE = {
    "gpu71": "runuser -u ollama -- env HOME=/usr/share/ollama",
    "gpu72": "runuser -u plain -- env HOME=/home/plain",
    "box73": "env HOME=/root",
}
SENTENCE = "Blobs move once and manifests follow last."


@dataclass
class Lab:
    hosts: Hosts
    folder: Path  # GGUFs, Modelfiles and caches of the operator

    def serve(self, name: str) -> None:
        """Starts Ollama on a host and waits until it answers there."""
        self.hosts.ssh(
            "root", name, f"setsid -f {SERVE[name]} /usr/local/bin/ollama serve </dev/null >/var/log/ollama.log 2>&1"
        )
        self.hosts.ssh(
            "root", name, "curl -fs --retry 20 --retry-connrefused --retry-delay 1 127.0.0.1:11434/api/version"
        )

    def model(self, name: str, *, megabytes: float, say: str = SENTENCE) -> DeclaredModel:
        """A new model from a Modelfile of that name, declared on all hosts."""
        tiny_gguf.write(str(self.folder / f"{name}.gguf"), 0, megabytes, say)
        (self.folder / name).write_text(f"FROM ./{name}.gguf\nPARAMETER num_thread 1\nSYSTEM {name}\n")
        return DeclaredModel(parse_name(f"lab/{name}:v1"), source=name)

    def inventory(self, *models: DeclaredModel) -> Inventory:
        hosts = {
            name: Host(name, address(name), user=user, identity=KEY, host_keys=HostKeys.ACCEPT_NEW)
            for name, user in USERS.items()
        }
        return Inventory(self.folder / "inventory.toml", "lab", hosts, {}, models)

    @asynccontextmanager
    async def connected(self, *names: str, **users: str) -> "AsyncIterator[Connected]":
        """Connections to these hosts, or all, each as its user or the one given."""
        async with AsyncExitStack() as stack:
            connections = await stack.enter_async_context(
                Connections(accept_new=True, state=self.folder, prompts=Prompts(secret=_sudo_password))
            )
            hosts = self.inventory().hosts
            chosen = {name: replace(hosts[name], user=users.get(name, USERS[name])) for name in names or hosts}
            runners = {name: await connections.runner(host) for name, host in chosen.items()}
            for runner in runners.values():
                stack.push_async_callback(runner.close)
            yield Connected(self, runners)


async def _sudo_password(host: str, what: str) -> str:
    return "lab"


@dataclass
class Connected:
    lab: Lab
    runners: Mapping[str, Runner]

    async def contents(self) -> dict[str, StoreContents]:
        return {name: await scan(runner, STORES[name]) for name, runner in self.runners.items()}

    async def plan(self, *models: DeclaredModel) -> SyncPlan:
        inventory = self.lab.inventory(*models)
        sources = await read_sources(inventory, digests=LocalDigests(self.lab.folder / "digests.json"))
        return plan_sync(inventory, await self.contents(), sources)

    @asynccontextmanager
    async def api(self, name: str) -> AsyncIterator[OllamaAPI]:
        async with self.runners[name].reach(11434) as endpoint, OllamaAPI(endpoint, name) as api:
            yield api

    async def sync(self, plan: SyncPlan, on_progress: OnProgress = unwatched) -> dict[str, HostError | None]:
        return await sync(
            plan, self.runners, STORES, self.api, on_progress=on_progress, spool=self.lab.folder / "spool"
        )

    async def says(self, model: DeclaredModel) -> dict[str, str]:
        """What the model answers on each host."""
        said = {}
        for name in self.runners:
            async with self.api(name) as api:
                said[name] = (await api.generate(str(model.name), "Why?", timeout=120)).response.strip()
        return said

    async def listed(self, name: str) -> dict[str, str]:
        """Name to digest, as the host's Ollama lists them."""
        async with self.api(name) as api:
            return {tag.name: tag.digest for tag in await api.tags()}


@pytest.fixture(scope="module")
def lab(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    hosts.up("gpu71", "gpu72")
    hosts.small("box73", "700m")
    hosts.ssh("root", "gpu71", "useradd -r -U -m -d /usr/share/ollama -s /bin/false ollama")
    lab = Lab(hosts, tmp_path_factory.mktemp("operator"))
    asyncio.run(_install(lab))
    for name in USERS:
        lab.serve(name)
    return lab


async def _install(lab: Lab) -> None:
    async with lab.connected(gpu72="root") as to:
        for name, runner in to.runners.items():
            await runner.put(OLLAMA, "/usr/local/bin/ollama", root=name == "gpu71")
            await runner.check("chmod 755 /usr/local/bin/ollama", root=name == "gpu71")


async def test_two_models_reach_three_hosts_and_a_second_sync_changes_nothing(lab: Lab) -> None:
    """A tiny and a 200 MB model: made once, the same digest everywhere, owned as the store, answering with their words."""
    tiny = lab.model("tiny", megabytes=0.5)
    big = lab.model("big", megabytes=200, say="Two hundred megabytes later.")
    async with lab.connected() as to:
        plan = await to.plan(tiny, big)
        outcome = await to.sync(plan)
        again = await to.plan(tiny, big)
        said = await to.says(tiny), await to.says(big)
        listed = [await to.listed(name) for name in USERS]

    assert outcome == dict.fromkeys(USERS)
    assert sorted(step.describe().split()[0] for step in plan.steps) == ["copy"] * 4 + ["create"] * 2
    assert (again.steps, again.problems) == ((), ())
    assert said == (dict.fromkeys(USERS, SENTENCE), dict.fromkeys(USERS, "Two hundred megabytes later."))
    for name in ("lab/tiny:v1", "lab/big:v1"):
        assert len({tags[name] for tags in listed}) == 1
    store = STORES["gpu71"].path
    foreign = f"find {store} -path '*/.olladist' -prune -o ! -user ollama -print -o ! -group ollama -print"
    modes = f"find {store} -path '*/.olladist' -prune -o -type f ! -perm 644 -print -o -type d ! -perm 755 -print"
    assert lab.hosts.ssh("root", "gpu71", foreign) == ""
    assert lab.hosts.ssh("root", "gpu71", modes) == ""
    assert lab.hosts.ssh("root", "gpu72", "find /home/plain/.ollama ! -user plain") == ""


async def test_a_model_goes_from_host_to_host_with_a_sudo_password(lab: Lab) -> None:
    """From a store that only root reads into one that only root writes, as a user who types a password for it."""
    model = lab.model("moved", megabytes=5, say="Relays work.")
    async with lab.connected("gpu72") as to:
        assert await to.sync(await to.plan(replace(model, on=("gpu72",)))) == {"gpu72": None}
    lab.hosts.ssh("root", "gpu72", "chmod 700 /home/plain/.ollama")
    from_host = replace(model, source="host:gpu72")

    async with lab.connected("gpu71", "gpu72", gpu71="pat") as to:
        plan = await to.plan(from_host)
        assert "from gpu72" in plan.steps[0].describe()
        assert await to.sync(plan) == {"gpu71": None}
        assert await to.says(model) == {"gpu71": "Relays work.", "gpu72": "Relays work."}
        assert (await to.plan(from_host)).empty


async def test_a_host_that_dies_in_the_middle_goes_on_where_it_was(lab: Lab) -> None:
    """Its Ollama prunes at its start and does not see the part; the second sync sends only the rest; the others were done."""
    model = lab.model("killed", megabytes=60, say="Resumed after a crash.")
    lab.hosts.limit("gpu72", "80mbit")
    async with lab.connected() as to:
        far = asyncio.Event()

        def on_progress(host: str, name: str, done: int, total: int) -> None:
            if host == "gpu72" and done > 10_000_000:
                far.set()

        running = asyncio.create_task(to.sync(await to.plan(model), on_progress))
        await asyncio.wait_for(far.wait(), 60)
        lab.hosts.kill("gpu72")
        outcome = await running
    assert isinstance(outcome["gpu72"], ConnectionLost | Unreachable)
    assert (outcome["gpu71"], outcome["box73"]) == (None, None)

    lab.hosts.boot("gpu72")
    lab.hosts.limit("gpu72", "none")
    wait_until(lambda: _answers(lab.hosts, "gpu72"), "gpu72 is back")
    lab.serve("gpu72")
    async with lab.connected() as to:
        assert "lab/killed:v1" not in await to.listed("gpu72")
        plan = await to.plan(model)
        [step] = plan.steps
        assert step.host == "gpu72"
        assert max(transfer.staged for transfer in step.transfers) > 5_000_000
        assert await to.sync(plan) == {"gpu72": None}
        assert set((await to.says(model)).values()) == {"Resumed after a crash."}
        assert (await to.plan(model)).empty


def _answers(hosts: Hosts, name: str) -> bool:
    try:
        return hosts.ssh("root", name, "echo up") == "up\n"
    except AssertionError:
        return False


async def test_a_full_disk_is_told_before_and_on_the_way(lab: Lab) -> None:
    """The plan leaves the host out with both sizes; a disk that fills up meanwhile loses the part, not its Ollama."""
    model = replace(lab.model("full", megabytes=60), on=("gpu71", "box73"))
    fill = "fallocate -l $(( ($(df -Pk / | awk 'END { print $4 }') - 5000) * 1024 )) /filler"  # root may use 5 % more than df says
    async with lab.connected("gpu71", "box73") as to:
        plan = await to.plan(model)
        lab.hosts.ssh("root", "box73", fill)
        try:
            outcome = await to.sync(plan)
            staged = lab.hosts.ssh("root", "box73", f"ls {STORES['box73'].path}/.olladist")
            refused = await to.plan(model)
        finally:
            lab.hosts.ssh("root", "box73", "rm /filler")
        assert isinstance(outcome["box73"], StoreError)
        assert "the disk is full" in str(outcome["box73"]) or "did not make it" in str(outcome["gpu71"])
        assert "sha256-" not in staged
        [problem] = refused.problems
        assert "box73: not enough space: 64 MB needed and 34 MB to spare, 5" in problem.message
        await to.sync(await to.plan(model))
        assert (await to.plan(model)).empty
        assert set((await to.says(model)).values()) == {SENTENCE}


async def test_two_syncs_at_once_do_not_disturb_each_other(lab: Lab) -> None:
    """One works, the other says who is at work; what they leave is whole."""
    model = lab.model("twice", megabytes=20, say="Only one at a time.")
    async with lab.connected() as one, lab.connected() as other:
        plan = await one.plan(model)
        outcomes = await asyncio.gather(one.sync(plan), other.sync(plan))
        told = [str(error) for outcome in outcomes for error in outcome.values() if error]
        assert told
        assert [text for text in told if "another sync is at work" not in text and "did not make it" not in text] == []
        await one.sync(await one.plan(model))
        assert (await one.plan(model)).empty
        assert set((await one.says(model)).values()) == {"Only one at a time."}
