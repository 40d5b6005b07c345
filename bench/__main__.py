"""`make bench`: measures and prints the tables of docs/performance.md; `python -m bench TABLE` one of them.

Options: `--quick` fewer and smaller rounds, `--only olladist,haproxy` those proxies alone.
"""

import argparse
from collections.abc import Callable

from bench import faults, fleet, gateway, queueing, streams, tunnels


def the_gateway(options: argparse.Namespace) -> str:
    return gateway.table(gateway.run(options.only, gateway.QUICK if options.quick else gateway.FULL))


def slow_streams(options: argparse.Namespace) -> str:
    sizes = streams.QUICK if options.quick else streams.FULL
    return streams.table(streams.run(options.only, sizes), sizes)


TABLES: dict[str, Callable[[argparse.Namespace], str]] = {
    "gateway": the_gateway,
    "streams": slow_streams,
    "tunnels": lambda options: tunnels.table(tunnels.run(tunnels.QUICK if options.quick else tunnels.FULL)),
    "queue": lambda options: queueing.table(queueing.run(options.only)),
    "faults": lambda _: faults.table(faults.run()),
    "fleet": lambda _: fleet.table(fleet.run()),
}

parser = argparse.ArgumentParser(prog="python -m bench")
parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
parser.add_argument("--quick", action="store_true")
parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="PROXY,...")
options = parser.parse_args()
if unknown := set(options.tables) - set(TABLES):
    parser.error(f"no such table: {', '.join(sorted(unknown))}")
for name in options.tables or TABLES:
    print(f"\n## {name}\n\n{TABLES[name](options)}", flush=True)
