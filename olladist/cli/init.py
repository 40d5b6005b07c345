"""`olladist init`."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    context: typer.Context,
    destinations: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[USER@]HOST[:PORT]...",
            help="The machines. Without any, the hosts of ~/.ssh/config, but for patterns.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the fleet.")] = "fleet",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is already there.")] = False,
) -> int:
    """Write an inventory, with comments.

    It goes to ./inventory.toml, or to the file named by -i; one that is there is not overwritten.
    """
    from rich.text import Text

    from olladist.cli.options import Globals
    from olladist.errors import UsageError
    from olladist.inventory.destination import parse_destination
    from olladist.inventory.find import FILE_NAME
    from olladist.inventory.sshconfig import ssh_hosts
    from olladist.inventory.write import init_text
    from olladist.output.documents import InitDocument
    from olladist.output.screen import open_screen

    options = context.find_object(Globals) or Globals()
    screen = open_screen(json=options.json)
    try:
        named = tuple(parse_destination(text) for text in destinations or ())
    except ValueError as error:
        raise UsageError(str(error), hint="olladist init ops@gpu1 root@198.51.100.12:2222") from None
    config = Path("~/.ssh/config").expanduser()
    hosts = named or (ssh_hosts(config) if config.is_file() else ())
    path = options.inventory or Path(FILE_NAME)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(init_text(hosts, name))
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="--force overwrites it, -i FILE writes another") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    screen.document(InitDocument(path=str(path), hosts=tuple(str(host) for host in hosts)))
    where = "" if named else f" from {config}" if hosts else ": this machine"
    screen.talk(Text(f"wrote {path} with {len(hosts) or 1} host{'s' if len(hosts) > 1 else ''}{where}"))
    screen.talk(Text(f"next: olladist{'' if path == Path(FILE_NAME) else f' -i {path}'} plan"))
    return 0
