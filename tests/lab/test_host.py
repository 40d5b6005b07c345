"""The host room on real machines: every way to become root and none, systemd and none, a real Ollama, real failures.

gpu61 and gpu62 run systemd, box63 only sshd.
"""

import asyncio
import dataclasses
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from olladist.errors import ConnectionLost, HostError, SudoRefused
from olladist.host.apply import apply
from olladist.host.artifacts import Artifacts
from olladist.host.desired import Desired, desired
from olladist.host.facts import gather
from olladist.host.found import Facts
from olladist.host.plan import Plan, plan_down, plan_uninstall, plan_up
from olladist.host.service.choose import logs_command, states
from olladist.host.tarball import BadTarball
from olladist.inventory.model import Gateway, Host, HostKeys, Inventory, Service, Transport
from olladist.ssh.connections import Connections
from olladist.ssh.prompts import NO_PROMPTS, Prompts
from olladist.ssh.runner import Runner
from tests.lab.machines import KEY, OLLAMA, RELEASE, Hosts, address
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

OFFICIAL_UNIT = """[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Restart=always
RestartSec=3
Environment="PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

[Install]
WantedBy=default.target
"""


# A value that systemd, a shell or a careless writer of files would each change in another way.
WORDS = "100% \"quoted\" 'x' $HOME `date` \\n \\ %h ünï\n[Service]\nUser=root\ttab "


async def _lab_password(host: str, what: str) -> str:
    return "lab"


@dataclasses.dataclass
class Operator:
    """Someone with the lab's key, an empty home, and one host in the inventory."""

    name: str
    user: str
    settings: dict[str, Any]
    transport: Transport = Transport.TUNNEL
    prompts: Prompts = dataclasses.field(default_factory=lambda: Prompts(secret=_lab_password))

    @property
    def host(self) -> Host:
        settings = {"ollama": str(RELEASE), **self.settings}
        return Host(
            self.name, address(self.name), user=self.user, identity=KEY, host_keys=HostKeys.ACCEPT_NEW, **settings
        )  # fmt: skip

    @property
    def inventory(self) -> Inventory:
        checksums = self.settings.get("checksums", {})
        return Inventory(
            Path("/nowhere/i.toml"), "lab", {self.name: self.host}, {}, gateway=Gateway(transport=self.transport), checksums=checksums
        )  # fmt: skip

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Runner]:
        async with Connections(prompts=self.prompts, accept_new=True) as connections:
            yield await connections.runner(self.host)

    async def look(self, runner: Runner) -> tuple[Facts, Desired]:
        facts = await gather(runner, self.host)
        release = await Artifacts(self.inventory).release(self.host, facts)
        return facts, desired(self.host, facts, self.inventory, release)

    async def plan(self) -> Plan:
        async with self.connected() as runner:
            return plan_up(*await self.look(runner))

    async def up(self) -> Plan:
        async with self.connected() as runner:
            plan = plan_up(*await self.look(runner))
            await Artifacts(self.inventory).fetch(plan.tarballs)
            await apply(runner, plan)
            return plan

    async def uninstall(self, *, purge_models: bool = False) -> Plan:
        async with self.connected() as runner:
            plan = plan_uninstall(*await self.look(runner), purge_models=purge_models)
            await apply(runner, plan)
            return plan


