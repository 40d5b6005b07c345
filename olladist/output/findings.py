"""What the doctor found, as a list of checks with the fix beside each failure, and six lines at the end."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from olladist.fleet.findings import Finding, Verdict, summary

MARKS = {
    Verdict.OK: ("ok", "green"),
    Verdict.FAILED: ("FAILED", "bold red"),
    Verdict.NOT_CHECKED: ("-", "dim"),
}


def findings_block(findings: Sequence[Finding]) -> RenderableType:
    return Group(*_lines(findings), Text(""), *map(Text, summary_lines(findings)))


def summary_lines(findings: Sequence[Finding]) -> list[str]:
    """The integration check: exactly these six lines, whatever was found."""
    return [f"{area.value}: {'PASSED' if passed else 'FAILED'}" for area, passed in summary(findings).items()]


def _lines(findings: Sequence[Finding]) -> Iterator[Text]:
    subject = ""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            yield Text(subject, "bold")
        mark, style = MARKS[finding.verdict]
        first, *rest = finding.text.splitlines() or [""]
        yield Text.assemble("  ", (f"{mark:<6}", style), f"  {finding.check:<{width}}  {first}")
        indent = " " * (width + 12)
        yield from (Text(f"{indent}{line}") for line in rest)
        for number, line in enumerate(finding.fix.splitlines()):
            yield Text(f"{indent}{'fix: ' if not number else '     '}{line}")
