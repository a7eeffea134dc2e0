"""The last step of the decision trace: why this configuration of the chosen engine, part by part of its score.

Reads what was decided; decides nothing. Scores come from the quick look that the search takes, whose latencies
are means; targets are held against the full simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.rank import score, terms
from planner.spec.plan import Scored, ScorePart, TraceStep
from planner.units import significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.advise.brief import Brief
    from planner.advise.evaluate import Assessment
    from planner.spec.plan import Configuration

_SHOWN = 5
"""Configurations of the search that the trace names."""
_DIFFERENCE = 0.005
"""Parts that differ by less are not worth a word."""


def search_step(brief: Brief, pool: Sequence[Assessment], finalists: Sequence[Configuration]) -> TraceStep:
    """The objective at work on `pool`; `finalists` are simulated, the chosen one first, the runner-up next."""
    known = [(c, a) for c in finalists if (a := next((a for a in pool if _is(a, c)), None)) is not None]
    compared = [_scored(a, c, brief) for c, a in known[:2]]
    inputs = {
        f"{i}. {a.candidate.label}": f"score {score(a, brief):.2f}{_simulated(c)}"
        for i, (c, a) in enumerate(known[:_SHOWN], 1)
    }
    return TraceStep(
        rule=f"objective-{brief.objective}",
        strength="objective",
        statement=(
            f"within the engine, the objective {brief.objective} orders the {len(pool)} configurations that fit; "
            "scores are log2 of utility by a quick look, 0.1 is about 7 %, figures those of the full simulation"
        ),
        engine=pool[0].candidate.release.engine,
        inputs=inputs,
        outcome=f"chosen from {len(finalists)} simulated finalists" + _verdict(compared),
        scores=tuple(compared),
    )


def _simulated(c: Configuration) -> str:
    """The figures of a finalist that every table shows."""
    p = c.performance
    if p is None:
        return ""
    itl = f", ITL p50 {significant(p.itl_ms.p50.value)} ms" if p.itl_ms else ""
    return (
        f"; {significant(p.output_tokens_per_s.value)} output tokens/s, "
        f"TTFT p50 {significant(p.usual_ttft_ms.p50.value)} ms, p99 {significant(p.usual_ttft_ms.p99.value)} ms{itl}, "
        f"{c.memory.kv_cache_tokens:,} KV tokens"
    )


def _is(assessment: Assessment, c: Configuration) -> bool:
    candidate = assessment.candidate
    return (candidate.release.version, candidate.quantization.id, candidate.kv_name, candidate.parallelism) == (
        c.engine.version,
        c.quantization,
        c.kv_cache_dtype,
        c.parallelism,
    )


def _scored(assessment: Assessment, c: Configuration, brief: Brief) -> Scored:
    parts = tuple(
        ScorePart(name=name, value=round(worth, 4), of=_of(name, assessment, brief))
        for name, worth in terms(assessment, brief)
        if worth
    )
    return Scored(
        candidate=assessment.candidate.label, score=round(score(assessment, brief), 4), meets_slo=c.meets_slo,
        parts=parts,
    )  # fmt: skip


def _of(name: str, a: Assessment, brief: Brief) -> str:
    """What a part of the score is computed from."""
    candidate, figures = a.candidate, a.figures
    layout = candidate.parallelism
    match name:
        case "throughput":
            return f"log2 of {figures.output_tokens_per_s:,.0f} output tokens/s"
        case "answer time":
            seconds = figures.ttft_s + figures.itl_s * max(1, brief.workload.output_tokens - 1)
            return f"−log2 of {seconds:.2f} s for a whole answer, mean"
        case "lost quality":
            rank = candidate.quantization.quality_rank + candidate.kv_format.quality_rank
            kv = "" if candidate.kv_name == "auto" else f" with {candidate.kv_name} KV cache"
            return f"{rank:.3g} % of perplexity for {candidate.quantization.id}{kv}"
        case "availability":
            seen = candidate.checkpoint is not None
            return (
                "named by its publisher's pattern, not opened" if seen else "no such weights are known to be published"
            )
        case "context":
            return f"{a.deployment.limits.max_model_len:,} of {brief.context_tokens:,} tokens preferred"
        case "devices":
            return f"{layout.devices_per_replica * layout.replicas} devices"
        case "pipeline stages":
            return f"{layout.pipeline} stages"
        case "missed targets":
            return (
                f"quick look: TTFT {figures.ttft_tail_s * 1000:,.0f} ms at p{brief.request.slo_percentile:g} of "
                f"{brief.ttft_ms:g}, mean ITL {figures.itl_s * 1000:.1f} ms of {brief.itl_ms:g}"
            )
        case _:
            return f"{a.memory.offloaded_layers} of {a.memory.total_layers} layers on the device"


def _verdict(compared: Sequence[Scored]) -> str:
    """What tells the chosen one from the runner-up."""
    if len(compared) < 2:
        return ""
    best, second = compared
    gap = best.score - second.score
    against = f"score {-gap:+.2f} against the chosen" if abs(gap) >= _DIFFERENCE else "the same score"
    head = f"; runner-up {second.candidate}: {against}"
    if best.meets_slo and not second.meets_slo:
        head += ", and it misses the targets when simulated"
    mine, theirs = ({p.name: p.value for p in s.parts} for s in (best, second))
    apart = {name: theirs.get(name, 0.0) - mine.get(name, 0.0) for name in (*mine, *theirs)}
    told = [f"{name} {d:+.2f}" for name, d in sorted(apart.items(), key=lambda i: -abs(i[1])) if abs(d) >= _DIFFERENCE]
    return f"{head} ({', '.join(told)})" if told else head
