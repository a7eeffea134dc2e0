"""`hpa.yaml`: an autoscaler on the engine's queue, what scrapes it, and the adapter's rule.

Writes k8s.yaml too: its Deployment must leave the number of replicas to the autoscaler.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from planner.render.artifacts import kubernetes
from planner.render.artifacts.docker import headline
from planner.render.launch import plan_launch
from planner.render.pod import labels
from planner.render.registry import Target
from planner.render.scaling import refuses, scaling
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

MIN_PERIOD_S, MAX_PERIOD_S = 60, 1800
"""Kubernetes takes no scaling period above half an hour."""


def values(plan: Plan) -> dict[str, Any]:
    """What the templates of both autoscalers print."""
    launch, load_s = plan_launch(plan), math.ceil(plan.best.limits.load_seconds)
    scaled = scaling(plan)
    return {
        "title": headline(plan),
        "launch": launch,
        "labels": labels(launch),
        "scaling": scaled,
        "down_period_s": min(MAX_PERIOD_S, scaled.down_s),
        "load_s": load_s,
        "load_period_s": min(MAX_PERIOD_S, max(MIN_PERIOD_S, load_s)),
    }


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """Autoscaler, adapter values, and the manifests that they belong to."""
    filled = values(plan)
    metric = filled["scaling"].metric
    return {
        "hpa.yaml": fill("hpa/hpa.yaml.j2", **filled),
        "prometheus-adapter.yaml": fill(
            "hpa/prometheus-adapter.yaml.j2",
            **filled,
            series=f'{metric}{{namespace!="",pod!=""}}',
            matches=f"^{re.escape(metric)}$",
        ),
        **kubernetes.render(plan, slugs),
    }


TARGET = Target(
    "hpa",
    "Autoscaling on the engine's queue (HPA)",
    ("hpa.yaml", "prometheus-adapter.yaml", "k8s.yaml"),
    refuses,
    render,
    default=False,
)
