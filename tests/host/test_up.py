"""A whole `up` on this machine: real files, a real supervisor, a real port; only the program inside is not Ollama."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from olladist.errors import CommandFailed, HostError
from olladist.host.api import OllamaAPI
from olladist.host.apply import apply
from olladist.host.artifacts import Artifacts
from olladist.host.plan import plan_down, plan_restart, plan_uninstall
from olladist.host.service.choose import logs_command, states
from olladist.host.tarball import Form
from olladist.inventory.model import Instance
from olladist.ssh.runner import Endpoint
from tests.host.fake import release
from tests.host.local import Here, end_all


async def version_at(port: int) -> str:
    async with OllamaAPI(Endpoint(port=port), "here") as api:
        return await api.version()


async def test_up_installs_and_starts_and_a_second_up_plans_nothing(home: Path, port: int, tmp_path: Path) -> None:
    """Afterwards the server answers, and the plan is empty."""
    here = Here(port, str(release(tmp_path / "ollama-linux-amd64.tar.zst")))

    assert (await here.up()).steps
    assert await version_at(port) == "0.0.7"
    assert (await here.plan()).steps == ()
    assert (home / ".local/bin/ollama").resolve().is_relative_to(home / ".local/share/olladist/releases")
    assert not (home / ".local/share/olladist/stage").exists()


@pytest.mark.timeout(240)  # ten times a whole `up`
async def test_an_up_that_is_cut_off_after_any_step_is_finished_by_the_next(
    home: Path, port: int, tmp_path: Path
) -> None:
    """Plan, do the first k steps, plan again and do it: whatever k is, then there is nothing left to do."""
    here = Here(port, str(release(tmp_path / "ollama-linux-amd64.tar.zst")))
    whole = await here.plan()
    await Artifacts(here.inventory).fetch(whole.tarballs)

    for cut in range(len(whole.steps)):
        for step in whole.steps[:cut]:
            await step.execute(here.runner)
        await here.up()

        assert (await here.plan()).steps == (), f"after {cut} steps"
        assert await version_at(port) == "0.0.7"

        end_all(home)
        shutil.rmtree(home / ".local")


async def test_a_half_copied_tarball_is_copied_to_its_end(home: Path, port: int, tmp_path: Path) -> None:
    """Only what is missing crosses again; a part that is not of this tarball is dropped."""
    here = Here(port, str(release(tmp_path / "a.tar.zst", filler=os.urandom(300_000))))
    plan = await here.plan()
    await Artifacts(here.inventory).fetch(plan.tarballs)
    staged = Path(plan.steps[0].commands()[-1].split(" ")[-1])
    staged.parent.mkdir(parents=True)
    seen: list[int] = []

    staged.write_bytes((tmp_path / "a.tar.zst").read_bytes()[:200_000])
    await plan.steps[0].execute(here.runner, lambda what, done, total: seen.append(done))
    assert seen[0] == 200_000
    assert staged.read_bytes() == (tmp_path / "a.tar.zst").read_bytes()

    for wrong in (b"x" * 1000, b"y" * 900_000):
        staged.write_bytes(wrong)
        await plan.steps[0].execute(here.runner)
        assert staged.read_bytes() == (tmp_path / "a.tar.zst").read_bytes()


async def test_settings_that_change_restart_the_server_and_nothing_else(home: Path, port: int, tmp_path: Path) -> None:
    """One file is written, one server restarted, and what runs has the new setting."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    before, _ = await here.look()
    here.settings["env"] = {"OLLAMA_KEEP_ALIVE": "it's $HOME; `date`"}

    plan = await here.up()

    assert [step.describe().split(" ")[0] for step in plan.steps] == ["write", "restart", "wait"]
    facts, _ = await here.look()
    (found,) = facts.detached
    assert facts.processes[found.server or 0].environ is not None
    assert (facts.processes[found.server or 0].environ or {})["OLLAMA_KEEP_ALIVE"] == "it's $HOME; `date`"
    assert found.server != before.detached[0].server


