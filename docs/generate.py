"""Writes cli.md, json.md, metrics.md and the schemas of docs/reference from the program itself: `python docs/generate.py`."""

import inspect
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import typer

from olladist.cli.app import app
from olladist.gateway.control import admin
from olladist.gateway.control import documents as gateway
from olladist.gateway.control.drain import Drained
from olladist.gateway.control.explanation import Explanation
from olladist.gateway.control.families import GROUPS, Family, Kind
from olladist.gateway.control.holdings import Models
from olladist.gateway.control.moves import documents as moves
from olladist.gateway.control.reload import NotReloaded, Reloaded
from olladist.gateway.control.statistics import Statistics
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
    """Every command with its full name; a group itself is one where it does something by itself."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.name in DOES_SOMETHING:
                yield " ".join((*above, name)), command
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


# The other groups only print their help.
DOES_SOMETHING = {"proxy"}

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


# What the gateway answers on pages of its own, by the name of the schema's file.
SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "gateway-status": gateway.Status,
    "gateway-nodes": gateway.Nodes,
    "gateway-models": Models,
    "gateway-stats": Statistics,
    "gateway-reload": Reloaded,
    "gateway-not-reloaded": NotReloaded,
    "gateway-drain": Drained,
    "gateway-explanation": Explanation,
    "gateway-mode": admin.ModeSet,
    "gateway-fallback": admin.FallbackSet,
    "gateway-cache": admin.KeptAnswers,
    "gateway-migrate": moves.Migrate,
    "gateway-rebalance": moves.Rebalance,
    "gateway-plan": moves.Plan,
    "gateway-progress": moves.Progress,
}


def schema(struct: type[msgspec.Struct]) -> str:
    return json.dumps(_cleaned(msgspec.json.schema(struct)), indent=1) + "\n"


def _cleaned(value: Any) -> Any:
    """Descriptions without the indent of their source."""
    if isinstance(value, dict):
        return {k: inspect.cleandoc(v) if k == "description" else _cleaned(v) for k, v in value.items()}
    return [_cleaned(v) for v in value] if isinstance(value, list) else value


METRICS = """The gateway answers `GET /metrics` in the text format 0.0.4 of Prometheus, and in OpenMetrics for who asks for it in `Accept`. It is
open where the gateway has no API keys, and wants the [admin token](gateway-api.md) where it has.

```yaml
scrape_configs:
  - job_name: olladist
    authorization: { credentials_file: /etc/prometheus/olladist-token }  # where there are API keys
    static_configs: [{ targets: ["gateway.example:11434"] }]
```

[Monitoring](../guides/monitoring.md) says what to look at and what to wake up for.

Labels are bounded, so that no client can fill a Prometheus: `node` and `key` are names of the inventory, `route` is one of
[Ollama's routes](gateway-api.md), `model` is the name as `/api/tags` lists it; whatever the fleet does not list is `other`. A
request that was tried on two nodes is two requests here: `olladist_requests_total` less `olladist_retries_total` is what clients sent.
Counters begin at 0 when the control process starts. No prompt, no answer and no key is in any of this.

Times are in seconds, with buckets for language models; speeds are what backends say of each answer themselves. Speeds by model
_and_ node are counters, for histograms would be half a million lines with 200 of each:

```promql
rate(olladist_tokens_total{kind="output"}[5m]) / rate(olladist_token_seconds_total{kind="output"}[5m])
```
"""


PROCESS = """On Linux the control process' own figures, as every Prometheus client gives them: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`, `process_start_time_seconds`.
"""


def metrics_reference() -> str:
    parts = ["# Metrics", NOTE, METRICS.strip()]
    for group, families in GROUPS.items():
        rows = "\n".join(map(_metric, families))
        parts += [f"## {group}", f"| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}"]
    buckets = {family.buckets: "" for group in GROUPS.values() for family in group if family.kind is Kind.HISTOGRAM}
    for known in buckets:
        names = [f"`{family.name}`" for group in GROUPS.values() for family in group if family.buckets == known]
        buckets[known] = f"| {', '.join(names)} | {', '.join(f'{bound:g}' for bound in known)} |"
    parts += ["## Buckets", "\n".join(["| histograms | bounds |", "|---|---|", *buckets.values()])]
    parts += ["## The process", PROCESS.strip()]
    return "\n\n".join(parts) + "\n"


def _metric(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind.value} | {labels} | {family.meaning} |"


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    (REFERENCE / "cli.md").write_text(cli_reference())
    (REFERENCE / "json.md").write_text(json_reference())
    (REFERENCE / "metrics.md").write_text(metrics_reference())
    for name, struct in SCHEMAS.items():
        (REFERENCE / f"{name}.schema.json").write_text(schema(struct))
