"""`k8s.yaml`: priority, account, volume claim, settings, Service, Deployment, disruption budget, network policy.

No namespace: that is the cluster's choice (`kubectl apply -n`, or the overlay of target kustomize).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.render import placement, pod
from planner.render.launch import Launch, plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

AUTOSCALERS = ("hpa", "keda")
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
"""Where Prometheus is, which an autoscaler asks: its namespace may read the metrics."""


def refuses(plan: Plan) -> str | None:
    """Besides what no container can do: weights on the user's own disk, which no pod sees."""
    return why_no_container(plan) or cluster_cannot(plan) or floating_tag(plan)


def cluster_cannot(plan: Plan, *, fetches_s3: bool = False) -> str | None:
    """Why a cluster cannot run what a container on this machine can; None when it can."""
    reason = placement.why_not_in_cluster(plan, fetches_s3=fetches_s3)
    if reason is not None:
        return reason
    launch = plan_launch(plan)
    if launch.local_model is not None:
        return "the weights are a path of this machine, which a pod cannot read; plan with a Hub repository"
    if launch.uses_gpu and launch.kubernetes_resource is None:
        device = plan.resolved.machine.accelerator
        if device is not None and device.part == "MIG":
            return "the resource of a MIG slice has its size in the name (1g.10gb), and nvidia-smi -L did not tell it"
        return f"no Kubernetes device plugin is known for {launch.platform}"
    return None


def floating_tag(plan: Plan) -> str | None:
    """Why an image cannot be named in a manifest; the chart asks for a digest instead."""
    return (
        None
        if plan_launch(plan).fixed_image
        else "the image has a floating tag only; use target helm, which asks for a digest"
    )


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `kubectl apply -f`; without a number of replicas when an autoscaler is rendered too."""
    launch = plan_launch(plan)
    elastic = any(slug in slugs for slug in AUTOSCALERS)
    several = elastic or launch.replicas > 1
    return {"k8s.yaml": manifests(plan, launch, pod.pod_of(launch, several=several), several=several, elastic=elastic)}


def manifests(
    plan: Plan,
    launch: Launch,
    pod_: pod.Pod,
    *,
    several: bool,
    elastic: bool = False,
    start: bool = True,
    **network: Any,
) -> str:
    """The objects around `pod_`. `several` replicas share one claim, so many nodes must be able to mount it; `start`
    says on top how to apply k8s.yaml; `network` differs from the usual policy (`open_to`, `dns_ports`)."""
    return fill(
        "kubernetes/k8s.yaml.j2",
        **pod.values(plan, launch, pod_, **({"open_to": MONITORING} if elastic else {}), **network),
        access_mode="ReadWriteMany" if several else "ReadWriteOnce",
        several=several,
        elastic=elastic,
        start=start,
    )


TARGET = Target("kubernetes", "Kubernetes manifests", ("k8s.yaml",), refuses, render)