async def test_another_release_is_swapped_in_beside_the_old_one(home: Path, port: int, tmp_path: Path) -> None:
    """The old one stays for a rollback; the link to `current` leads to the new one, which is what runs."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    here.ollama = str(release(tmp_path / "b-0.0.8.tar.zst", version="0.0.8"))

    await here.up()

    assert await version_at(port) == "0.0.8"
    releases = home / ".local/share/olladist/releases"
    assert len(list(releases.iterdir())) == 2
    assert (home / ".local/share/olladist/current").resolve().name.startswith("0.0.8-")


async def test_a_crash_is_mended_by_the_supervisor_and_a_dead_supervisor_by_up(
    home: Path, port: int, tmp_path: Path
) -> None:
    """Killing the supervisor leaves its server on the port: `up` ends that and starts both anew."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    facts, _ = await here.look()
    (found,) = facts.detached
    os.kill(found.pid or 0, signal.SIGKILL)

    assert states(*await here.look())[port].active is False
    await here.up()

    after, _ = await here.look()
    assert after.detached[0].server not in {None, found.server}
    assert await version_at(port) == "0.0.7"
    assert (await here.plan()).steps == ()


async def test_a_server_whose_files_were_removed_under_it_is_ended_and_replaced(
    home: Path, port: int, tmp_path: Path
) -> None:
    """It still holds the port and says by its environment whose it was."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    shutil.rmtree(home / ".local")

    plan = await here.up()

    assert any("an Ollama that olladist once started" in step.describe() for step in plan.steps)
    assert (await here.plan()).steps == ()
    assert await version_at(port) == "0.0.7"


async def test_a_server_that_cannot_start_fails_early_with_its_last_words(
    home: Path, port: int, tmp_path: Path
) -> None:
    """The error holds the end of the log and a hint; once the setting is mended, `up` mends the host."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    here.settings["env"] = {"FAKE_FAIL": "listen tcp: bind: address already in use"}

    with pytest.raises(HostError, match="it has ended") as caught:
        await here.up()

    assert "Error: listen tcp: bind: address already in use" in str(caught.value)
    assert "ss -ltnp" in caught.value.hint

    here.settings.clear()
    await here.up()
    assert await version_at(port) == "0.0.7"


async def test_a_program_that_cannot_run_here_never_becomes_current(home: Path, port: int, tmp_path: Path) -> None:
    """It is tried before it is swapped in; nothing of it stays, and the next `up` takes a better one."""
    here = Here(port, str(release(tmp_path / "a.tar.gz", form=Form.GZIP, python="/no/such/interpreter")))

    with pytest.raises(CommandFailed) as caught:
        await here.up()

    prefix = home / ".local/share/olladist"
    assert caught.value.hint
    assert list((prefix / "releases").iterdir()) == []
    assert not (prefix / "current").is_symlink()

    here.ollama = str(release(tmp_path / "b.tar.gz", form=Form.GZIP))
    await here.up()
    assert await version_at(port) == "0.0.7"
    assert not (prefix / "stage").exists()


async def test_down_restart_and_uninstall_do_what_they_say(home: Path, port: int, tmp_path: Path) -> None:
    """`down` stops, `up` starts again, `restart` gives a new process, `uninstall` leaves only the models."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    await apply(here.runner, plan_down(*await here.look()))
    with pytest.raises(HostError):
        await version_at(port)
    assert plan_down(*await here.look()).steps == ()

    await here.up()
    first, wanted = await here.look()
    await apply(here.runner, plan_restart(first, wanted))
    second, _ = await here.look()
    assert first.detached[0].server != second.detached[0].server

    (home / ".ollama/models/manifests").mkdir(parents=True)
    await apply(here.runner, plan_uninstall(*await here.look()))

    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_dir() and not any(path.iterdir())) == [
        ".local/bin", ".local/share", ".ollama/models/manifests",
    ]  # fmt: skip
    assert plan_uninstall(*await here.look()).steps == ()


async def test_two_homes_on_one_machine_are_two_hosts(
    home: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sees the other's servers as its own: no `up` or `down` of one touches the other."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")))
    await here.up()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("HOME", str(other))
    there = Here(port + 1, here.ollama)
    assert "is taken by pid" in (await Here(port, here.ollama).plan()).problems[0].text

    assert plan_down(*await there.look()).steps == ()
    assert plan_uninstall(*await there.look()).steps == ()
    assert not any("once started" in step.describe() for step in (await there.plan()).steps)
    assert await version_at(port) == "0.0.7"


async def test_logs_of_all_servers_of_a_host_are_printed(home: Path, port: int, tmp_path: Path) -> None:
    """One command for the host; the text is what the servers wrote."""
    here = Here(port, str(release(tmp_path / "a.tar.zst")), {"instances": (Instance(port), Instance(port + 1))})
    await here.up()

    script, root = logs_command(*await here.look(), lines=50)

    text = await here.runner.check(script, root=root)
    assert f"Listening on 127.0.0.1:{port}\n" in text
    assert f"Listening on 127.0.0.1:{port + 1}\n" in text
