"""The rules, one file per kind of fact. A rule reads a shelf and yields findings; it corrects nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.upkeep.rules import (
    accelerators,
    checkpoints,
    cpus,
    engines,
    families,
    instances,
    measured,
    models,
    names,
    provenance,
    schema,
)
from planner.upkeep.shelf import Finding, Shelf

Rule = Callable[[Shelf], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    schema.findings,
    names.findings,
    provenance.findings,
    accelerators.findings,
    families.findings,
    cpus.findings,
    instances.findings,
    models.findings,
    checkpoints.findings,
    engines.findings,
    measured.findings,
)
