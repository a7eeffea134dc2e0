"""llama.cpp's server, and Ollama on top of it: a fixed number of slots, further requests queue.

Slots share every batch: decodes first, then prompt chunks up to n_batch. Source: llama.cpp
tools/server; ollama envconfig (OLLAMA_NUM_PARALLEL).
"""

from __future__ import annotations

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers.policy import LENGTH_SPREAD, Policy

BATCH_TOKENS = 512
"""num_batch where the deployment names none."""


def policy(deployment: Deployment, workload: Workload, kv_pool_tokens: int) -> Policy:
    """Each slot owns a context of its own, so only the number of slots limits."""
    limits = deployment.limits
    slots = limits.num_parallel or limits.max_num_seqs
    return Policy(
        max_sequences=float(max(1, slots)),
        step_tokens=float(limits.num_batch or BATCH_TOKENS),
        mixes=True,
        reserved_tokens=1.0,
        pool_tokens=float("inf"),
        reserves=True,
        prefix_cache=True,
        prefix_copies=float(max(1, min(slots, workload.concurrency))),  # a prompt takes the slot most like it
        length_spread=0.0 if workload.same_lengths else LENGTH_SPREAD,
    )