@pytest.fixture(autouse=True)
def operators_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own configuration or known hosts."""
    home = tmp_path / "operator"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def gpu61(hosts: Hosts) -> Hosts:
    hosts.up("gpu61")
    return hosts


@pytest.fixture
def box63(hosts: Hosts) -> Hosts:
    hosts.up("box63")
    return hosts


def version(hosts: Hosts, name: str, port: int = 11434) -> str:
    answer = json.loads(hosts.ssh("root", name, f"curl -fsS http://127.0.0.1:{port}/api/version"))
    return str(answer["version"])


def environment(hosts: Hosts, name: str) -> list[str]:
    """What the one running Ollama was started with."""
    return hosts.ssh("root", name, "tr '\\0' '\\1' </proc/$(pgrep -xo ollama)/environ").split("\1")


def put(name: str, source: Path, target: str) -> None:
    options = ["-q", "-i", str(KEY), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    subprocess.run(["scp", *options, source, f"root@{address(name)}:{target}"], check=True, timeout=60)


def boot(hosts: Hosts, name: str) -> None:
    """Pulls the plug and starts it again, with its disk as it was."""
    hosts.kill(name)
    hosts.boot(name)


# ---- each kind of host ----


@pytest.mark.parametrize("user", ["root", "ops", "pat"])
async def test_whoever_becomes_root_sets_up_the_system_service(gpu61: Hosts, user: str) -> None:
    """By login, by sudo, by sudo with a password: the same service, and a second `up` that finds nothing to do."""
    operator = Operator("gpu61", user, {})
    await operator.up()

    assert (await operator.plan()) == Plan("gpu61")

    assert version(gpu61, "gpu61") == "0.17.4"
    assert gpu61.ssh("root", "gpu61", "ps -o user= -C ollama").split() == ["ollama"]
    assert "127.0.0.1:11434" in gpu61.ssh("root", "gpu61", "ss -Hltn")
    assert gpu61.ssh("plain", "gpu61", "ollama --version").split()[-1] == "0.17.4"
    assert "lab" not in gpu61.ssh("root", "gpu61", "journalctl --no-pager _COMM=sudo -o cat").split()


async def test_the_system_service_comes_back_after_a_power_cut(gpu61: Hosts) -> None:
    """Nobody has to run `up` for that."""
    operator = Operator("gpu61", "root", {})
    await operator.up()

    boot(gpu61, "gpu61")

    wait_until(lambda: "active" in gpu61.ssh("root", "gpu61", "systemctl is-active ollama || true"), "ollama is active")
    assert (await operator.plan()).steps == ()


async def test_a_sudo_password_that_nobody_gives_changes_nothing(gpu61: Hosts) -> None:
    """Asked for by name the service is refused with a way out; otherwise pat is a user without root."""
    with pytest.raises(SudoRefused):
        await Operator("gpu61", "pat", {"service": Service.SYSTEM}, prompts=NO_PROMPTS).plan()
    assert (await Operator("gpu61", "pat", {}, prompts=NO_PROMPTS).plan()).steps[-1].describe().endswith(" answers")
    assert gpu61.ssh("root", "gpu61", "ls /opt /home/pat/.local 2>/dev/null || true").split() == ["/opt:"]


async def test_a_user_who_lingers_gets_a_user_service_that_outlives_login_and_reboot(gpu61: Hosts) -> None:
    """Without root: systemd --user, found also by shells that no login made."""
    gpu61.ssh("root", "gpu61", "loginctl enable-linger plain")
    operator = Operator("gpu61", "plain", {})
    await operator.up()

    assert (await operator.plan()) == Plan("gpu61")
    assert gpu61.ssh("root", "gpu61", "ps -o user= -C ollama").split() == ["plain"]
    boot(gpu61, "gpu61")
    wait_until(lambda: "ollama" in gpu61.ssh("root", "gpu61", "ps -o comm= -C ollama || true"), "ollama runs again")
    async with operator.connected() as runner:
        facts, wanted = await operator.look(runner)
        script, root = logs_command(facts, wanted, lines=50)
        assert "Listening on 127.0.0.1:11434" in await runner.check(script, root=root)
        assert states(facts, wanted)[11434].active


async def test_a_user_who_may_not_linger_is_told_so(gpu61: Hosts) -> None:
    """Without polkit nobody may: auto takes the detached server, which stays; a user service asked for by name carries a note."""
    asked = Operator("gpu61", "plain", {"service": Service.USER})
    assert any("ends when plain logs out" in note for note in (await asked.plan()).notes)

    await Operator("gpu61", "plain", {}).up()
    wait_until(
        lambda: "plain" not in gpu61.ssh("root", "gpu61", "ps -o user= -C sshd-session || true"), "plain is logged out"
    )
    assert version(gpu61, "gpu61") == "0.17.4"


@pytest.mark.parametrize("user", ["root", "plain"])
async def test_without_systemd_a_supervisor_of_ours_keeps_the_server(box63: Hosts, user: str) -> None:
    """Crashes are mended by it, reboots by the next `up`."""
    operator = Operator("box63", user, {})
    await operator.up()
    assert (await operator.plan()) == Plan("box63")
    before = box63.ssh("root", "box63", "pgrep -x ollama").split()

    box63.ssh("root", "box63", "kill -KILL $(pgrep -x ollama)")
    wait_until(
        lambda: box63.ssh("root", "box63", "pgrep -x ollama || true").split() not in ([], before), "it runs again"
    )

    boot(box63, "box63")
    plan = await operator.up()
    assert [step.describe() for step in plan.steps] == [
        "start the Ollama on port 11434",
        "wait until the Ollama on port 11434 answers",
    ]
    assert version(box63, "box63") == "0.17.4"
    await operator.uninstall()
    assert box63.ssh("root", "box63", "pgrep -f '[o]llama|[s]upervise' || true").split() == []


# ---- an Ollama that is there already ----


def official(hosts: Hosts, name: str, program: Path | str) -> None:
    """What Ollama's install.sh does (notes of its steps: user, folders, unit), with a real or a pretended binary."""
    if isinstance(program, Path):
        put(name, program, "/usr/local/bin/ollama")
    else:
        hosts.ssh("root", name, f"cat >/usr/local/bin/ollama <<'X'\n{program}X")
    hosts.ssh("root", name, "mkdir -p /usr/local/lib/ollama; chmod 755 /usr/local/bin/ollama")
    hosts.ssh("root", name, "useradd -r -s /bin/false -U -m -d /usr/share/ollama ollama; usermod -aG video ollama")
    hosts.ssh("root", name, f"cat >/etc/systemd/system/ollama.service <<'X'\n{OFFICIAL_UNIT}X")
    hosts.ssh("root", name, "systemctl daemon-reload; systemctl enable ollama; systemctl restart ollama")


