"""vLLM: continuous batching with chunked prefill under a token budget, blocks taken as they are needed.

NIM and TensorRT-LLM batch in flight in the same way. Source: vLLM v1/core/sched/scheduler.py.
"""

from __future__ import annotations

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers.policy import LENGTH_SPREAD, Policy

UNCHUNKED_TOKENS = 8192
"""Budget where the deployment names none (TensorRT-LLM's default max_num_tokens)."""
BLOCK_TOKENS = 16
LAG_STEPS = 2
"""The step that runs when an answer ends, and the next, scheduled asynchronously ahead of it."""


def policy(deployment: Deployment, workload: Workload, kv_pool_tokens: int) -> Policy:
    """Running requests hold their prompt and, on average, half of their answer."""
    limits = deployment.limits
    return Policy(
        max_sequences=float(limits.max_num_seqs),
        step_tokens=float(limits.max_num_batched_tokens or UNCHUNKED_TOKENS),
        mixes=True,
        reserved_tokens=workload.input_tokens + workload.output_tokens / 2,
        pool_tokens=float(kv_pool_tokens),
        lag_steps=LAG_STEPS,
        block_tokens=float(limits.block_size or BLOCK_TOKENS),
        prefix_cache=True,
        length_spread=0.0 if workload.same_lengths else LENGTH_SPREAD,
    )
