"""What a validation says: checks, each passed, failed, missed or skipped, and the verdict over them.

A check that could not run is skipped, with the reason; it never counts as passed. What was only a default of ours
is missed where it does not hold: told, but no failure. Knows nothing of what is checked
and nothing of how a verdict is printed (`report/verdict.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from planner.errors import PlannerError

Status = Literal["passed", "failed", "missed", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "missed", "skipped")
FigureValue = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `figures` are name → value, units in the names."""

    name: str
    status: Status
    detail: str = ""
    figures: Mapping[str, FigureValue] = field(default_factory=dict)
    depth: str = ""
    """Which part of the validation it belongs to: lint, simulate, smoke or probe."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "depth": self.depth, "name": self.name, "status": self.status, "detail": self.detail,
            "figures": dict(self.figures),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one subject (a plan, a folder, an endpoint)."""

    subject: str
    checks: tuple[Check, ...]

    def count(self, status: Status) -> int:
        """How many checks have `status`."""
        return sum(check.status == status for check in self.checks)

    @property
    def status(self) -> Status:
        """`failed` when a check failed; `passed` when some passed and none failed; else `skipped`."""
        if self.count("failed"):
            return "failed"
        return "passed" if self.count("passed") else "skipped"

    @property
    def exit_code(self) -> int:
        """1 when a check failed, else 0."""
        return int(self.status == "failed")

    @property
    def summary(self) -> str:
        """One line: the status and the counts."""
        missed = f"{self.count('missed')} missed, " if self.count("missed") else ""
        return (
            f"{self.status}: {self.count('passed')} passed, {self.count('failed')} failed, "
            f"{missed}{self.count('skipped')} skipped"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `-o json` prints."""
        counts = {status: self.count(status) for status in STATUSES}
        return {
            "subject": self.subject, "status": self.status, "counts": counts,
            "checks": [check.to_dict() for check in self.checks],
        }  # fmt: skip


def passed(name: str, detail: str = "", **figures: FigureValue) -> Check:
    """A check that held."""
    return Check(name, "passed", detail, figures)


def failed(name: str, detail: str, **figures: FigureValue) -> Check:
    """A check that did not hold, and how."""
    return Check(name, "failed", detail, figures)


def missed(name: str, detail: str, **figures: FigureValue) -> Check:
    """A default target that is not met, and by how much."""
    return Check(name, "missed", detail, figures)


def skipped(name: str, reason: str, **figures: FigureValue) -> Check:
    """A check that could not run, and why."""
    return Check(name, "skipped", reason, figures)


def judged(name: str, holds: bool, good: str, bad: str, **figures: FigureValue) -> Check:
    """Passed with `good` or failed with `bad`."""
    return passed(name, good, **figures) if holds else failed(name, bad, **figures)


def from_problems(name: str, problems: Iterable[str], good: str, **figures: FigureValue) -> Check:
    """Failed with the first problems, or passed with `good` when there are none."""
    found = list(dict.fromkeys(problems))
    if not found:
        return passed(name, good, **figures)
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return failed(name, "; ".join(found[:3]) + more, **figures)


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """`check()`; an error of ours inside it (a damaged file, say) is a failed check, not the end."""
    try:
        return check()
    except PlannerError as error:
        return failed(name, " ".join(str(error).split()))


def of_depth(depth: str, checks: Iterable[Check]) -> tuple[Check, ...]:
    """`checks`, marked as part of `depth`."""
    return tuple(Check(c.name, c.status, c.detail, c.figures, depth) for c in checks)
