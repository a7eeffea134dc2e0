"""One replica over several nodes: how it is cut, how its nodes talk, and why it cannot be.

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
POD_INTERFACE = "eth0"
"""What kubelet's first network is called inside every pod."""
_COLLECTIVES = ("cuda", "rocm")
"""Platforms whose ranks talk by NCCL, or RCCL, which reads the same variables."""


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
    if nodes > 1 and best.engine.platform not in _COLLECTIVES:
        return f"vLLM's own launch over nodes is documented for GPUs of NVIDIA and AMD, not for {best.engine.platform}"
    if nodes > 1 and best.parallelism.data > 1:
        return "data-parallel ranks over nodes need one launch per rank; plan with tensor and pipeline parallelism"
    if best.parallelism.devices_per_replica % nodes:
        return f"{best.parallelism.devices_per_replica} devices do not divide over {nodes} nodes"
    return None


def node_launch(plan: Plan) -> Launch:
    """The launch of one node's share: its devices, the cores that these need, and how it talks to the others."""
    launch = plan_launch(plan)
    devices = launch.devices_per_replica // nodes_per_replica(plan)
    return replace(
        launch,
        devices_per_replica=devices,
        cpu_request=devices + 2 if devices else launch.cpu_request,
        environment=dict(sorted({**environment(plan), **launch.environment}.items())),
    )


def environment(plan: Plan) -> dict[str, str]:
    """Variables of ranks on several nodes: which interface they meet on; a second network would be guessed wrong.

    NCCL finds RDMA devices by itself where the pod has them, and falls back to TCP where it has none: its warnings say
    which.
    """
    if nodes_per_replica(plan) == 1 or plan.best.engine.platform not in _COLLECTIVES:
        return {}
    return {"GLOO_SOCKET_IFNAME": POD_INTERFACE, "NCCL_SOCKET_IFNAME": POD_INTERFACE, "NCCL_DEBUG": "WARN"}


def rdma(plan: Plan) -> dict[str, int]:
    """Resource → count of the network devices that a pod asks for; empty on one node, or where nobody named any."""
    site = plan.request.site
    return site.rdma_devices if site is not None and nodes_per_replica(plan) > 1 else {}


def topology_key(plan: Plan) -> str | None:
    """Label of the network domain that a replica over several nodes has to itself."""
    return plan.request.site.topology_key if plan.request.site is not None else None


def link(plan: Plan) -> str:
    """The network between nodes that the figures count on."""
    network = plan.resolved.machine.network
    return network.name if network is not None else "the network between the nodes"
