"""Every candidate of a brief, assessed: what fits, what does not, what was refused beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.candidates import enumerate_candidates, releases_for
from planner.advise.evaluate import Assessment, Misfit, assess
from planner.records import dataclass
from planner.spec.plan import Rejection

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.sources.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Survey:
    """All candidates of a brief: those that fit, those that do not, those refused beforehand."""

    fitting: tuple[Assessment, ...]
    misfits: tuple[Misfit, ...]
    refused: tuple[Rejection, ...]

    def engines(self) -> dict[str, str | None]:
        """Engine → None when something of it fits, else the most telling reason why not."""
        status: dict[str, str | None] = {}
        for refusal in self.refused:
            status.setdefault(refusal.candidate.split(" ")[0], refusal.reason)
        least: dict[str, Misfit] = {}
        for misfit in self.misfits:
            engine: str = misfit.candidate.release.engine
            if engine not in least or misfit.memory.shortfall_bytes < least[engine].memory.shortfall_bytes:
                least[engine] = misfit
        for engine, misfit in least.items():
            status[engine] = f"{misfit.candidate.quantization.id}: {misfit.reason}"
            barred = (r.reason for r in self.refused if r.rule == "feature" and r.candidate.split(" ")[0] == engine)
            if (reason := next(barred, None)) is not None:  # layouts that were not looked at
                status[engine] = f"{status[engine]}; {reason}"
        for assessment in self.fitting:
            status[assessment.candidate.release.engine] = None
        return status


def survey(catalog: Catalog, brief: Brief) -> Survey:
    """Assess everything that could run."""
    releases, platform_refusals = releases_for(catalog, brief)
    candidates, refused = enumerate_candidates(catalog, brief, releases)
    fitting: list[Assessment] = []
    misfits: list[Misfit] = []
    for candidate in candidates:
        outcome = assess(candidate, brief, catalog.calibration)
        (fitting if isinstance(outcome, Assessment) else misfits).append(outcome)  # type: ignore[arg-type]
    return Survey(tuple(fitting), tuple(misfits), (*platform_refusals, *refused))