async def test_the_official_installers_ollama_is_adopted_and_given_back(gpu61: Hosts) -> None:
    """Only a drop-in is added; the installer may run again; uninstall leaves it as it was."""
    official(gpu61, "gpu61", OLLAMA)
    unit = gpu61.ssh("root", "gpu61", "sha256sum /etc/systemd/system/ollama.service /usr/local/bin/ollama")
    operator = Operator("gpu61", "ops", {"ollama": "0.17.4", "env": {"OLLAMA_KEEP_ALIVE": "7m"}})

    plan = await operator.up()

    assert [step.describe() for step in plan.steps] == [
        "write /etc/systemd/system/ollama.service.d/50-olladist.conf",
        "tell systemd of the changed files",
        "restart ollama.service",
        "wait until ollama.service on port 11434 answers",
    ]
    assert "adopted" in plan.notes[0]
    assert (await operator.plan()).steps == ()
    gpu61.ssh(
        "root",
        "gpu61",
        f"cat >/etc/systemd/system/ollama.service <<'X'\n{OFFICIAL_UNIT}X\nsystemctl daemon-reload; systemctl restart ollama",
    )
    assert (await operator.plan()).steps == ()
    assert "OLLAMA_KEEP_ALIVE=7m" in gpu61.ssh("root", "gpu61", "tr '\\0' '\\n' </proc/$(pgrep -x ollama)/environ")
    assert gpu61.ssh("root", "gpu61", "ls /opt") == ""

    await operator.uninstall(purge_models=False)

    assert gpu61.ssh("root", "gpu61", "sha256sum /etc/systemd/system/ollama.service /usr/local/bin/ollama") == unit
    assert gpu61.ssh("root", "gpu61", "ls -d /etc/systemd/system/ollama.service.d 2>/dev/null || true") == ""
    wait_until(lambda: version(gpu61, "gpu61") == "0.17.4", "it serves again")
    assert "KEEP_ALIVE" not in gpu61.ssh("root", "gpu61", "tr '\\0' '\\n' </proc/$(pgrep -x ollama)/environ")


