"""`k8s.yaml`: Deployment, Service, volume claim and service account, without a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.launch import FILES_MOUNT, PROBE_PERIOD_S, Launch, plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.templating import fill, static
from planner.units import MIB

if TYPE_CHECKING:
    from planner.spec.plan import Plan

READY_FILE = "/tmp/model-ready"
_PRODUCT_LABELS = {"nvidia": "nvidia.com/gpu.product", "amd": "amd.com/gpu.product-name"}


def refuses(plan: Plan) -> str | None:
    """Besides what no container can do: weights on the user's own disk, which no pod sees."""
    reason = why_no_container(plan) or cluster_cannot(plan)
    if reason is None and not plan_launch(plan).fixed_image:
        return "the image has a floating tag only; use target helm, which asks for a digest"
    return reason


def cluster_cannot(plan: Plan) -> str | None:
    """Why a cluster cannot run what a container on this machine can; None when it can."""
    launch = plan_launch(plan)
    if launch.local_model is not None:
        return "the weights are a path of this machine, which a pod cannot read; plan with a Hub repository"
    if launch.uses_gpu and launch.kubernetes_resource is None:
        return f"no Kubernetes device plugin is known for {launch.platform}"
    return None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `kubectl apply -f`."""
    launch = plan_launch(plan)
    text = fill(
        "kubernetes/k8s.yaml.j2",
        launch=launch,
        title=headline(plan),
        labels=labels(launch),
        selector=node_selector(plan),
        min_gpu_memory_mib=min_gpu_memory_mib(plan),
        command=command(launch),
        args=launch.args if launch.engine != "ollama" else (),
        files=start_files(plan),
        probe_period_s=PROBE_PERIOD_S,
        ready_file=READY_FILE,
        access_mode=access_mode(launch),
    )
    return {"k8s.yaml": text}


def labels(launch: Launch) -> dict[str, str]:
    """Labels that select the pods; also what the Service looks for."""
    return {
        "app.kubernetes.io/name": launch.engine,
        "app.kubernetes.io/instance": launch.name,
        "app.kubernetes.io/managed-by": "planner",
    }


def access_mode(launch: Launch) -> str:
    """One claim is shared by all replicas, so several need a volume that many nodes can mount."""
    return "ReadWriteOnce" if launch.replicas == 1 else "ReadWriteMany"


def command(launch: Launch) -> tuple[str, ...] | None:
    """What replaces the image's entrypoint; Ollama starts through a script that creates the model."""
    if launch.engine == "ollama":
        return ("/bin/sh", f"{FILES_MOUNT}/start.sh")
    return launch.command


def start_files(plan: Plan) -> dict[str, str]:
    """Files that the pod needs beside its image: none but for Ollama."""
    if plan.best.engine.name != "ollama":
        return {}
    return {"Modelfile": modelfile(plan), "start.sh": static("kubernetes/ollama-start.sh")}


def node_selector(plan: Plan) -> dict[str, str]:
    """The vendor's product label, where the catalog knows its value."""
    accelerator = plan.resolved.machine.accelerator
    if accelerator is None or accelerator.kubernetes_product_label is None:
        return {}
    key = _PRODUCT_LABELS.get(accelerator.vendor)
    return {key: accelerator.kubernetes_product_label} if key else {}


def min_gpu_memory_mib(plan: Plan) -> int | None:
    """Without a product label: an NVIDIA node must report more memory than this (2 % of slack)."""
    accelerator = plan.resolved.machine.accelerator
    if accelerator is None or accelerator.vendor != "nvidia" or node_selector(plan):
        return None
    return accelerator.usable_memory_bytes * 98 // 100 // MIB


TARGET = Target("kubernetes", "Kubernetes manifests", ("k8s.yaml",), refuses, render)
