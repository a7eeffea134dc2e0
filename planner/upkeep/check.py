"""Everything that is wrong with the data files, as one report.

Rules are in `rules/`; this file runs them and counts what there is, so that "no findings" also says
of how much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from planner.errors import UsageError
from planner.estimate.tensors import parameter_count
from planner.sources.entries import Entry, entries
from planner.spec.hardware import Accelerator, Instance
from planner.spec.model import ModelSpec
from planner.upkeep.rules import RULES
from planner.upkeep.shelf import Finding, Shelf


@dataclass(frozen=True, slots=True)
class Audit:
    """`findings`: what is wrong. `counts`: how much was looked at, and how exact it is."""

    findings: tuple[Finding, ...]
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `planner catalog check -o json` prints."""
        return {"counts": self.counts, "findings": [asdict(f) for f in self.findings]}


def check(root: Path | None = None, *, max_age_days: int | None = None, today: date | None = None) -> Audit:
    """The data files under `root` (its hardware/ and catalog/; None: this installation's), by every rule.

    `max_age_days`: facts that are older are findings too (None: age does not matter). Raises UsageError
    when `root` holds no such folders.
    """
    return audit(tuple(entries(*folders(root))), max_age_days=max_age_days, today=today)


def folders(root: Path | None) -> tuple[Path, Path]:
    """The folders of hardware and catalog under `root`, or this installation's."""
    if root is None:
        from planner.resources import folder

        return folder("hardware"), folder("catalog")
    found = root / "hardware", root / "catalog"
    if not any(path.is_dir() for path in found):
        raise UsageError(f"{str(root)!a} holds neither hardware/ nor catalog/")
    return found


def audit(held: Iterable[Entry], *, max_age_days: int | None = None, today: date | None = None) -> Audit:
    """As `check`, for entries that somebody has read."""
    if max_age_days is not None and max_age_days < 0:
        raise UsageError(f"--max-age-days is {max_age_days}; at least 0")
    shelf = Shelf(tuple(held), today or datetime.now(UTC).date(), max_age_days)
    found = dict.fromkeys(finding for rule in RULES for finding in rule(shelf))
    return Audit(tuple(sorted(found, key=lambda f: (f.file, f.entry, f.rule, f.message))), _counts(shelf))


def _counts(shelf: Shelf) -> dict[str, int]:
    models = [m for _, m in shelf.of("model", ModelSpec)]
    bases = Counter(c.provenance.basis for m in models for c in m.checkpoints)
    accelerators = [a for _, a in shelf.of("accelerator", Accelerator)]
    instances = [i for _, i in shelf.of("instance", Instance)]
    return {
        "models": len(models),
        "models_exact": sum(m.parameters == parameter_count(m) for m in models),
        "models_explained": sum(m.parameters not in (None, parameter_count(m)) for m in models),
        "models_unpublished": sum(m.parameters is None for m in models),
        "checkpoints": sum(len(m.checkpoints) for m in models),
        "checkpoints_estimated": bases["estimated"],
        "accelerators": len(accelerators),
        "accelerators_plannable": sum(a.plannable for a in accelerators),
        "cpus": len(shelf.kind("cpu")),
        "interconnects": len(shelf.kind("interconnect")),
        "instances": len(instances),
        "instances_priced": sum(i.usd_per_hour is not None for i in instances),
        "providers": len({i.provider for i in instances}),
        "engine_releases": len(shelf.kind("engine")),
        "entries": len(shelf.entries),
    }