async def test_an_ollama_of_another_version_is_left_where_it_is_and_ours_is_run(gpu61: Hosts) -> None:
    """Beside it, by a drop-in; its override.conf, read after ours, does not win; uninstall brings it back."""
    old = "#!/bin/sh\n[ \"$1\" != --version ] || { echo 'ollama version is 0.3.1'; exit; }\nexec sleep 1000\n"
    official(gpu61, "gpu61", old)
    gpu61.ssh(
        "root", "gpu61",
        "mkdir -p /etc/systemd/system/ollama.service.d /srv/models; chown ollama: /srv/models;"
        "printf '[Service]\\nEnvironment=OLLAMA_HOST=0.0.0.0 OLLAMA_MODELS=/srv/models\\n'"
        ">/etc/systemd/system/ollama.service.d/override.conf; systemctl daemon-reload; systemctl restart ollama",
    )  # fmt: skip
    operator = Operator("gpu61", "root", {"env": {"OLLAMA_WORDS": WORDS}})

    await operator.up()

    assert version(gpu61, "gpu61") == "0.17.4"
    assert (await operator.plan()).steps == ()
    assert f"OLLAMA_WORDS={WORDS}" in environment(gpu61, "gpu61")
    environ = gpu61.ssh("root", "gpu61", "tr '\\0' '\\n' </proc/$(pgrep -x ollama)/environ")
    assert "OLLAMA_HOST=127.0.0.1:11434\n" in environ
    assert "OLLAMA_MODELS=/srv/models\n" in environ

    await operator.uninstall()
    assert gpu61.ssh("root", "gpu61", "systemctl show ollama -p ExecStart").count("/usr/local/bin/ollama") > 0
    assert gpu61.ssh("root", "gpu61", "systemctl is-active ollama").strip() == "active"


# ---- settings ----


async def test_any_value_of_a_setting_reaches_the_server_as_it_is(gpu61: Hosts) -> None:
    """Through systemd's quoting: percent signs, quotes, dollars, backslashes, and no line of its own."""
    await Operator("gpu61", "root", {"env": {"OLLAMA_WORDS": WORDS}}).up()

    assert f"OLLAMA_WORDS={WORDS}" in environment(gpu61, "gpu61")
    assert gpu61.ssh("root", "gpu61", "ps -o user= -C ollama").split() == ["ollama"]


async def test_direct_transport_opens_the_port_to_the_network(gpu61: Hosts) -> None:
    """And tunnel closes it again."""
    await Operator("gpu61", "root", {}, transport=Transport.DIRECT).up()
    url = f"http://{address('gpu61')}:11434/api/version"
    async with httpx.AsyncClient(timeout=5) as web:
        assert (await web.get(url)).json() == {"version": "0.17.4"}

    plan = await Operator("gpu61", "root", {}).up()

    assert [step.describe().split(" ")[0] for step in plan.steps] == ["write", "tell", "restart", "wait"]
    async with httpx.AsyncClient(timeout=5) as web:
        with pytest.raises(httpx.ConnectError):
            await web.get(url)


async def test_uninstall_leaves_models_unless_told_otherwise(gpu61: Hosts) -> None:
    """Without the flag the store stays, with it nothing of us does."""
    operator = Operator("gpu61", "ops", {})
    before = gpu61.ssh("root", "gpu61", "getent passwd; ls /opt /usr/local/bin /etc/systemd/system /usr/share")
    await operator.up()
    async with operator.connected() as runner:
        await apply(runner, plan_down(*await operator.look(runner)))
        assert plan_down(*await operator.look(runner)).steps == ()

    await operator.uninstall()
    assert "models" in gpu61.ssh("root", "gpu61", "ls /usr/share/ollama/.ollama")
    await operator.up()
    await operator.uninstall(purge_models=True)

    assert gpu61.ssh("root", "gpu61", "getent passwd; ls /opt /usr/local/bin /etc/systemd/system /usr/share") == before


# ---- what goes wrong ----


async def test_a_taken_port_is_named_with_its_holder_and_nothing_is_done(gpu61: Hosts) -> None:
    """An Ollama that somebody started by hand."""
    put("gpu61", OLLAMA, "/home/plain/ollama")
    gpu61.ssh("plain", "gpu61", "setsid ./ollama serve </dev/null >/dev/null 2>&1 &")
    wait_until(lambda: "11434" in gpu61.ssh("root", "gpu61", "ss -Hltn"), "it listens")

    with pytest.raises(HostError, match=r"port 11434 is taken by pid \d+ of user plain: ./ollama serve") as caught:
        await Operator("gpu61", "ops", {}).up()

    assert caught.value.hint.startswith("kill ")
    assert gpu61.ssh("root", "gpu61", "ls /opt") == ""


