"""Order assessed candidates by the objective, under the latency targets.

A candidate that meets the targets beats one that does not; within either, the objective's utility
decides, less a small price for lost quality. Utilities are in log2 units: 0.1 is about 7 %.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.advise.brief import Brief
from planner.advise.evaluate import is_whole

if TYPE_CHECKING:
    from planner.advise.candidates import Candidate
    from planner.advise.evaluate import Assessment

QUALITY_PRICE = 0.15
"""Utility lost per percent of perplexity (`quality_rank`): a lossier format must be 11 % faster for each."""
UNPUBLISHED_PRICE = 0.25
"""Utility lost by weights that nobody is known to publish: quantized while loading, or by the user."""
UNSEEN_PRICE = 0.05
"""Utility lost by a checkpoint that is named by its publisher's pattern and that nobody here has opened."""
CONTEXT_PRICE = 0.2
"""Utility lost per halving of the context below the preferred one."""
PIPELINE_PRICE = 0.3
"""Utility lost per doubling of pipeline stages within a host: bubbles and stage imbalance that means hide."""
TIE = 0.01
"""Utility lost per percent of perplexity where cost is the objective."""
DEVICE_PRICE = 0.02
"""Utility lost per doubling of devices when nothing else tells two candidates apart."""


def excess(assessment: Assessment, brief: Brief) -> float:
    """By how much TTFT and ITL exceed their targets, and an asked arrival rate what is served, in log2 units
    together; 0 means all are met, or nearly met where the targets are our own defaults."""
    ttft = assessment.figures.ttft_tail_s * 1000 / (brief.slack * brief.ttft_ms)
    itl = assessment.figures.itl_s * 1000 / (brief.slack * brief.itl_ms)
    served = assessment.figures.output_tokens_per_s / brief.workload.output_tokens
    over = math.log2(max(1.0, ttft)) + math.log2(max(1.0, itl))
    if brief.keeps_up(served):
        return over
    assert brief.workload.request_rate is not None
    return over + math.log2(brief.workload.request_rate / served)


def meets(assessment: Assessment, brief: Brief) -> bool:
    """True when the quick look meets both targets, and keeps up with the arrival rate."""
    return excess(assessment, brief) == 0


def terms(assessment: Assessment, brief: Brief) -> list[tuple[str, float]]:
    """What the score is made of, as (name, worth): their sum is the score, larger is better.

    Meeting the targets comes first, then keeping all layers on the device, then the objective. Where no
    candidate meets the targets, the miss and the objective weigh the same.
    """
    candidate, figures = assessment.candidate, assessment.figures
    devices = candidate.parallelism.devices_per_replica * candidate.parallelism.replicas
    rank = candidate.quantization.quality_rank + candidate.kv_format.quality_rank
    share = 0.1 if brief.objective == "quality" else 1.0  # where quality leads, the rest tells equals apart
    if brief.objective == "latency":
        seconds = figures.ttft_s + figures.itl_s * max(1, brief.workload.output_tokens - 1)
        found = [("answer time", -math.log2(seconds))]
    else:
        found = [("throughput", share * math.log2(max(figures.output_tokens_per_s, 1e-9)))]
    loss = {"quality": 10 + share * QUALITY_PRICE, "cost": TIE}.get(brief.objective, QUALITY_PRICE)
    found.append(("lost quality", -loss * rank))
    found.append(("availability", -share * _availability_price(candidate, brief)))
    shorter = math.log2(brief.context_tokens / assessment.deployment.limits.max_model_len)
    found.append(("context", -share * CONTEXT_PRICE * shorter))
    if brief.objective == "cost":  # a rented machine is paid whole
        found.append(("devices", 0.0 if brief.machine.instance else -math.log2(max(1, devices))))
    else:
        found.append(("devices", -DEVICE_PRICE * math.log2(max(1, devices))))
        if candidate.parallelism.devices_per_replica <= brief.machine.devices_per_node:
            found.append(("pipeline stages", -PIPELINE_PRICE * math.log2(candidate.parallelism.pipeline)))
    over = excess(assessment, brief)
    found.append(("missed targets", -(100.0 + over) if over else 0.0))
    found.append(("layers on the CPU", 0.0 if is_whole(assessment.memory, brief) else -10.0))
    return found


def _availability_price(candidate: Candidate, brief: Brief) -> float:
    """What it costs that the very weights may have to be made: nothing for a checkpoint that was seen."""
    if candidate.checkpoint is not None:
        return UNSEEN_PRICE if candidate.checkpoint.provenance.basis == "estimated" else 0.0
    base = {brief.model.quantization, *(("fp16", "bf16") if brief.model.quantization in ("bf16", "fp16") else ())}
    return 0.0 if candidate.quantization.id in base else UNPUBLISHED_PRICE


def score(assessment: Assessment, brief: Brief) -> float:
    """One number to sort by: the sum of `terms`."""
    return sum(worth for _, worth in terms(assessment, brief))


def ordered(assessments: list[Assessment], brief: Brief) -> list[Assessment]:
    """Best first; equal scores are told apart by name, so that the order never depends on luck."""
    return sorted(assessments, key=lambda a: (-round(score(a, brief), 6), a.candidate.label))
