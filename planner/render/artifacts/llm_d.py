"""`llm-d.yaml`: values of llm-d's modelservice chart. The plan's words replace the chart's own command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.render import placement, pod
from planner.render.charts import why_no_vllm_chart
from planner.render.launch import Launch, plan_launch
from planner.render.registry import Target
from planner.render.templating import fill
from planner.units import ceil_div

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "llm-d.yaml"
TARGET_PORT, NIXL_PORT = 8200, 5600
"""Where a decoder listens behind its sidecar (the chart's own default), and where NIXL introduces itself."""
TRANSFER = '--kv-transfer-config={"kv_connector":"NixlConnector","kv_role":"kv_both"}'
SEATS = "--max-num-seqs"
_ACCELERATORS = {"cuda": "nvidia", "rocm": "amd"}


def refuses(plan: Plan) -> str | None:
    """What the chart cannot start; and names that Helm would read as a template."""
    reason = why_no_vllm_chart(plan)
    if reason is None and "{{" in plan.best.model.served_name:
        return "the chart evaluates templates in the served name, and this one looks like one"
    if reason is None and split(plan) and plan.best.parallelism.replicas < 2:
        return "prefill and decode apart need two replicas or more, and this plan has one: ask for --replicas 2"
    if reason is None and split(plan) and not plan.best.parallelism.prefill:
        return "the plan does not say how many replicas prefill (best.parallelism.prefill): make it anew"
    return reason


def split(plan: Plan) -> bool:
    """True when the plan asks for prefill and decode in pods of their own."""
    return plan.best.features is not None and plan.best.features.disaggregated


def prefill_seats(plan: Plan) -> int:
    """Requests that one prefiller runs at once: its share of all users, and no more than the ledger was made for."""
    best = plan.best
    seats, layout = best.limits.max_num_seqs, best.parallelism
    return seats if plan.request.max_num_seqs else min(seats, ceil_div(seats * layout.decoders, layout.prefill))


def _roles(plan: Plan, launch: Launch) -> list[dict[str, Any]]:
    """decode, and prefill where it is apart: replicas, port and words of each."""
    if not split(plan):
        return [{"name": "decode", "replicas": launch.replicas, "port": launch.port, "args": launch.args}]
    layout = plan.best.parallelism
    moved = tuple(f"--port={TARGET_PORT}" if word.startswith("--port=") else word for word in launch.args)
    seats = f"{SEATS}={prefill_seats(plan)}"
    fewer = tuple(seats if word.startswith(f"{SEATS}=") else word for word in launch.args)
    return [
        {
            "name": "decode",
            "replicas": layout.decoders,
            "port": TARGET_PORT,
            "args": (*moved, TRANSFER),
        },
        {"name": "prefill", "replicas": layout.prefill, "port": launch.port, "args": (*fewer, TRANSFER)},
    ]


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One values file."""
    from planner.sources.companions import companion_image

    launch, parallel = plan_launch(plan), plan.best.parallelism
    sidecar = placement.mirrored(plan, companion_image("llm-d-routing-sidecar").reference) if split(plan) else None
    text = fill(
        "llm-d/llm-d.yaml.j2",
        **pod.values(plan, launch, pod.pod_of(launch, several=launch.replicas > 1)),
        uri=f"hf://{plan.best.model.checkpoint}",
        roles=_roles(plan, launch),
        sidecar=sidecar,
        service_port=launch.port,
        target_port=TARGET_PORT,
        nixl_port=NIXL_PORT,
        accelerator=_ACCELERATORS[launch.platform],
        tensor=parallel.tensor,
        data=parallel.data,
        metrics_path=plan.resolved.engine.metrics_path or "/metrics",
    )
    return {FILE: text}


TARGET = Target("llm-d", "Values of llm-d's modelservice chart", (FILE,), refuses, render, default=False, needed=split)
