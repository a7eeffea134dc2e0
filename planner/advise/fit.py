"""What runs well on a machine: every model of the catalog, best first.

A quick look by design: one sensible format per model (the best quality that fits whole), no
simulation. Knows the same physics as the search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.advise.brief import PERSONAL_CLASSES, make_brief
from planner.advise.candidates import enumerate_candidates, releases_for
from planner.advise.evaluate import Assessment, assess, is_whole
from planner.advise.rank import meets
from planner.errors import PlannerError
from planner.estimate.tensors import active_parameters, loaded_parameters, parameter_count
from planner.records import dataclass
from planner.spec.engine import LAYER_SPLIT_ENGINES

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.advise.candidates import Candidate
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Machine
    from planner.spec.request import Request


@dataclass(frozen=True, slots=True)
class FitRow:
    """One model that runs on the machine. Times in milliseconds, rates of the whole machine."""

    model: str
    parameters: int
    active_parameters: int
    engine: str
    quantization: str
    tensor_parallel: int
    context_tokens: int
    largest_context_tokens: int
    ttft_ms: float
    itl_ms: float | None
    output_tokens_per_s: float
    meets_slo: bool
    command: str
    alike: tuple[str, ...] = ()
    """Other models of the very same shapes, which run the same."""


_NO_SHAPE = {
    "id", "aliases", "family", "provenance", "license", "gated", "revision", "parameters", "parameters_note",
    "assumptions", "chat_stop",
}  # fmt: skip
"""What fine-tunes of one model differ in: one of them is looked at for all."""


def fit(catalog: Catalog, machine: Machine, request: Request) -> tuple[FitRow, ...]:
    """Every catalogued model that fits `machine` under the load of `request`, best first.

    Best means: meets the latency targets, then more parameters (the usual proxy for answers'
    quality), then faster.
    """
    rows: dict[str, FitRow | None] = {}
    variants = {c.repo for model in catalog.models() for c in model.checkpoints if c.repo and c.repo != model.id}
    for model in catalog.models():
        if model.modality == "embedding" or not model.instruct or model.id in variants:
            continue
        shapes = model.model_dump_json(exclude=_NO_SHAPE)
        if shapes in rows:
            known = rows[shapes]
            rows[shapes] = known and replace(known, alike=(*known.alike, model.id))
            continue
        rows[shapes] = None
        try:
            brief = make_brief(request.model_copy(update={"model": model.id}), model, machine)
            best = _best(catalog, brief)
        except PlannerError:
            continue  # a context too short for the load, an architecture no engine here runs
        if best is not None:
            rows[shapes] = _row(brief, best)
    found = [row for row in rows.values() if row is not None]
    return tuple(sorted(found, key=lambda r: (not r.meets_slo, -r.parameters, -r.output_tokens_per_s, r.model)))


def _best(catalog: Catalog, brief: Brief) -> Assessment | None:
    """The first candidate, in order of quality, that fits whole (or, with host RAM given, in part)."""
    personal = brief.machine.device_class in PERSONAL_CLASSES
    releases, _ = releases_for(catalog, brief)
    preferred = [r for r in releases if (r.engine in LAYER_SPLIT_ENGINES) == personal] or list(releases)
    candidates, _ = enumerate_candidates(catalog, brief, (preferred[0],))
    partial: Assessment | None = None
    for candidate in sorted(candidates, key=_order):
        if not _may_fit(candidate, brief):
            continue
        outcome = assess(candidate, brief, catalog.calibration)
        if isinstance(outcome, Assessment):
            if is_whole(outcome.memory, brief):
                return outcome
            partial = partial or outcome
    return partial if brief.request.ram else None


def _may_fit(candidate: Candidate, brief: Brief) -> bool:
    """False when the nominal weights alone exceed all memory there is: no need for a ledger."""
    nominal = parameter_count(brief.model) * candidate.quantization.weight_bits / 8
    accelerator, count = brief.machine.accelerator, brief.machine.count
    layout = candidate.parallelism
    devices = count if candidate.release.engine in LAYER_SPLIT_ENGINES else layout.tensor * layout.pipeline
    on_devices = accelerator.usable_memory_bytes * devices if accelerator else 0
    return nominal < on_devices + (brief.machine.ram_bytes or 0)


def _order(candidate: Candidate) -> tuple[float, int, int]:
    layout = candidate.parallelism
    return candidate.quantization.quality_rank, layout.devices_per_replica, layout.pipeline


def _row(brief: Brief, best: Assessment) -> FitRow:
    from planner.advise.command import command

    candidate = best.candidate
    return FitRow(
        model=brief.model.id,
        parameters=loaded_parameters(brief.model),
        active_parameters=active_parameters(brief.model),
        engine=candidate.release.engine,
        quantization=candidate.quantization.id,
        tensor_parallel=candidate.parallelism.tensor,
        context_tokens=best.deployment.limits.max_model_len,
        largest_context_tokens=best.memory.largest_context_tokens,
        ttft_ms=best.figures.ttft_s * 1000,
        itl_ms=best.figures.itl_s * 1000 or None,
        output_tokens_per_s=best.figures.output_tokens_per_s,
        meets_slo=meets(best, brief),
        command=command(brief.request.model_copy(update={"quantization": candidate.quantization.id})),
    )
