"""A cluster's accelerator nodes from `kubectl get nodes -o json`: labels, allocatable devices, memory.

Labels are those of NVIDIA's GPU feature discovery, AMD's and Intel's device plugins. Looks at nodes only: what
running pods already hold is not subtracted, and that is said.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from planner.errors import UsageError
from planner.sources.detect.found import Run, number

NODES: Final = ("kubectl", "get", "nodes", "-o", "json")
RESOURCES: Final = {
    "nvidia.com/gpu": ("nvidia.com/gpu.product",),
    "amd.com/gpu": ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
    "habana.ai/gaudi": ("habana.ai/gaudi.product", "gaudi.habana.ai/product"),
    "gpu.intel.com/i915": ("gpu.intel.com/product",),
    "gpu.intel.com/xe": ("gpu.intel.com/product",),
}
"""Extended resource → labels that name the product."""
_SUFFIXES: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9,
                    "T": 10**12, "": 1}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodePool:
    """Nodes that are alike: `nodes` of `per_node` devices called `product`."""

    product: str
    resource: str
    per_node: int
    nodes: int
    ram_bytes: int | None
    notes: tuple[str, ...] = ()


def pools(run: Run) -> tuple[NodePool, ...]:
    """The cluster's accelerator nodes, most devices first. Raises UsageError when kubectl does not answer."""
    text = run(NODES)
    if text is None:
        raise UsageError("kubectl get nodes does not answer; is a cluster configured (kubectl config current-context)?")
    return parse_nodes(text)


def parse_nodes(text: str) -> tuple[NodePool, ...]:
    """Ready, schedulable nodes grouped by product and count. Raises UsageError when the text is no node list."""
    try:
        items = json.loads(text)["items"]
        nodes = [item for item in items if isinstance(item, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError("kubectl get nodes -o json did not print a list of nodes") from None
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for node in nodes:
        labels, allocatable = _table(node, "metadata", "labels"), _table(node, "status", "allocatable")
        if not _ready(node):
            continue
        for resource, names in RESOURCES.items():
            count = number(allocatable.get(resource))
            product = next((labels[name] for name in names if isinstance(labels.get(name), str)), None)
            if resource == "nvidia.com/gpu":
                replicas = number(labels.get("nvidia.com/gpu.replicas")) or 1
                count = count // replicas if count and replicas > 1 else count
            if count and product:
                groups.setdefault((_plain(product), resource, count), []).append(node)
            elif count:
                groups.setdefault(("", resource, count), []).append(node)
    found = [
        NodePool(
            product=product,
            resource=resource,
            per_node=count,
            nodes=len(members),
            ram_bytes=min((m for n in members if (m := _memory(n)) is not None), default=None),
            notes=_notes(members),
        )
        for (product, resource, count), members in groups.items()
    ]
    return tuple(sorted(found, key=lambda p: (-p.per_node * p.nodes, p.product)))


def _plain(product: str) -> str:
    """The product without what sharing adds to it."""
    return re.sub(r"-SHARED$|-MIG-[\w.]+$", "", product)


def _notes(members: list[dict[str, Any]]) -> tuple[str, ...]:
    notes = []
    strategies = {_table(n, "metadata", "labels").get("nvidia.com/gpu.sharing-strategy") for n in members}
    if shared := sorted(s for s in strategies if isinstance(s, str) and s != "none"):
        notes.append(f"devices are shared ({', '.join(shared)}); whole devices are counted")
    driver = {_table(n, "metadata", "labels").get("nvidia.com/cuda.driver-version.full") for n in members} - {None}
    if driver:
        notes.append(f"driver {', '.join(sorted(map(str, driver)))}")
    return tuple(notes)


def _ready(node: dict[str, Any]) -> bool:
    spec = node.get("spec")
    if isinstance(spec, dict) and spec.get("unschedulable"):
        return False
    status = node.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for row in conditions if isinstance(conditions, list) else ():
        if isinstance(row, dict) and row.get("type") == "Ready":
            return bool(row.get("status") == "True")
    return True


def _memory(node: dict[str, Any]) -> int | None:
    match = re.fullmatch(r"(\d+)([A-Za-z]*)", str(_table(node, "status", "allocatable").get("memory", "")))
    return int(match[1]) * _SUFFIXES[match[2]] if match and match[2] in _SUFFIXES else None


def _table(node: dict[str, Any], *path: str) -> dict[str, Any]:
    value: Any = node
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
