"""`lws.yaml`: a LeaderWorkerSet that starts vLLM's own multi-node launch, one group of pods per replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.render import nodes, pod
from planner.render.artifacts import kubernetes
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "lws.yaml"
LEADER, INDEX = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
"""Variables that the controller sets in every pod of a group."""


def refuses(plan: Plan) -> str | None:
    """A replica on one node needs no group."""
    reason = nodes.refuses(plan)
    if reason is None and nodes.nodes_per_replica(plan) == 1:
        reason = "one replica fits on a node: use target kubernetes"
    return reason or kubernetes.cluster_cannot(plan) or kubernetes.floating_tag(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `kubectl apply -f`."""
    launch, size = nodes.node_launch(plan), nodes.nodes_per_replica(plan)
    joined = (
        "--distributed-executor-backend=mp",
        f"--nnodes={size}",
        f"--master-addr={LEADER}",
        f"--master-port={nodes.MASTER_PORT}",
    )
    devices = nodes.rdma(plan)
    leader = pod.pod_of(
        launch,
        several=False,
        # several groups may well be in several zones
        together=launch.replicas == 1,
        resources=devices,
        pins=bool(devices),
        expanded=(*joined, "--node-rank=0"),
        fields={"VLLM_HOST_IP": "status.podIP"},
    )
    startup = plan.resolved.engine.startup
    draining = leader.drain_s + (startup.drain_s if startup is not None else 0)
    worker = replace(
        leader,
        probes=False,
        # as long as the leader has requests to finish, which need every stage
        drain_s=draining,
        grace_s=draining + launch.grace_s,
        expanded=(*joined, f"--node-rank={INDEX}", "--headless"),
    )
    text = fill(
        "lws/lws.yaml.j2",
        **pod.values(plan, launch, leader, peers=True),
        worker=worker,
        # the controller makes a headless Service of this name; the plain name is the Service that clients use
        group=f"{launch.name}-group",
        link=nodes.link(plan),
        topology_key=nodes.topology_key(plan),
        nodes=size,
        several=True,
        access_mode="ReadWriteMany",
    )
    return {FILE: text}


TARGET = Target(
    "lws",
    "LeaderWorkerSet: one replica over several nodes",
    (FILE,),
    refuses,
    render,
    default=False,
    needed=lambda plan: nodes.nodes_per_replica(plan) > 1,
)
