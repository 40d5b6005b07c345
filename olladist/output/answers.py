"""What hosts said to `exec`: folded as `clush -b` does, or line by line behind the host's name."""

from collections.abc import Iterator

from olladist.fleet.execute import Answer
from olladist.output.nodes import fold

RULE = "-" * 15


def folded_text(answer: Answer, *, of: int) -> str:
    """Who said it, then what; a host that stands alone in a fleet of one needs no heading."""
    body = answer.stdout if answer.stdout.endswith("\n") or not answer.stdout else answer.stdout + "\n"
    if of == 1:
        return body
    count = f" ({len(answer.hosts)})" if len(answer.hosts) > 1 else ""
    return f"{RULE}\n{fold(answer.hosts)}{count}\n{RULE}\n{body}"


def lines_text(answer: Answer) -> str:
    """Every line of every host behind the host's name: made for grep and sort."""
    return "".join(f"{host}: {line}\n" for host in answer.hosts for line in answer.stdout.splitlines())


def talk_text(answer: Answer) -> Iterator[str]:
    """What it said on stderr, and how it ended where that was not 0."""
    who = fold(answer.hosts)
    for line in answer.stderr.splitlines():
        yield f"{who}: {line}"
    if answer.status:
        ended = f"ended by signal {-answer.status}" if answer.status < 0 else f"exit status {answer.status}"
        yield f"{who}: {ended}"
