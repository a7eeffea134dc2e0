"""`openshift.yaml`: the manifests under restricted-v2, and a Route; for vLLM on NVIDIA also with Red Hat's image.

The user is the project's to assign: what counts is whether an image works for one that it has never heard of, not the
user that it prepares. An image that must be root cannot run there.
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

FILE, REDHAT_FILE = "openshift.yaml", "openshift-redhat.yaml"
HOME = "/tmp"
CACHE = "/cache"
MIN_TIMEOUT_S = 600
DNS_PORTS = (pod.DNS_PORT, 5353)
"""OpenShift's DNS pods listen on the second, which is what a policy sees behind the Service."""
ROUTERS = {"policy-group.network.openshift.io/ingress": ""}
"""Label of the namespaces from which OpenShift's routers send."""
_OTHERS = {("vllm", "cuda"): "redhat-vllm"}
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
    if not any_user(plan) and redhat(plan) is None:
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


def redhat(plan: Plan) -> CompanionImage | None:
    """Red Hat's image of the same engine, if there is one."""
    from planner.sources.companions import companion_image

    name = _OTHERS.get((plan.best.engine.name, plan.best.engine.platform))
    return companion_image(name) if name else None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `oc apply -f`: the planned image where it can run; beside it, or else in its place, Red Hat's."""
    own, other = any_user(plan), redhat(plan)
    files = {FILE: _manifests(plan, FILE, None if own else other)}
    if own and other is not None:
        files[REDHAT_FILE] = _manifests(plan, REDHAT_FILE, other)
    return files


def _manifests(plan: Plan, file: str, other: CompanionImage | None) -> str:
    launch = restricted(plan_launch(plan))
    if other is not None:
        launch = replace(
            launch,
            image=placement.mirrored(plan, other.reference),
            image_note=other.note,
            image_verified=False,
            command=launch.command or ("vllm", "serve"),
            args=_without_drain(plan, launch.args),
        )
    several = launch.replicas > 1
    made = pod.pod_of(launch, several=several, restricted=True, scratch=HOME)
    manifests = kubernetes.manifests(
        plan, launch, made, several=several, start=False, open_to=ROUTERS, dns_ports=DNS_PORTS
    )
    beside = REDHAT_FILE if other is None and redhat(plan) is not None else None
    return fill(
        "openshift/openshift.yaml.j2",
        manifests=manifests.rstrip("\n"),
        launch=launch,
        labels=pod.labels(launch),
        file=file,
        beside=beside,
        redhat=other.note if other else None,
        build=other.engine_version if other else None,
        planned=plan.best.engine.version,
        forced=other is not None and not any_user(plan),
        timeout_s=max(MIN_TIMEOUT_S, launch.grace_s),
    )


def _without_drain(plan: Plan, words: tuple[str, ...]) -> tuple[str, ...]:
    """`words` less the option that an older build does not know and can do without."""
    startup = plan.resolved.engine.startup
    flag = startup.drain_flag if startup is not None else None
    return tuple(word for word in words if flag is None or word.partition("=")[0] != flag)


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


def paths(plan: Plan) -> tuple[str, ...]:
    """Red Hat's file, where it stands beside the planned image's."""
    return (REDHAT_FILE,) if any_user(plan) and redhat(plan) is not None else ()


TARGET = Target(
    "openshift",
    "OpenShift, restricted-v2, with a Route (openshift-redhat.yaml: with Red Hat's vLLM)",
    (FILE,),
    refuses,
    render,
    default=False,
    extra=paths,
)
