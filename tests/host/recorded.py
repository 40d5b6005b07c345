"""What facts.sh printed on hosts, kept as data: facts/CASE/output.txt, and facts/CASE/facts.json as it is to be read.

python -m tests.host.recorded show CASE     the JSON of a case's output, to look at and keep as facts.json
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from olladist.host.facts import facts_input, facts_script, parse_facts
from olladist.host.found import Facts
from olladist.inventory.model import Host
from olladist.ssh.words import words

FOLDER = Path(__file__).parent / "facts"
CASES = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))


def recorded(case: str) -> Facts:
    return parse_facts((FOLDER / case / "output.txt").read_text(), case)


def as_json(facts: Facts) -> Any:
    """Facts as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(facts)))


def record(destination: str) -> str:
    host = Host("recorded", destination)
    command = ["ssh", destination, words("sh", "-c", facts_script(host))]
    return subprocess.run(command, input=facts_input(), stdout=subprocess.PIPE, check=True).stdout.decode()


if __name__ == "__main__" and sys.argv[1] == "record":
    sys.stdout.write(record(sys.argv[2]))
elif __name__ == "__main__":
    sys.stdout.write(json.dumps(as_json(recorded(sys.argv[2])), indent=1, sort_keys=True) + "\n")
