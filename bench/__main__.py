"""`make bench`: measures and prints the tables of docs/performance.md; `python -m bench TABLE` one of them.

`placement` and `soak` are made by name alone. The one takes 50 minutes, real hosts and root, and its exit status says whether its claim holds
(`--record FILE` keeps there what it measured, `--judge FILE` judges such a file again); the other does to a gateway what a night may bring, for 10 minutes
(`--quick` 100 s, `--seed N` another night), and fails where a client saw more of it than it should.

Options: `--quick` fewer and smaller rounds, `--only olladist,haproxy` those proxies alone, `--tiny` so small that figures say nothing: for tests.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bench import faults, fleet, gateway, placement, python, queueing, rest, soak, streams, tunnels
from olladist import is_compiled


def the_gateway(only: list[str], size: str) -> str:
    return gateway.table(gateway.run(only, gateway.SIZES[size]))


def the_streams(only: list[str], size: str) -> str:
    sizes = streams.SIZES[size]
    return streams.table(streams.run(only, sizes), sizes)


def the_queue(only: list[str], size: str) -> str:
    sizes = queueing.SIZES[size]
    return queueing.table(queueing.run(only, sizes), sizes)


def the_placement(_: list[str], __: str) -> str:
    if options.judge:
        return placement.claimed(options.judge, again=True)
    return placement.claimed(
        options.record or Path(tempfile.mkdtemp(prefix="olladist-placement-")) / "record.jsonl", again=False
    )


TABLES: dict[str, Callable[[list[str], str], str]] = {
    "gateway": the_gateway,
    "rest": lambda only, size: rest.table(rest.run(only, rest.SIZES[size])),
    "streams": the_streams,
    "queue": the_queue,
    "tunnels": lambda _, size: tunnels.table(tunnels.run(tunnels.SIZES[size])),
    "faults": lambda _, size: faults.table(faults.run(faults.SIZES[size])),
    "python": lambda _, size: python.table(python.run(python.SIZES[size])),
    "fleet": lambda _, __: fleet.table(fleet.run()),
    "soak": lambda _, size: soak.table(soak.run(soak.SIZES[size], options.seed)),
    "placement": the_placement,
}
BY_NAME = {"placement", "soak"}

parser = argparse.ArgumentParser(prog="python -m bench")
parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
parser.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
parser.add_argument("--tiny", dest="size", action="store_const", const="tiny")
parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="PROXY,...")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--record", type=Path, metavar="FILE", help="of placement")
parser.add_argument("--judge", type=Path, metavar="FILE", help="of placement")
options: argparse.Namespace = parser.parse_args()
if unknown := set(options.tables) - set(TABLES):
    parser.error(f"no such table: {', '.join(sorted(unknown))}")


def _first_line(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return f"no {words[0]}"
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def measured_with() -> str:
    """What the figures hang on besides the code: two builds of one version of Python differ by a fifth."""
    python = f"Python {platform.python_version()}, built {platform.python_build()[1]} with {platform.python_compiler()}"
    ours = f"olladist {'compiled' if is_compiled() else 'interpreted'}"
    return "; ".join(
        [ours, python, f"uvloop {version('uvloop')}", _first_line("haproxy", "-v"), _first_line("nginx", "-v")]
    )


print(measured_with())
status = 0
cores = os.sched_getaffinity(0)
for name in options.tables or [table for table in TABLES if table not in BY_NAME]:
    try:
        text = TABLES[name](options.only, options.size)
    except placement.Disproved as disproved:
        text, status = str(disproved), 1
    print(f"\n## {name}\n\n{text}", flush=True)
    os.sched_setaffinity(0, cores)  # most tables give one core to the proxy, and `fleet` needs both
sys.exit(status)
