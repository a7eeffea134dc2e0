"""TGI: prompts interrupt decoding, whole budgets are reserved when a request is admitted.

Source: text-generation-inference backends/v3/src/queue.rs, v3.3.
"""

from __future__ import annotations

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers.policy import LENGTH_SPREAD, Policy

PREFILL_TOKENS = 4096
"""max_batch_prefill_tokens where the deployment names none."""


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
        length_spread=0.0 if workload.same_lengths else LENGTH_SPREAD,
    )
