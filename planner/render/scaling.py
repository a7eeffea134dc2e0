"""When to add a replica: the plan's capacity as numbers that an autoscaler takes.

The signal is the engine's own queue, because a GPU is busy at one request and at a hundred. Knows
nothing of the objects that carry the numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.records import dataclass
from planner.render.artifacts import kubernetes
from planner.render.launch import plan_launch

if TYPE_CHECKING:
    from planner.spec.plan import Plan

DEFAULT_TTFT_MS = 2000.0
"""The objective of a request that names none."""
MIN_DOWN_S, MAX_DOWN_S = 300, 3600
"""Kubernetes takes no stabilisation window above an hour."""
_LABELLED = ("vllm",)
"""Engines that label their queue with the served model's name."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """`waiting` requests per replica are tolerated; seconds are stabilisation windows."""

    metric: str
    renamed: str
    """The metric's name in Kubernetes' API, which allows no colon."""
    query: str
    """PromQL: requests waiting at all replicas together."""
    metrics_path: str
    waiting: int
    why: str
    min_replicas: int
    max_replicas: int
    up_s: int
    down_s: int


def refuses(plan: Plan) -> str | None:
    """Why this plan cannot be scaled on its queue."""
    reason = kubernetes.refuses(plan)
    if reason is not None:
        return reason
    engine = plan.resolved.engine
    if plan.best.engine.name == "ollama":
        return (
            "Ollama exposes no metrics, so its queue cannot be seen, and a GPU at 100 % says nothing about load: "
            "plan replicas, or plan with engine vllm"
        )
    if plan.best.engine.name == "llamacpp":
        return "llama-server publishes its metrics only with --metrics, which this plan does not set"
    if engine.queue_metric is None or engine.metrics_path is None:
        return f"no queue metric of {engine.engine} {engine.version} is known"
    return None


def scaling(plan: Plan) -> Scaling:
    """Figures of a plan that `refuses` lets through.

    Little's law: a queue of `n` in front of a replica that finishes `r` requests per second delays
    the last one by `n / r` seconds. What the first-token objective leaves beside the planned first
    token is the delay that may be spent. Twice the planned replicas at most: twice the planned load.
    """
    best, engine, launch = plan.best, plan.resolved.engine, plan_launch(plan)
    assert engine.queue_metric is not None and engine.metrics_path is not None
    waiting, why = tolerated(plan)
    matchers = [f"service={promql(launch.name)}"]
    if best.engine.name in _LABELLED:
        matchers.append(f"model_name={promql(launch.served_name)}")
    return Scaling(
        metric=engine.queue_metric,
        renamed=engine.queue_metric.replace(":", "_"),
        query=f"sum({engine.queue_metric}{{{','.join(matchers)}}})",
        metrics_path=engine.metrics_path,
        waiting=waiting,
        why=why,
        min_replicas=launch.replicas,
        max_replicas=2 * launch.replicas,
        up_s=30,
        down_s=min(MAX_DOWN_S, max(MIN_DOWN_S, 2 * math.ceil(best.limits.load_seconds))),
    )


def tolerated(plan: Plan) -> tuple[int, str]:
    """(requests that may wait at one replica, why so many)."""
    best, replicas = plan.best, plan.best.parallelism.replicas
    most = best.limits.max_num_seqs
    if best.performance is None:
        return max(
            1, most // 8
        ), f"an eighth of the {most} requests that a replica runs at once; no figures are planned"
    objective_ms = plan.request.ttft_ms or DEFAULT_TTFT_MS
    spare_ms = objective_ms - best.performance.usual_ttft_ms.p50.value
    per_replica = best.performance.requests_per_s.value / replicas
    waiting = max(1, min(most, int(per_replica * spare_ms / 1000)))
    if spare_ms <= 0:
        return waiting, "the planned first token takes the whole objective: any queue is too long"
    why = f"{per_replica:.3g} requests/s per replica x {spare_ms / 1000:.3g} s that the first-token objective leaves"
    return waiting, why + (f", at most the {most} that a replica runs at once" if waiting == most else "")


def promql(text: str) -> str:
    """A string literal of PromQL, which escapes as Go does."""
    escaped = "".join("\\" + c if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'
