"""`openshift.yaml`: the manifests under restricted-v2, and a Route.

An image that must be root cannot run there. For vLLM on NVIDIA Red Hat's image takes its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.render import placement, pod
from planner.render.artifacts import kubernetes
from planner.render.launch import Launch, Volume, find_image, plan_launch
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.companion import CompanionImage
    from planner.spec.plan import Plan

FILE = "openshift.yaml"
HOME = "/tmp"
CACHE = "/cache"
MIN_TIMEOUT_S = 600
_SUBSTITUTES = {("vllm", "cuda"): "redhat-vllm"}
_ENVIRONMENTS = {
    "vllm": {
        "HF_HOME": f"{CACHE}/weights",
        "VLLM_CACHE_ROOT": f"{CACHE}/compile-cache",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/compile-cache/inductor",
        "TRITON_CACHE_DIR": f"{CACHE}/compile-cache/triton",
    },
    "tgi": {"HF_HOME": f"{CACHE}/weights", "HUGGINGFACE_HUB_CACHE": f"{CACHE}/weights/hub"},
    "ollama": {"OLLAMA_MODELS": f"{CACHE}/weights"},
    "llamacpp": {"LLAMA_CACHE": f"{CACHE}/weights"},
}
"""Where an engine writes; HOME and USER are set for all, since an assigned user has neither."""


def refuses(plan: Plan) -> str | None:
    """What no pod can do, and what restricted-v2 forbids."""
    reason = kubernetes.refuses(plan)
    if reason is not None:
        return reason
    launch = plan_launch(plan)
    wanted = (*launch.capabilities, *(["an unconfined seccomp profile"] if launch.unconfined else []))
    if wanted:
        return f"the image for {launch.platform} needs {', '.join(wanted)}, which restricted-v2 does not give"
    if launch.derived_from is not None:
        return "the image with the plugin is not known to run as an assigned user; derive an image from one that does"
    if not any_user(plan) and substitute(plan) is None:
        return (
            f"{launch.engine}'s image for {launch.platform} is only known to run as root, which restricted-v2 forbids"
        )
    return None


def any_user(plan: Plan) -> bool:
    """True when the planned image runs as a user that it has never heard of.

    Ollama does once HOME and its models are on a writable volume.
    """
    image = find_image(plan.best, plan.resolved)
    return plan.best.engine.name == "ollama" or (image is not None and image.arbitrary_user)


def substitute(plan: Plan) -> CompanionImage | None:
    """The image that takes the planned one's place, if there is one."""
    from planner.sources.companions import companion_image

    name = _SUBSTITUTES.get((plan.best.engine.name, plan.best.engine.platform))
    return companion_image(name) if name else None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `oc apply -f`."""
    other = None if any_user(plan) else substitute(plan)
    launch = restricted(plan_launch(plan))
    if other is not None:
        launch = replace(
            launch,
            image=placement.mirrored(plan, other.reference),
            image_note=other.note,
            image_verified=False,
            command=launch.command or ("vllm", "serve"),
        )
    several = launch.replicas > 1
    made = pod.pod_of(launch, several=several, restricted=True, scratch=HOME)
    return {
        FILE: fill(
            "openshift/openshift.yaml.j2",
            manifests=kubernetes.manifests(plan, launch, made, several=several, start=False).rstrip("\n"),
            launch=launch,
            labels=pod.labels(launch),
            substitute=other.note if other else None,
            timeout_s=max(MIN_TIMEOUT_S, launch.grace_s),
        )
    }


def restricted(launch: Launch) -> Launch:
    """`launch` with every writable path under volumes and the user left open."""
    return replace(
        launch,
        user=None,
        environment=dict(
            sorted({**launch.environment, **_ENVIRONMENTS[launch.engine], "HOME": HOME, "USER": "llm"}.items())
        ),
        volumes=tuple(Volume(volume.name, f"{CACHE}/{volume.name}") for volume in launch.volumes),
    )


TARGET = Target("openshift", "OpenShift, restricted-v2, with a Route", (FILE,), refuses, render, default=False)
