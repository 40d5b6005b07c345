"""`make bench`: measures and prints the tables of docs/performance.md. `python -m bench fleet` or `gateway` for one of them."""

import sys

from bench import fleet, gateway

SECTIONS = {
    "fleet": lambda: fleet.table(fleet.run()),
    "gateway": lambda: gateway.table(gateway.run()),
}

for name in sys.argv[1:] or list(SECTIONS):
    print(f"\n## {name}\n\n{SECTIONS[name]()}", flush=True)
