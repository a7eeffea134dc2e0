"""What is probed and what the plan promises of it. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.plan import Figure, MemoryLedger, Plan


@dataclass(frozen=True, slots=True)
class Promise:
    """What a plan says of its endpoint; every field None (or False) where nothing is promised.

    `concurrency`, `input_tokens`, `output_tokens` are the planned load; the figures are p50 (ms) and the whole
    deployment's output tokens/s, with their bands.
    """

    engine: str | None = None
    served_name: str | None = None
    max_model_len: int | None = None
    concurrency: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: Figure | None = None
    itl_ms: Figure | None = None
    output_tokens_per_s: Figure | None = None
    memory: MemoryLedger | None = None
    grammar: bool = False
    block_size: int | None = None
    poisson: bool = False


def promise_of(plan: Plan) -> Promise:
    """What `plan` says."""
    best, request, performance = plan.best, plan.request, plan.best.performance
    return Promise(
        engine=best.engine.name,
        served_name=best.model.served_name,
        max_model_len=best.limits.max_model_len,
        concurrency=request.concurrency or best.limits.max_num_seqs * best.parallelism.data * best.parallelism.decoders,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        ttft_ms=performance.ttft_ms.p50 if performance else None,
        itl_ms=performance.itl_ms.p50 if performance and performance.itl_ms else None,
        output_tokens_per_s=performance.output_tokens_per_s if performance else None,
        memory=best.memory,
        grammar=plan.resolved.engine.has("grammar"),
        block_size=best.limits.block_size,
        poisson=request.arrival == "poisson",
    )
