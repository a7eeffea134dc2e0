"""`ollama-helm.yaml`: values of the community chart for Ollama (otwld/ollama)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.render import pod
from planner.render.artifacts import kubernetes, ollama
from planner.render.launch import plan_launch
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "ollama-helm.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_READ_BY_SHELL = re.compile(r"\{\{|[$`\\]|^EOF$", re.MULTILINE)
_VENDORS = {"cuda": "nvidia", "rocm": "amd"}


def refuses(plan: Plan) -> str | None:
    """The chart puts the model's name and its Modelfile into a shell command, unquoted."""
    reason = ollama.refuses(plan) or kubernetes.refuses(plan)
    if reason is not None:
        return reason
    if plan.request.site is not None and plan.request.site.ca_bundle is not None:
        return "the chart mounts no certificates of ours; use target kubernetes or helm"
    launch = plan_launch(plan)
    if not _NAME.fullmatch(launch.served_name):
        return "the chart puts the served name into a shell command and a path: letters, digits and ._- only"
    if _READ_BY_SHELL.search(ollama.modelfile(plan)):
        return "the chart passes the Modelfile through a template and an unquoted here-document, which would change it"
    if split_reference(launch.image)[2]:
        return "the chart takes a repository and a tag, not a digest"
    return None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One values file."""
    launch = plan_launch(plan)
    repository, tag, _ = split_reference(launch.image)
    environment = {name: value for name, value in launch.environment.items() if name != "OLLAMA_HOST"}
    text = fill(
        "ollama-helm/ollama-helm.yaml.j2",
        **pod.values(plan, launch, pod.pod_of(launch, several=False, drains=False)),
        repository=repository,
        tag=tag,
        vendor=_VENDORS.get(launch.platform, ""),
        modelfile=ollama.modelfile(plan),
        environment=environment,
        access_mode="ReadWriteOnce" if launch.replicas == 1 else "ReadWriteMany",
    )
    return {FILE: text}


TARGET = Target("ollama-helm", "Values of the community chart for Ollama", (FILE,), refuses, render, default=False)