async def test_a_damaged_tarball_or_a_wrong_checksum_is_refused_before_the_host(gpu61: Hosts, tmp_path: Path) -> None:
    """Nothing arrives there."""
    cut = tmp_path / "ollama-linux-amd64.tar.zst"
    cut.write_bytes(RELEASE.read_bytes()[:-1000])
    with pytest.raises(BadTarball, match="cut short"):
        await Operator("gpu61", "ops", {"ollama": str(cut)}).up()

    operator = Operator("gpu61", "ops", {})
    inventory = dataclasses.replace(operator.inventory, checksums={RELEASE.name: "00" * 32})
    async with operator.connected() as runner:
        with pytest.raises(BadTarball, match="as it must"):
            await Artifacts(inventory).release(operator.host, await gather(runner, operator.host))
    assert gpu61.ssh("root", "gpu61", "ls /opt") == ""


async def test_a_disk_that_is_too_small_is_seen_and_one_that_fills_up_is_survived(hosts: Hosts) -> None:
    """Before: a problem with both figures. In the middle: a hint, nothing half installed, and a second run that repairs."""
    hosts.small("gpu62", "300m")
    operator = Operator("gpu62", "root", {})
    free = int(hosts.ssh("root", "gpu62", "df -Pk / | awk 'NR > 1 { print $4 }'"))

    hosts.ssh("root", "gpu62", f"dd if=/dev/zero of=/filler bs=1k count={free - 60_000} 2>/dev/null")
    (problem,) = (await operator.plan()).problems
    assert "/opt/olladist needs" in problem.text

    hosts.ssh("root", "gpu62", "rm /filler")
    async with operator.connected() as runner:
        plan = plan_up(*await operator.look(runner))
        hosts.ssh("root", "gpu62", f"dd if=/dev/zero of=/filler bs=1k count={free - 25_000} 2>/dev/null")
        with pytest.raises(HostError, match="gpu62: ") as caught:
            await apply(runner, plan)
    assert "free some space" in caught.value.hint
    assert hosts.ssh("root", "gpu62", "ls /opt/olladist/current 2>/dev/null || true") == ""

    hosts.ssh("root", "gpu62", "rm /filler")
    await operator.up()
    assert version(hosts, "gpu62") == "0.17.4"


async def test_a_setting_that_ollama_cannot_start_with_is_shown_and_mended(gpu61: Hosts) -> None:
    """Given up when it has ended, with the line that says why; correcting the inventory is enough."""
    with pytest.raises(HostError, match="panic: bad origin") as caught:
        await Operator("gpu61", "ops", {"env": {"OLLAMA_ORIGINS": "bad origin"}}).up()

    assert "has ended" in str(caught.value)
    assert "correct `env`" in caught.value.hint

    await Operator("gpu61", "ops", {}).up()
    assert version(gpu61, "gpu61") == "0.17.4"


async def test_an_interrupted_copy_goes_on_where_it_was(gpu61: Hosts) -> None:
    """Ctrl-C in the middle: the next `up` sends only the rest."""
    operator = Operator("gpu61", "ops", {})
    gpu61.limit("gpu61", "40mbit")
    async with operator.connected() as runner:
        plan = plan_up(*await operator.look(runner))
        half = asyncio.Event()

        def progress(what: str, done: int, total: int) -> None:
            if done > total * 0.3:
                half.set()

        work = asyncio.create_task(apply(runner, plan, progress=progress))
        await half.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    gpu61.limit("gpu61", "none")
    seen: list[int] = []
    async with operator.connected() as runner:
        again = plan_up(*await operator.look(runner))
        await apply(runner, again, progress=lambda what, done, total: seen.append(done))

    assert seen[0] > RELEASE.stat().st_size * 0.2
    assert version(gpu61, "gpu61") == "0.17.4"


async def test_a_host_that_dies_in_the_middle_of_a_step_is_repaired_by_the_next_up(gpu61: Hosts) -> None:
    """The connection is lost, which names the host and the step; after a boot `up` finishes."""
    operator = Operator("gpu61", "ops", {})
    gpu61.limit("gpu61", "20mbit")
    async with operator.connected() as runner:
        plan = plan_up(*await operator.look(runner))
        killing: list[asyncio.Future[None]] = []

        def progress(what: str, done: int, total: int) -> None:
            if done > total * 0.3 and not killing:
                killing.append(asyncio.ensure_future(asyncio.to_thread(gpu61.kill, "gpu61")))

        with pytest.raises(ConnectionLost, match="gpu61: "):
            await apply(runner, plan, progress=progress)
    await killing[0]
    gpu61.boot("gpu61")

    await operator.up()

    assert (await operator.plan()).steps == ()
    assert version(gpu61, "gpu61") == "0.17.4"
