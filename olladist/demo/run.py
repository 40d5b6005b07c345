"""`olladist demo`: a whole fleet on this machine, driven by the commands as a user would, and every claim checked.

Nothing outside one temporary folder is written, nothing needs root, and whatever happens, everything that was started is ended.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from olladist.demo.clients import CLIENTS, Tally, load, streamed_chat
from olladist.demo.shell import Ran, Shell
from olladist.demo.stage import HOSTS, SENTENCES, SLOTS, Stage, set_up
from olladist.demo.summary import Check, all_held, table
from olladist.errors import OlladistError, UsageError

_BACK_SECONDS = 20.0


def run(*, simulated: bool = False, keep: bool = False) -> int:
    """Plays it all; 0 only if everything held. The folder stays where something did not hold, or with `keep`."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="olladist-demo-"))
    checks: list[Check] = []
    # A closed terminal and a plain kill end it as Ctrl-C does: in order.
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        told = _play(folder, checks, simulated=simulated)
        _say("\n" + table(checks, seconds=time.monotonic() - begun, played_with=told))
    except (UsageError, KeyboardInterrupt):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if all_held(checks) and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"Everything the demo has written is in {folder}")
    return 0 if all_held(checks) else 1


def _play(folder: Path, checks: list[Check], *, simulated: bool) -> str:
    """Fills `checks` as far as it gets; says what it was played with."""
    told = "nothing"
    try:
        with set_up(folder, simulated=simulated) as stage:
            told = stage.source.told
            _Story(stage, checks).play()
    except UsageError:
        raise
    except OlladistError as error:
        _say(f"\nThe demo cannot go on: {error.message}" + (f"\n    hint: {error.hint}" if error.hint else ""))
        checks.append(Check("the demo comes to its end", held=False))
    return told


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Story:
    """The acts, in their order; each leaves its checks behind."""

    def __init__(self, stage: Stage, checks: list[Check]) -> None:
        self.stage = stage
        self.checks = checks
        self.shell = Shell(stage, _say)

    def check(self, claim: str, held: bool, figures: str = "") -> None:
        self.checks.append(Check(claim, held, figures))

    def play(self) -> None:
        _say(f"Three throw-away hosts on this machine, with {self.stage.source.told}.")
        _say("Their inventory:\n")
        _say("\n".join("    " + line for line in self.stage.shortened(self.stage.inventory).splitlines()))
        self.bring_up()
        with self.shell.gateway():
            self.chat()
            victim = self.survive()
            self.repair(victim)
            self.examine()

    def bring_up(self) -> None:
        plan = self.shell.olladist("plan", "--accept-new")
        up = self.shell.olladist("up", "--yes", "--accept-new", "--no-models")
        sync = self.shell.olladist("models", "sync", "--yes")
        self.check("`plan` shows what `up` will do", plan.status == 0, _took(plan))
        self.check("`up` installs and starts Ollama on 3 hosts", up.status == 0, _took(up))
        self.check("`models sync` brings 2 models to where they belong", sync.status == 0, _took(sync))
        if up.status or sync.status:
            hint = "" if self.stage.source.simulated else "olladist demo --simulated does without the real Ollama"
            raise OlladistError("there is no fleet to go on with", hint=hint)
        again = [self.shell.olladist("up", "--yes", "--no-models"), self.shell.olladist("models", "sync", "--yes")]
        nothing = all(ran.status == 0 and "nothing to do" in ran.output for ran in again)
        self.check("a second `up` and `models sync` change nothing", nothing, _took(*again))
        status = self.shell.olladist("status")
        self.check(
            "`status` shows them all", status.status == 0 and all(n in status.output for n in HOSTS), _took(status)
        )

    def chat(self) -> None:
        """A streamed chat through a client that knows nothing of us."""
        model, sentence = next(iter(SENTENCES.items()))
        _say(f"\nA chat with {model} at {self.stage.gateway}:")
        sys.stdout.write("    ")
        client, text = asyncio.run(streamed_chat(self.stage.gateway, model, _show_part))
        _say("")
        right = sum(said == meant for said, meant in zip(text.split(), sentence.split(), strict=False))
        held = text.strip() == sentence
        self.check(
            f"a streamed chat through {client}", held, f"{right} of {len(sentence.split())} words as they must be"
        )

    def survive(self) -> str:
        """Load from many clients, and a power cut in the middle of it; the name of the host that died."""
        _say(f"\n{CLIENTS} clients ask as fast as they are answered ({SLOTS} slots on each host) …")

        async def kill(name: str) -> None:
            _say(f"    … and the power of {name} is cut: all its processes are killed, its SSH port is gone")
            await asyncio.to_thread(self.stage.hosts.kill, name)

        tally = asyncio.run(load(self.stage.gateway, SENTENCES, kill))
        retried = _tried_again(self.stage.gateway)
        for problem in (tally.failed + tally.wrong)[:5]:
            _say(f"    failed: {problem}")
        counts = f"{_counts(tally)}, {retried} tried again on another host"
        _say(f"    {counts}; by host: {_by_host(tally)}")
        held = not tally.failed and not tally.wrong and tally.served_after > 0
        self.check(f"{tally.victim} dies under load, no request fails that had not begun", held, counts)
        status = self.shell.olladist("status")
        self.check(
            "`status` says which host is gone, by its exit status too", _names(status, tally.victim), _took(status)
        )
        return tally.victim

    def repair(self, victim: str) -> None:
        _say(f"\n{victim} is powered on again; its disk is as it was, its Ollama is not running.")
        self.stage.hosts.start(victim)
        up = self.shell.olladist("up", "--yes")
        self.check("`up` repairs it", up.status == 0 and victim in up.output, _took(up))
        seconds = _until_all_up(self.stage.gateway)
        self.check(
            "the gateway takes it back by itself", seconds is not None, "" if seconds is None else f"{seconds:.1f} s"
        )

    def examine(self) -> None:
        doctor = self.shell.olladist("doctor")
        passed = sum("PASSED" in line for line in doctor.output.splitlines())
        self.check(
            "`doctor` finds nothing wrong", doctor.status == 0 and passed >= 6, f"{passed} PASSED, {_took(doctor)}"
        )


