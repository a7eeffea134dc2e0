"""A candidate becomes figures: limits resolved, the ledger computed, speed estimated.

`assess` is the cheap look that the search takes at every candidate; `configure.py` writes out a
finalist in full. Knows nothing of choosing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.advise.brief import CONTEXT_STEP_TOKENS, Brief
from planner.advise.candidates import Candidate
from planner.advise.limits import resolve_limits
from planner.estimate.deployment import Deployment
from planner.estimate.memory import ledger
from planner.estimate.memory_budget import largest_utilization
from planner.estimate.serving import Quick, quick
from planner.records import dataclass
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.units import ceil_div, gib

if TYPE_CHECKING:
    from planner.spec.calibration import Calibration
    from planner.spec.plan import MemoryLedger

MOST_SLOTS = 1024
"""Requests at once that one engine is given unless asked for more: vLLM's own default on large cards. Beyond it they
queue without taking memory for their logits."""
_WORTH_DOUBLING = 1.02


@dataclass(frozen=True, slots=True)
class Assessment:
    """A candidate that fits, with a quick look at its latencies and throughput."""

    candidate: Candidate
    deployment: Deployment
    memory: MemoryLedger
    figures: Quick


@dataclass(frozen=True, slots=True)
class Misfit:
    """A candidate that memory refuses, and what is missing."""

    candidate: Candidate
    deployment: Deployment
    memory: MemoryLedger
    reason: str


def sequences_per_engine(candidate: Candidate, brief: Brief) -> int:
    """Concurrent requests that one engine (one data-parallel rank of one replica) must admit."""
    if brief.request.max_num_seqs is not None:
        return brief.request.max_num_seqs
    layout = candidate.parallelism
    return max(1, min(MOST_SLOTS, ceil_div(brief.workload.concurrency, layout.decoders * layout.data)))


def deploy(
    candidate: Candidate,
    brief: Brief,
    context_tokens: int,
    *,
    sequences: int | None = None,
    engine_defaults: bool = False,
) -> Deployment:
    """`candidate` with its limits resolved for `context_tokens` and `sequences` at once.

    `engine_defaults` leaves what the request does not fix to the engine's own defaults (as
    `planner estimate` does); otherwise the planned load fixes them.
    """
    request = brief.request
    if sequences is None:
        sequences = request.max_num_seqs if engine_defaults else sequences_per_engine(candidate, brief)
    limits = resolve_limits(
        brief.model,
        candidate.quantization,
        candidate.checkpoint,
        candidate.release,
        brief.machine,
        candidate.parallelism,
        max_num_seqs=sequences,
        context_tokens=context_tokens,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        gpu_memory_utilization=request.gpu_memory_utilization,
        max_num_batched_tokens=request.max_num_batched_tokens,
        kv_bits=candidate.kv_format.bits,
        fetches=brief.fetches_weights,
    )
    deployment = Deployment(
        model=brief.model,
        quantization=candidate.quantization,
        kv_format=candidate.kv_format,
        machine=brief.machine,
        engine=candidate.release,
        parallelism=candidate.parallelism,
        limits=limits,
        native_compute=candidate.native,
        checkpoint=candidate.checkpoint,
        extras=candidate.extras,
    )
    if engine_defaults or request.gpu_memory_utilization is not None or limits.gpu_memory_utilization is None:
        return deployment
    most = largest_utilization(deployment)
    if limits.gpu_memory_utilization > most:  # memory shared with the system: leave it its share
        limits = limits.model_copy(update={"gpu_memory_utilization": most})
    return replace(deployment, limits=limits)


def assess(candidate: Candidate, brief: Brief, calibration: Calibration) -> Assessment | Misfit:
    """Memory and quick speed of `candidate`, with the most generous limits that keep it whole.

    The preferred context comes first, then a smaller one; engines that reserve a context per slot
    then try fewer slots. Failing all, what fits at all; failing that, the nearest miss.
    """
    best: tuple[Deployment, MemoryLedger] | None = None
    for sequences, context in _attempts(candidate, brief):
        deployment = deploy(candidate, brief, context, sequences=sequences)
        memory = ledger(deployment)
        if is_whole(memory, brief):
            best = _without_surplus(deployment, memory, brief)
            break
        if best is None or (memory.fits and not best[1].fits) or _misses_by_less(memory, best[1]):
            best = deployment, memory
        shorter = _smaller_context(brief, memory)
        if candidate.release.engine not in LAYER_SPLIT_ENGINES and shorter < context:
            smaller = deploy(candidate, brief, shorter, sequences=sequences)
            tried = ledger(smaller)
            if tried.fits:
                best = smaller, tried
    assert best is not None
    deployment, memory = best
    if not memory.fits:
        return Misfit(candidate, deployment, memory, _why_not(candidate, deployment, memory))
    figures = _figures(deployment, memory, brief, calibration)
    found = _with_slots_for_rate(Assessment(candidate, deployment, memory, figures), brief, calibration)
    layout = candidate.parallelism
    if candidate.extras is not None and candidate.extras.features.disaggregated and not layout.prefill:
        apart = layout.model_copy(
            update={"prefill": prefillers(layout.replicas, figures, brief.workload.output_tokens)}
        )
        return assess(replace(candidate, parallelism=apart), brief, calibration)
    return found


def _figures(deployment: Deployment, memory: MemoryLedger, brief: Brief, calibration: Calibration) -> Quick:
    return quick(
        deployment,
        brief.workload,
        calibration,
        memory.kv_cache_tokens,
        gpu_layers=memory.offloaded_layers,
        percentile=brief.request.slo_percentile,
    )


def _with_slots_for_rate(found: Assessment, brief: Brief, calibration: Calibration) -> Assessment:
    """Slots doubled until an asked arrival rate is served: rate × stay (Little's law) may exceed the planned users.

    Ends where memory, `MOST_SLOTS` or the engine's speed does; slots that the user fixed stay.
    """
    if brief.request.max_num_seqs is not None or not is_whole(found.memory, brief):
        return found
    limits = found.deployment.limits
    slots, tokens = limits.max_num_seqs, brief.workload.output_tokens
    while not brief.keeps_up(found.figures.output_tokens_per_s / tokens) and slots < MOST_SLOTS:
        slots = min(2 * slots, MOST_SLOTS)
        deployment = deploy(found.candidate, brief, limits.max_model_len, sequences=slots)
        memory = ledger(deployment)
        if not is_whole(memory, brief):
            break
        figures = _figures(deployment, memory, brief, calibration)
        if figures.output_tokens_per_s < _WORTH_DOUBLING * found.figures.output_tokens_per_s:
            break
        found = Assessment(found.candidate, deployment, memory, figures)
    return found


def prefillers(replicas: int, figures: Quick, output_tokens: int) -> int:
    """How many of `replicas` (two or more) prefill: the share of a request's time until its first token."""
    assert replicas > 1
    rest_s = figures.itl_s * max(1, output_tokens - 1)
    return min(replicas - 1, max(1, round(replicas * figures.ttft_s / (figures.ttft_s + rest_s))))


def _without_surplus(deployment: Deployment, memory: MemoryLedger, brief: Brief) -> tuple[Deployment, MemoryLedger]:
    """On a CPU the KV cache is host memory: as much as the planned requests need, not all there is."""
    limits = deployment.limits
    if brief.machine.accelerator is not None or brief.request.gpu_memory_utilization is not None:
        return deployment, memory
    if limits.gpu_memory_utilization is None or not memory.device_bytes:
        return deployment, memory
    needed = limits.max_num_seqs * limits.max_model_len * memory.kv_bytes_per_token
    surplus = memory.bytes_of("kv_cache") - needed
    share = limits.gpu_memory_utilization - surplus / memory.device_bytes
    if surplus <= 0:
        return deployment, memory
    tighter = replace(
        deployment, limits=limits.model_copy(update={"gpu_memory_utilization": math.ceil(share * 100) / 100})
    )
    tried = ledger(tighter)
    return (tighter, tried) if tried.fits else (deployment, memory)


def is_whole(memory: MemoryLedger, brief: Brief) -> bool:
    """True when it fits and no layer of an accelerated machine is pushed to the CPU."""
    return memory.fits and (brief.machine.accelerator is None or memory.offloaded_layers == memory.total_layers)


def _attempts(candidate: Candidate, brief: Brief) -> list[tuple[int, int]]:
    """(sequences at once, context) to try, most generous first."""
    wanted = sequences_per_engine(candidate, brief)
    if candidate.release.engine not in LAYER_SPLIT_ENGINES:
        return [(wanted, brief.context_tokens)]
    contexts = list(dict.fromkeys((brief.context_tokens, brief.min_context_tokens)))
    slots = [wanted] if brief.request.max_num_seqs is not None else [n for n in (wanted, 4, 1) if n <= wanted]
    return [(n, context) for n in dict.fromkeys(slots) for context in contexts]


def _smaller_context(brief: Brief, memory: MemoryLedger) -> int:
    largest = memory.largest_context_tokens // CONTEXT_STEP_TOKENS * CONTEXT_STEP_TOKENS
    return min(brief.context_tokens, max(brief.min_context_tokens, largest))


def _misses_by_less(memory: MemoryLedger, other: MemoryLedger) -> bool:
    return not memory.fits and not other.fits and memory.shortfall_bytes < other.shortfall_bytes


def _why_not(candidate: Candidate, deployment: Deployment, memory: MemoryLedger) -> str:
    if candidate.release.engine not in LAYER_SPLIT_ENGINES and memory.bytes_of("kv_cache") > 0:
        return (
            f"one request of {deployment.limits.max_model_len:,} tokens does not fit the KV cache of "
            f"{memory.kv_cache_tokens:,}"
        )
    return f"needs {gib(memory.shortfall_bytes)} more per device"
