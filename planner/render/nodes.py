"""One replica over several nodes: how it is cut, and why it cannot be.

vLLM starts one process group per node by itself (`--nnodes`); no current image holds Ray.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.render.launch import Launch, plan_launch, why_no_image
from planner.units import ceil_div

if TYPE_CHECKING:
    from planner.spec.plan import Plan

MASTER_PORT = 29501


def nodes_per_replica(plan: Plan) -> int:
    """Nodes that one replica takes; 1 on CPUs and wherever it fits."""
    machine = plan.resolved.machine
    if machine.accelerator is None:
        return 1
    return ceil_div(plan.best.parallelism.devices_per_replica, max(1, machine.devices_per_node))


def refuses(plan: Plan) -> str | None:
    """Why the engine cannot be started over the nodes that this plan needs; None for one node too."""
    reason = why_no_image(plan)
    if reason is not None:
        return reason
    nodes, best = nodes_per_replica(plan), plan.best
    if best.engine.name != "vllm":
        return f"{best.engine.name} has no multi-node launch of its own; plan with engine vllm"
    if nodes > 1 and best.parallelism.data > 1:
        return "data-parallel ranks over nodes need one launch per rank; plan with tensor and pipeline parallelism"
    if best.parallelism.devices_per_replica % nodes:
        return f"{best.parallelism.devices_per_replica} devices do not divide over {nodes} nodes"
    return None


def node_launch(plan: Plan) -> Launch:
    """The launch of one node's share: its devices, and the cores that these need."""
    launch = plan_launch(plan)
    devices = launch.devices_per_replica // nodes_per_replica(plan)
    return replace(launch, devices_per_replica=devices, cpu_request=devices + 2 if devices else launch.cpu_request)
