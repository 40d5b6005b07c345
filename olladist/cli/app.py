"""The command line: which commands there are, the options before them, and how a command ends."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from olladist import __version__, is_compiled
from olladist.cli.demo import demo
from olladist.cli.doctor import doctor
from olladist.cli.down import down
from olladist.cli.exec import exec_
from olladist.cli.init import init
from olladist.cli.logs import logs
from olladist.cli.models import models
from olladist.cli.options import Globals
from olladist.cli.plan import plan
from olladist.cli.proxy import proxy
from olladist.cli.restart import restart
from olladist.cli.simulate import simulate
from olladist.cli.ssh import ssh
from olladist.cli.status import status
from olladist.cli.uninstall import uninstall
from olladist.cli.up import up
from olladist.cli.words import split
from olladist.errors import OlladistError

# Options end at the first plain word: what follows belongs to the command that is to be run.
FOREIGN_WORDS = {"allow_interspersed_args": False}


class Commands(TyperGroup):
    """Ends every command the same way: data on stdout, what went wrong on stderr, and an exit status with a meaning."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        ours, command = split(sys.argv[1:] if args is None else args)
        json = "--json" in ours
        try:
            status = (
                super().main([*ours, *command], prog_name or "olladist", complete_var, standalone_mode=False, **extra)
                or 0
            )
        except typer.TyperException as error:
            status = _usage(error, json=json)
        except OlladistError as error:
            status = _failed(error, json=json)
        except BrokenPipeError:
            # The reader of our stdout has gone (`olladist status | head -1`); nothing may be flushed into it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        if standalone_mode:
            sys.exit(status)
        return status


def _usage(error: typer.TyperException, *, json: bool) -> int:
    """A command line that cannot be read: the message and where to read on."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "olladist"
    text, _, meant = error.format_message().rstrip(".").partition(". Did you mean ")
    hint = f"did you mean {meant}\n{where} --help" if meant else f"{where} --help"
    return _failed(OlladistError(text[:1].lower() + text[1:], hint=hint), json=json, status=2)


def _failed(error: OlladistError, *, json: bool, status: int = 0) -> int:
    from olladist.output.failures import describe_error, error_block
    from olladist.output.screen import open_screen

    status = status or error.exit_code
    screen = open_screen(json=json)
    screen.talk(error_block(error))
    screen.document(describe_error(error, status))
    return status


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"olladist {__version__}, the gateway is {'compiled' if is_compiled() else 'interpreted'}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    name="olladist",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def main_options(
    context: typer.Context,
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            "-i",
            metavar="FILE",
            help="The inventory. Without it: $OLLADIST_INVENTORY, ./inventory.toml, ~/.config/olladist/inventory.toml.",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only these hosts and groups: 'gpu1,rack2,!gpu7,gpu[3-9],*-a100'."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every command and more about errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Turns a TOML list of GPU machines into one Ollama.

    Options before the command may also stand after it.
    """
    context.obj = Globals(inventory, limit, json, verbose)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


app.command()(init)
app.command()(plan)
app.command()(up)
app.command()(down)
app.command()(restart)
app.command()(uninstall)
app.command()(status)
app.add_typer(models, name="models")
app.add_typer(proxy, name="proxy")
app.command()(doctor)
app.command("exec", context_settings=FOREIGN_WORDS)(exec_)
app.command()(logs)
app.command(context_settings=FOREIGN_WORDS)(ssh)
app.command()(demo)
app.command()(simulate)


def report_defect(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """An exception nobody expected: one line for the person, the traceback for whoever mends it."""
    from olladist.places import state_dir

    log = state_dir() / "crash.log"
    text = "".join(traceback.format_exception(kind, error, where))
    with log.open("a", encoding="utf-8") as file:
        log.chmod(0o600)
        file.write(f"=== {datetime.now(UTC).isoformat(timespec='seconds')} olladist {__version__}\n{text}\n")
    if isinstance(error, OSError) and error.strerror:
        # This machine's disk, permissions or limits: more often its fault than ours.
        sys.stderr.write(f"error: {error.filename or 'this machine'}: {error.strerror}\n\n")
        sys.stderr.write(f"hint: the traceback is at the end of {log}\n")
        return
    first = str(error).splitlines()[0] if str(error) else "no message"
    sys.stderr.write(f"error: olladist has a defect: {kind.__name__}: {first}\n\n")
    sys.stderr.write(f"hint: the traceback is at the end of {log}; please report it\n")


# A command makes many objects that live to its end. At the default of 700 the collector walks through them all the time, which
# is a tenth of the CPU of `status` on 50 hosts; 100 000 objects are some 10 MB.
_COLLECT_AFTER = 100_000


def main() -> None:
    gc.set_threshold(_COLLECT_AFTER)
    sys.excepthook = report_defect
    # Not app(): that puts typer's own excepthook in the place of ours.
    typer.main.get_command(app)()
