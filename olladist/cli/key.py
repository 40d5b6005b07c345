"""`olladist proxy key`."""

from typing import Annotated

import typer


def key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it: the name stands in logs and metrics.")],
) -> int:
    """Make an API key: the key on stdout, once, and what to write into the inventory on stderr.

    The inventory gets its SHA-256 alone. No inventory is read or changed.
    """
    import secrets

    from rich.text import Text

    from olladist.cli.options import Globals
    from olladist.errors import UsageError
    from olladist.gateway.access import digest_of
    from olladist.inventory.check import NAME_RULE, is_name
    from olladist.output.documents import KeyDocument
    from olladist.output.screen import open_screen

    if not is_name(name):
        raise UsageError(f"{name!r} is not a name for a key", hint=NAME_RULE)
    options = context.obj if isinstance(context.obj, Globals) else Globals()
    screen = open_screen(json=options.json, verbose=options.verbose)
    made = f"sk-{secrets.token_urlsafe(KEY_BYTES)}"
    digest = digest_of(made.encode())
    screen.show(Text(made, no_wrap=True, overflow="ignore"))
    screen.document(KeyDocument(name=name, key=made, sha256=digest))
    shown = name if "." not in name else f'"{name}"'
    screen.lines(
        [
            "this key is shown once: give it to who will use it, and write into the inventory",
            "",
            f"[gateway.keys.{shown}]",
            f'sha256 = "{digest}"',
            "",
            "then `olladist proxy reload`, where a gateway runs already",
        ]
    )
    return 0


# 192 bits, 32 characters.
KEY_BYTES = 24
