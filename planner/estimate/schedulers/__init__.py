"""One file per engine family: what its scheduler lets into a step."""

from __future__ import annotations

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
    """The scheduling policy of `deployment`'s engine. KeyError for an engine without one."""
    return _FAMILIES[deployment.engine.engine](deployment, workload, kv_pool_tokens)
