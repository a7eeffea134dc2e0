"""TGI: prompts interrupt decoding, whole budgets are reserved when a request is admitted.

Source: text-generation-inference backends/v3/src/{queue,backend}.rs, v3.3.
"""

from __future__ import annotations

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers.policy import LENGTH_SPREAD, Policy

PREFILL_TOKENS = 4096
"""max_batch_prefill_tokens where the deployment names none."""
WAITING_SERVED_RATIO = 0.3
MAX_WAITING_TOKENS = 20
"""Defaults of the launcher: decoding goes on until the queue is this share of the batch, or for so many tokens."""


def policy(deployment: Deployment, workload: Workload, kv_pool_tokens: int) -> Policy:
    """A request is admitted when its prompt and its longest answer fit the remaining pool."""
    limits = deployment.limits
    pool = min(kv_pool_tokens, limits.max_batch_total_tokens or kv_pool_tokens)
    return Policy(
        max_sequences=float(limits.max_num_seqs),
        step_tokens=float(limits.max_batch_prefill_tokens or PREFILL_TOKENS),
        mixes=False,
        reserved_tokens=float(workload.input_tokens + workload.output_tokens),
        pool_tokens=float(pool),
        reserves=True,
        prefix_cache=True,
        wait_share=WAITING_SERVED_RATIO,
        wait_steps=MAX_WAITING_TOKENS,
        length_spread=0.0 if workload.same_lengths else LENGTH_SPREAD,
    )
