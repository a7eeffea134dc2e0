"""Put a survey before the decision guide: what is feasible, and what the situation is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.advise.guide import apply_guide
from planner.advise.limits import stored_bytes
from planner.advise.situation import Situation
from planner.advise.survey import Survey, survey

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.advise.candidates import Candidate
    from planner.advise.guide import Verdict
    from planner.sources.catalog import Catalog
    from planner.spec.engine import EngineRelease


def consult_guide(catalog: Catalog, brief: Brief, found: Survey) -> Verdict:
    """What the decision guide says, given what physics leaves.

    When the user named an engine the others are surveyed as well, so that the trace can say what
    the guide would have chosen.
    """
    status = found.engines()
    if brief.request.engine is not None:
        free = brief.request.model_copy(update={"engine": None, "engine_version": None})
        status = {**survey(catalog, replace(brief, request=free)).engines(), **status}
    candidates = _all_candidates(found)
    releases: dict[str, EngineRelease] = {c.release.engine: c.release for c in candidates}
    for engine in status:
        releases.setdefault(engine, next(catalog.newest_releases(engine)))
    formats = {c.quantization.id: c.quantization for c in candidates}.values()
    situation = Situation(
        request=brief.request,
        model=brief.model,
        machine=brief.machine,
        concurrency=brief.workload.concurrency,
        objective=brief.objective,
        policy=brief.request.policy,
        quantization_kinds=frozenset(f.kind for f in formats),
        smallest_weight_bytes=min((stored_bytes(brief.model, f) for f in formats), default=None),
    )
    return apply_guide(catalog.guide(), situation, releases, status)


def _all_candidates(found: Survey) -> list[Candidate]:
    return [a.candidate for a in found.fitting] + [m.candidate for m in found.misfits]
