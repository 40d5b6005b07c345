"""Writes docs/reference/cli.md and docs/reference/json.md from the program itself: `python docs/generate.py`."""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import typer

from olladist.cli.app import app
from olladist.output import documents

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by `python docs/generate.py`; a test checks that it is current. -->"

EXIT_CODES = """## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed on at least one host, or answered no; the report names each host, the command, the end of its stderr and a hint |
| 2 | the command line or the inventory is wrong: every problem at once, with file and line |
| 3 | not one host could be reached |
| 130 | interrupted; hosts are left in a state that a second run repairs |

stdout carries data, stderr everything else. `NO_COLOR` is obeyed. Commands that change hosts show their plan and ask first; where there
is no terminal to ask on they need `--yes`.
"""


def cli_reference() -> str:
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="olladist")
    parts = ["# Command line", NOTE, str(root.help).strip(), options(root, context)]
    for name, command in commands(root, ()):
        child = typer.Context(command, info_name=f"olladist {name}")
        usage = " ".join(["olladist", name, *command.collect_usage_pieces(child)])
        parts += [f"## {name}", inspect.cleandoc(command.help or ""), f"```text\n{usage}\n```", options(command, child)]
    return "\n\n".join(part for part in [*parts, EXIT_CODES] if part)


def commands(group: Any, above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every command with its full name; a group itself is none."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


def options(command: Any, context: typer.Context) -> str:
    """A table of arguments and options, each with its help."""
    rows = []
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) and record[0] not in HELP_OPTIONS:
            what, text = (cell.replace("|", "\\|") for cell in record)
            rows.append(f"| `{what}` | {text} |")
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else ""


HELP_OPTIONS = {"-h, --help", "--help"}


def json_reference() -> str:
    parts = [
        "# JSON documents",
        NOTE,
        inspect.cleandoc(documents.__doc__ or "").split("docs/reference")[0].strip(),
        "Every document has `schema` (its name) and `version`. A command that could not begin prints `olladist.error` instead.",
    ]
    structs = [
        value for value in vars(documents).values()
        if inspect.isclass(value) and issubclass(value, msgspec.Struct) and value.__module__ == documents.__name__
    ]  # fmt: skip
    parts += [struct_reference(struct) for struct in structs if "schema" in struct.__struct_fields__]
    parts += ["# Parts of documents"]
    parts += [struct_reference(struct) for struct in structs if "schema" not in struct.__struct_fields__]
    return "\n\n".join(parts) + "\n"


def struct_reference(struct: type[msgspec.Struct]) -> str:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    if "schema" in fields:
        names = ", ".join(get_args(fields["schema"].type))
        head = f"## {names} {fields['version'].default}"
    else:
        head = f"### {struct.__name__}"
    rows = [
        f"| `{name}` | {type_words(field.type)} |"
        for name, field in fields.items()
        if name not in {"schema", "version"} or "schema" not in fields
    ]
    return "\n\n".join(
        [head, inspect.cleandoc(struct.__doc__ or ""), "\n".join(["| field | type |", "|---|---|", *rows])]
    )


def type_words(kind: Any) -> str:
    """A type as readers of JSON call it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_words(arguments[1])}"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join(type_words(argument) for argument in arguments)
    if kind is type(None):
        return "null"
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return {str: "string", int: "integer", float: "number", bool: "true or false"}[kind]


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    (REFERENCE / "cli.md").write_text(cli_reference())
    (REFERENCE / "json.md").write_text(json_reference())
