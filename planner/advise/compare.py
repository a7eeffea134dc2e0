"""Engines side by side on one machine, and published figures beside ours.

Where published figures cannot all hold at once (users, latency and throughput are tied together by
Little's law) it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planner.advise.configure import configure
from planner.advise.rank import ordered, score
from planner.advise.survey import survey

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.sources.catalog import Catalog
    from planner.spec.plan import Configuration

LITTLE_TOLERANCE = 1.25
"""How far users / latency may exceed the published throughput before it is a contradiction."""


def compare(
    catalog: Catalog, brief: Brief
) -> tuple[tuple[Configuration, ...], Mapping[str, str], tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """(best configuration per engine, refused engines with reasons, published rows, contradictions)."""
    found = survey(catalog, brief)
    configurations = []
    for engine in sorted({a.candidate.release.engine for a in found.fitting}):
        best = ordered([a for a in found.fitting if a.candidate.release.engine == engine], brief)[0]
        configurations.append(
            configure(
                best.candidate, best.deployment, best.memory, brief, catalog.calibration, score=score(best, brief)
            )
        )
    configurations.sort(key=lambda c: -float(c.performance.output_tokens_per_s) if c.performance else 0.0)
    refused = {engine: reason for engine, reason in found.engines().items() if reason}
    published = tuple({**row, "ours": _ours(row, configurations, brief)} for row in _published(catalog, brief))
    return tuple(configurations), refused, published, tuple(_contradictions(published, brief))


def _published(catalog: Catalog, brief: Brief) -> list[Mapping[str, Any]]:
    """Published rows of this model, device, count and concurrency."""
    accelerator = brief.machine.accelerator
    return [
        row
        for row in catalog.document("seed_figures")["figures"]
        if accelerator is not None
        and row["model"] == brief.model.id
        and row["accelerator"] == accelerator.id
        and row["count"] == brief.machine.count
        and row["concurrency"] == brief.workload.concurrency
    ]


def _ours(row: Mapping[str, Any], configurations: list[Configuration], brief: Brief) -> float | None:
    """Our estimate of a published row's metric, for the same engine; None where there is none."""
    c = next((c for c in configurations if c.engine.name == row["engine"]), None)
    if c is None or c.performance is None:
        return None
    p, groups = c.performance, c.parallelism.data * c.parallelism.decoders
    match row["metric"]:
        case "output_tokens_per_s":
            return p.output_tokens_per_s.value
        case "ttft_ms_p50":
            return p.usual_ttft_ms.p50.value
        case "ttft_ms_p99":
            return p.usual_ttft_ms.p99.value
        case "itl_ms_p50":
            return p.itl_ms.p50.value if p.itl_ms else None
        case "max_concurrent":  # what the KV pool holds at the planned lengths; slots, where they own their cache
            held = c.memory.kv_cache_tokens // (brief.workload.input_tokens + brief.workload.output_tokens) * groups
            return float(c.limits.max_num_seqs * groups if c.limits.num_parallel else held)
        case "gpu_memory_efficiency_percent":
            used = c.memory.bytes_of("weights") + c.memory.bytes_of("kv_cache")
            return 100.0 * used / c.memory.device_bytes
    return None


def _contradictions(published: tuple[Mapping[str, Any], ...], brief: Brief) -> list[str]:
    """Users decoding at once at the published ITL must produce users / ITL tokens per second."""
    by_engine: dict[str, dict[str, float]] = {}
    for row in published:
        by_engine.setdefault(row["engine"], {})[row["metric"]] = float(row["value"])
    lines = []
    for engine, metrics in by_engine.items():
        itl, rate = metrics.get("itl_ms_p50"), metrics.get("output_tokens_per_s")
        slots = min(brief.workload.concurrency, metrics.get("max_concurrent", brief.workload.concurrency))
        if itl is None or rate is None:
            continue
        implied = slots / (itl / 1000)
        if implied > LITTLE_TOLERANCE * rate:
            lines.append(
                f"{engine}: {slots:.0f} users at {itl:g} ms ITL would be {implied:,.0f} tokens/s, not the published "
                f"{rate:,.0f}; the figures cannot all hold at once"
            )
    return lines
