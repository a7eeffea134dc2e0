"""`kustomization.yaml`: what differs between clusters, over k8s.yaml, and the priority of its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts import kubernetes
from planner.render.artifacts.docker import headline
from planner.render.launch import plan_launch
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill, static

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
        ),
        "priorityclass.yaml": static("kustomize/priorityclass.yaml"),
        **kubernetes.render(plan, slugs),
    }


TARGET = Target(
    "kustomize",
    "Kustomize overlay over the manifests",
    ("kustomization.yaml", "priorityclass.yaml"),
    kubernetes.refuses,
    render,
    default=False,
)
