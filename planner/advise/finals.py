"""The front runners of one engine, simulated in full; the best of them by targets, then by score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.configure import configure, meets_targets
from planner.advise.rank import ordered, score

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.advise.evaluate import Assessment
    from planner.sources.catalog import Catalog
    from planner.spec.plan import Configuration

FINALISTS = 6
"""Candidates of the chosen engine that are simulated in full."""


def finals(catalog: Catalog, brief: Brief, pool: list[Assessment]) -> tuple[Configuration, list[Configuration]]:
    """The best of the engine after a full simulation of the front runners, and the others in order."""
    finalists = [
        configure(a.candidate, a.deployment, a.memory, brief, catalog.calibration, score=score(a, brief))
        for a in ordered(pool, brief)[:FINALISTS]
    ]
    ranked = sorted(finalists, key=lambda c: (not _near(c, brief), -c.score))
    return ranked[0], ranked[1:]


def _near(configuration: Configuration, brief: Brief) -> bool:
    """True when the targets are met, or nearly met where they are our own defaults."""
    performance = configuration.performance
    return performance is not None and meets_targets(performance, brief, brief.slack)
