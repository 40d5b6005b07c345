"""What `doctor` says: findings, and the six lines that sum them up."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"  # a check that it builds on has failed; counts as failed


class Area(StrEnum):
    """The six lines at the end, in their order."""

    INSTALLATION = "Ollama Installation"
    SERVER = "Ollama Server"
    DISTRIBUTED = "Distributed System"
    API = "API Integration"
    MODELS = "Model Management"
    END_TO_END = "End-to-End Integration"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check on one subject (a host, "gateway" or "fleet"): what was seen, and what mends it where it is not right."""

    area: Area
    subject: str
    check: str
    verdict: Verdict
    text: str
    fix: str = ""


def summary(findings: Iterable[Finding]) -> dict[Area, bool]:
    """Whether all findings of each area are ok; an area without findings was not looked at, and has not passed."""
    seen: dict[Area, list[bool]] = {area: [] for area in Area}
    for finding in findings:
        seen[finding.area].append(finding.verdict is Verdict.OK)
    return {area: bool(verdicts) and all(verdicts) for area, verdicts in seen.items()}
