"""`production-stack.yaml`: values of the vLLM production stack's chart, with every planned figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import placement, pod
from planner.render.charts import why_no_vllm_chart
from planner.render.launch import plan_launch
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "production-stack.yaml"
GRACE_S, ROLLOUT_S = 30, 1200
"""Kubernetes' grace period, which the chart leaves as it is, and how long the chart lets a rollout take."""
_MARGIN_S = 5
_SAID_BY_VALUES = (
    "--revision",
    "--tensor-parallel-size",
    "--max-model-len",
    "--max-num-seqs",
    "--gpu-memory-utilization",
    "--host",
    "--port",
)


def refuses(plan: Plan) -> str | None:
    """The chart joins repository and tag itself, so it cannot take a digest."""
    reason = why_no_vllm_chart(plan)
    if reason is None and split_reference(plan_launch(plan).image)[2]:
        return "the chart takes a repository and a tag, not a digest"
    return reason


def _words(plan: Plan, args: tuple[str, ...]) -> list[str]:
    """What the chart does not say itself; requests get the time to finish that its pods have."""
    startup = plan.resolved.engine.startup
    flag = startup.drain_flag if startup is not None else None
    words = [word for word in args if word.partition("=")[0] not in _SAID_BY_VALUES]
    if startup is None or flag is None:
        return words
    drain_s = min(startup.drain_s, GRACE_S - _MARGIN_S)
    return [f"{flag}={drain_s}" if word.partition("=")[0] == flag else word for word in words]


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One values file."""
    from planner.sources.companions import companion_image

    launch, best = plan_launch(plan), plan.best
    repository, tag, _ = split_reference(launch.image)
    router, router_tag, _ = split_reference(placement.mirrored(plan, companion_image("lmstack-router").reference))
    text = fill(
        "production-stack/production-stack.yaml.j2",
        **pod.values(plan, launch, pod.pod_of(launch, several=False, drains=False)),
        environment=launch.environment,
        repository=repository,
        tag=tag,
        model=best.model.checkpoint,
        revision=best.model.revision,
        limits=best.limits,
        tensor=best.parallelism.tensor,
        prefix_caching=plan.resolved.engine.defaults.prefix_caching,
        words=_words(plan, launch.args[1:]),
        rollout_s=ROLLOUT_S,
        slow=launch.progress_deadline_s > ROLLOUT_S,
        access_mode="ReadWriteOnce" if launch.replicas == 1 else "ReadWriteMany",
        router_repository=router,
        router_tag=router_tag,
    )
    return {FILE: text}


TARGET = Target("production-stack", "Values of vLLM's production stack", (FILE,), refuses, render, default=False)
