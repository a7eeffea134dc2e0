"""TensorRT-LLM's in-flight batching, as NIM serves it: like vLLM's, but room for whole answers is kept.

Source: TensorRT-LLM batch manager documentation.
"""

from __future__ import annotations

from dataclasses import replace

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers import vllm
from planner.estimate.schedulers.policy import Policy


def policy(deployment: Deployment, workload: Workload, kv_pool_tokens: int) -> Policy:
    """A request is admitted when its whole answer is sure to fit (GUARANTEED_NO_EVICT)."""
    alike = vllm.policy(deployment, workload, kv_pool_tokens)
    return replace(
        alike,
        reserved_tokens=float(workload.input_tokens + workload.output_tokens),
        reserves=True,
    )
