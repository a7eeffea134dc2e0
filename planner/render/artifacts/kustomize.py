"""`kustomization.yaml`: what differs between clusters, over k8s.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts import kubernetes
from planner.render.artifacts.docker import headline
from planner.render.launch import plan_launch
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The overlay and the manifests below it."""
    launch = plan_launch(plan)
    elastic = any(slug in slugs for slug in kubernetes.AUTOSCALERS)
    name, tag, digest = split_reference(launch.image)
    return {
        "kustomization.yaml": fill(
            "kustomize/kustomization.yaml.j2",
            title=headline(plan),
            launch=launch,
            image_name=name,
            image_key="digest" if digest else "newTag",
            image_value=digest or tag,
            access_mode="ReadWriteMany" if elastic or launch.replicas > 1 else "ReadWriteOnce",
            elastic=elastic,
            # one of the two: both would set the number of replicas
            scaler=next((f"{slug}.yaml" for slug in kubernetes.AUTOSCALERS if slug in slugs), None),
        ),
        **kubernetes.render(plan, slugs),
    }


TARGET = Target(
    "kustomize",
    "Kustomize overlay over the manifests",
    ("kustomization.yaml", "k8s.yaml"),
    kubernetes.refuses,
    render,
    default=False,
)