def _show_part(part: str) -> None:
    sys.stdout.write(part)
    sys.stdout.flush()


def _took(*ran: Ran) -> str:
    return " + ".join(f"{each.seconds:.1f} s" for each in ran)


def _names(status: Ran, victim: str) -> bool:
    return status.status == 1 and victim in status.output


def _counts(tally: Tally) -> str:
    return f"{tally.served} served, {len(tally.failed)} failed, {tally.cut} cut while streaming"


def _by_host(tally: Tally) -> str:
    return ", ".join(f"{node} {count}" for node, count in sorted(tally.nodes.items()))


def _tried_again(url: str) -> int:
    """Tries that a backend did not serve and that went on to another one, as the gateway counts them."""
    requests = _get(f"{url}/api/distributed/status").get("requests", {})
    return sum(int(requests.get(outcome, 0)) for outcome in ("retryable", "connect", "died"))


def _until_all_up(url: str) -> float | None:
    """Seconds until the gateway uses all hosts again; None where it does not."""
    begun = time.monotonic()
    while time.monotonic() - begun < _BACK_SECONDS:
        nodes = _get(f"{url}/api/distributed/nodes").get("nodes", [])
        if len(nodes) == len(HOSTS) and all(node.get("state") == "up" for node in nodes):
            return time.monotonic() - begun
        time.sleep(0.1)
    return None


def _get(url: str) -> dict[str, Any]:
    try:
        document = httpx.get(url, timeout=10).json()
    except (httpx.HTTPError, ValueError) as error:
        raise OlladistError(f"the gateway does not answer {url}: {error}") from error
    return document if isinstance(document, dict) else {}
