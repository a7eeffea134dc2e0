"""A pod that runs one launch: the part that every Kubernetes target has in common.

`values` are what templates/kubernetes/pod.yaml.j2 prints. Knows nothing of the object around the pod.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from planner.records import dataclass
from planner.render import placement
from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.launch import FILES_MOUNT, PROBE_PERIOD_S, Launch
from planner.render.templating import static
from planner.units import GIB, MIB

if TYPE_CHECKING:
    from planner.spec.plan import Plan

READY_FILE = "/tmp/model-ready"
DRAIN_S = 10
"""How long a pod that is going away still takes requests: endpoints reach every node within seconds."""
CALLER = "llm-client"
"""Label of the pods, and of the namespaces, that the network policy lets ask."""
DNS_PORT = 53
_PRODUCT_LABELS = {
    "nvidia": "nvidia.com/gpu.product",
    "amd": "amd.com/gpu.product-name",
    "intel": "gpu.intel.com/product",
}
"""GPU feature discovery's, the node labeller's of ROCm/k8s-device-plugin, the NFD rules' of Intel's device plugins."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""kubelet's kubernetes.io/arch for the architectures of CPUs."""
_AMD_MEMORY_LABEL = "amd.com/gpu.vram"
"""Set by the same labeller on nodes whose GPUs are alike: whole GiB, rounded, as `192G`."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One HTTP probe of a container that does not answer as the engine does.

    `kind` is startup, readiness or liveness.
    """

    kind: str
    path: str
    port: str
    period_s: int
    failures: int

    @property
    def field(self) -> str:
        """Its name in a container."""
        return f"{self.kind}Probe"


@dataclass(frozen=True, slots=True)
class Domain:
    """One network domain (a value of the node label `key`) for all pods with `labels`: a must, or a wish."""

    key: str
    labels: Mapping[str, str]
    required: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """What differs between the pods of the targets.

    `expanded` are arguments in which Kubernetes fills in `$(NAME)`; `fields` are variables that come
    from the pod itself; `scratch` is a writable path on an empty volume. `restricted` leaves user and
    capabilities to OpenShift. `ports` and `watches` are those of a container that is not probed as the engine
    (`probes` False); `resources` come on top of the launch's; `together`: all want the same zone; `domain`
    says which, and who they are, where the object around the pod has no word for it.
    """

    grace_s: int
    container: str = "server"
    port_name: str = "http"
    service_account: bool = True
    restricted: bool = False
    probes: bool = True
    drain_s: int = 0
    spread: bool = False
    scratch: str | None = None
    expanded: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[tuple[str, int], ...] = ()
    watches: tuple[Watch, ...] = ()
    resources: Mapping[str, int] = field(default_factory=dict)
    together: bool = False
    domain: Domain | None = None
    pins: bool = False
    """Registers memory with a network card: that takes IPC_LOCK, which Kubernetes gives to root alone."""


def pod_of(launch: Launch, *, several: bool, drains: bool = True, **changes: Any) -> Pod:
    """The pod of `launch`; one of `several` is kept off the others' nodes. `drains`: a Service leads to it."""
    drain_s = DRAIN_S if drains else 0
    return Pod(**({"grace_s": launch.grace_s + drain_s, "drain_s": drain_s, "spread": several} | changes))


def values(plan: Plan, launch: Launch, pod: Pod, **changes: Any) -> dict[str, Any]:
    """Everything that the pod's template prints, and the title and labels of its object."""
    held, files = settings(launch), start_files(plan)
    return {
        "launch": launch,
        "pod": pod,
        "title": headline(plan),
        "labels": labels(launch),
        "selector": node_selector(plan),
        "alike": alike(plan),
        "device": plan.resolved.machine.accelerator.name if plan.resolved.machine.accelerator else None,
        "min_gpu_memory_mib": min_gpu_memory_mib(plan),
        "command": command(launch),
        "args": launch.args if launch.engine != "ollama" else (),
        "settings": held,
        "files": files,
        "files_name": f"{launch.name}-files",
        "config_digest": digest(held, files),
        "caller": CALLER,
        "policy_labels": labels(launch),
        "entry_port": "http",
        "peers": False,
        "operator_rules": (),
        "open_to": {},
        "dns_ports": (DNS_PORT,),
        "probe_period_s": PROBE_PERIOD_S,
        "ready_file": READY_FILE,
        "ca_folder": placement.CA_FOLDER,
        "ca_config_map": placement.CA_CONFIG_MAP,
    } | changes


def settings(launch: Launch) -> dict[str, str]:
    """The server's variables, which are a ConfigMap: the launch's, and where the weights are kept.

    vLLM's cache follows HOME unless it is told; Ollama's start script reads the model's name.
    """
    found = dict(launch.environment)
    if launch.engine == "vllm":
        found.setdefault("HF_HOME", next(volume.path for volume in launch.volumes if volume.name == "weights"))
    if launch.engine == "ollama":
        found["MODEL"] = launch.served_name
    return dict(sorted(found.items()))


def digest(*parts: Mapping[str, str]) -> str:
    """Changes with the ConfigMaps, so that pods are made anew when these are."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def labels(launch: Launch) -> dict[str, str]:
    """Labels that select the pods; also what the Service looks for."""
    return {
        "app.kubernetes.io/name": launch.engine,
        "app.kubernetes.io/instance": launch.name,
        "app.kubernetes.io/managed-by": "planner",
    }


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
    """The vendor's product label, where the catalog knows its value; else AMD's label of the memory.

    Where the CPU computes, its architecture: an image for it starts on no other.
    """
    accelerator, cpu = plan.resolved.machine.accelerator, plan.resolved.machine.cpu
    if accelerator is None:
        return {"kubernetes.io/arch": _ARCHITECTURES[cpu.architecture if cpu is not None else "x86_64"]}
    key, product = _PRODUCT_LABELS.get(accelerator.vendor), accelerator.kubernetes_product_label
    if key and product:
        return {key: product}
    if accelerator.vendor == "amd" and not accelerator.unified_memory:
        return {_AMD_MEMORY_LABEL: f"{round(accelerator.usable_memory_bytes / GIB)}G"}
    return {}


def alike(plan: Plan) -> str | None:
    """The resource that another product has as well, where no label is known that tells the two apart; else None."""
    from planner.render.launch import device_resource

    accelerator = plan.resolved.machine.accelerator
    if accelerator is None or accelerator.vendor == "nvidia" or node_selector(plan):
        return None
    return device_resource(plan.resolved)


def min_gpu_memory_mib(plan: Plan) -> int | None:
    """Without a product label: an NVIDIA node must report more memory than this (2 % of slack)."""
    accelerator = plan.resolved.machine.accelerator
    if accelerator is None or accelerator.vendor != "nvidia" or node_selector(plan):
        return None
    return accelerator.usable_memory_bytes * 98 // 100 // MIB
