"""One file per engine family: what its scheduler lets into a step."""

from __future__ import annotations

from dataclasses import replace

from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers import llamacpp, nim, tgi, vllm
from planner.estimate.schedulers.policy import Policy

_FAMILIES = {
    "vllm": vllm.policy,
    "nim": nim.policy,
    "tensorrt_llm": nim.policy,
    "tgi": tgi.policy,
    "ollama": llamacpp.policy,
    "llamacpp": llamacpp.policy,
}


def policy(deployment: Deployment, workload: Workload, kv_pool_tokens: int) -> Policy:
    """The scheduling policy of `deployment`'s engine. KeyError for an engine without one.

    Static batches take as many as their whole answers fit, and hold on to them.
    """
    rules = _FAMILIES[deployment.engine.engine](deployment, workload, kv_pool_tokens)
    if not workload.static_batches:
        return rules
    whole = float(workload.input_tokens + workload.output_tokens)
    return replace(rules, static=True, reserves=True, reserved_tokens=whole, lag_steps=0)
