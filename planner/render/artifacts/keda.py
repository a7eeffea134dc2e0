"""`keda.yaml`: a ScaledObject on the engine's queue, asked of Prometheus, and what scrapes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts import hpa, kubernetes
from planner.render.registry import Target
from planner.render.scaling import refuses
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The ScaledObject, and the manifests that it belongs to."""
    return {"keda.yaml": fill("keda/keda.yaml.j2", **hpa.values(plan)), **kubernetes.render(plan, slugs)}


TARGET = Target(
    "keda", "Autoscaling on the engine's queue (KEDA)", ("keda.yaml", "k8s.yaml"), refuses, render, default=False
)
