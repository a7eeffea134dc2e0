"""`llm-d.yaml`: values of llm-d's modelservice chart. The plan's words replace the chart's own command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import pod
from planner.render.charts import why_no_vllm_chart
from planner.render.launch import plan_launch
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "llm-d.yaml"
_ACCELERATORS = {"cuda": "nvidia", "rocm": "amd"}


def refuses(plan: Plan) -> str | None:
    """What the chart cannot start; and names that Helm would read as a template."""
    reason = why_no_vllm_chart(plan)
    if reason is None and "{{" in plan.best.model.served_name:
        return "the chart evaluates templates in the served name, and this one looks like one"
    return reason


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One values file."""
    launch, parallel = plan_launch(plan), plan.best.parallelism
    text = fill(
        "llm-d/llm-d.yaml.j2",
        **pod.values(plan, launch, pod.pod_of(launch, several=launch.replicas > 1)),
        uri=f"hf://{plan.best.model.checkpoint}",
        accelerator=_ACCELERATORS[launch.platform],
        tensor=parallel.tensor,
        data=parallel.data,
        metrics_path=plan.resolved.engine.metrics_path or "/metrics",
    )
    return {FILE: text}


TARGET = Target("llm-d", "Values of llm-d's modelservice chart", (FILE,), refuses, render, default=False)
