"""One run of a command: its screen, its inventory, and the fleet it works on."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import typer
from rich.console import RenderableType
from rich.text import Text

from olladist.cli.keyboard import Questions, agreed, somebody_there
from olladist.cli.options import Globals
from olladist.errors import UsageError
from olladist.fleet.events import unwatched
from olladist.fleet.open import LOGIN_SECONDS, Fleet, open_fleet
from olladist.inventory.find import find_inventory
from olladist.inventory.model import Host, Inventory
from olladist.inventory.parse import load
from olladist.inventory.select import select
from olladist.output.failures import interrupted
from olladist.output.progress import Watching
from olladist.output.screen import Screen, open_screen
from olladist.ssh.prompts import NO_PROMPTS

T = TypeVar("T")

INTERRUPTED = 130


@dataclass(slots=True)
class Session:
    """What every command has in common."""

    options: Globals
    screen: Screen
    watching: Watching
    inventory: Inventory
    hosts: tuple[Host, ...]

    def run(
        self,
        work: Callable[[Fleet], Awaitable[T]],
        *,
        accept_new: bool = False,
        connect_timeout: float | None = None,
        login_timeout: float = LOGIN_SECONDS,
        watched: bool = True,
    ) -> T:
        """What `work` makes of the chosen hosts; data is shown only after it, when nothing redraws the screen any more.

        `watched` False shows no progress, for a command whose data comes while it works.

        Ctrl-C and SIGTERM cancel it: what was under way then is printed, and the command ends with status 130.
        """
        fleets: list[Fleet] = []
        questions = Questions(self.screen, self.watching.paused)

        async def main() -> T:
            # The handler that asyncio.run has just installed: it cancels this task.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
            async with open_fleet(
                self.inventory,
                self.hosts,
                prompts=questions.prompts() if somebody_there() else NO_PROMPTS,
                accept_new=accept_new,
                watch=self.watching if watched else unwatched,
                connect_timeout=connect_timeout,
                login_timeout=login_timeout,
            ) as fleet:
                fleets.append(fleet)
                with self.watching if watched else nullcontext():
                    return await work(fleet)

        before = signal.getsignal(signal.SIGTERM)
        try:
            return asyncio.run(main())
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.screen.talk(interrupted(fleets[0].under_way if fleets else {}))
            raise typer.Exit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    def explain(self, block: RenderableType) -> None:
        """Shows a plan before the question, on stderr: it is talk, the document on stdout is the data."""
        with self.watching.paused():
            self.screen.talk(block)

    async def agreed(self, question: str, *, yes: bool) -> bool:
        """Whether the person wants it done."""
        if yes:
            return True
        with self.watching.paused():
            wanted = await agreed(self.screen, question)
        if not wanted:
            self.screen.talk(Text("nothing was changed"))
        return wanted


def begin(context: typer.Context) -> Session:
    """Reads the inventory and picks the hosts; UsageError where that cannot be."""
    options = context.find_object(Globals) or Globals()
    screen = open_screen(json=options.json, verbose=options.verbose)
    inventory = load(find_inventory(options.inventory, os.environ))
    return Session(options, screen, Watching(screen), inventory, select(inventory, options.limit))


def must_be_able_to_ask(*, yes: bool, dry_run: bool) -> None:
    """A command that changes hosts asks first: without anybody to ask it must have been told what to do."""
    if not (yes or dry_run or somebody_there()):
        raise UsageError(
            "this command changes hosts, and there is no terminal to ask on",
            hint="--yes does it without asking, --dry-run only shows what would be done",
        )
