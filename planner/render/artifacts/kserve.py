"""`kserve.yaml`: an InferenceService that starts what was planned; for vLLM also an LLMInferenceService.

They are two ways to the same server, so each has its own file. A replica over several nodes has only
the second, which is then kserve.yaml.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.render import nodes, placement, pod
from planner.render.artifacts import kubernetes
from planner.render.launch import plan_launch, why_no_image
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE, LLM_FILE = "kserve.yaml", "kserve-llm.yaml"
MIN_TIMEOUT_S = 600
S3_SECRET = "s3-credentials"
LWS_NAME, LWS_GROUP_KEY = "leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-key"
"""Labels of the pods that KServe starts as a LeaderWorkerSet: its name, and what the pods of one group share."""
_PRESET_FLAGS = (
    "--revision",
    "--served-model-name",
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--enable-expert-parallel",
    "--host",
    "--port",
    "--shutdown-timeout",
)
"""What the presets say by themselves."""
_PLAIN = re.compile(r"--[a-z.-]+(=[A-Za-z0-9_.:/-]+)?|[A-Za-z0-9._/-]+=[A-Za-z0-9._/-]+", re.ASCII)
"""Words that mean the same to a shell, whatever it does with them."""


def refuses(plan: Plan) -> str | None:
    """What no pod can do; and what only the presets of LLMInferenceService could, but cannot."""
    reason = (
        why_no_image(plan)
        or placement.why_no_weights(plan)
        or kubernetes.cluster_cannot(plan, fetches_s3=True)
        or kubernetes.floating_tag(plan)
    )
    if reason is None and only_presets(plan):
        reason = nodes.refuses(plan) or why_no_presets(plan)
    return reason


def only_presets(plan: Plan) -> bool:
    """True where an InferenceService of ours cannot be: several nodes, or weights that KServe has to fetch from S3."""
    return nodes.nodes_per_replica(plan) > 1 or _in_s3(plan)


def why_no_predictor(plan: Plan) -> str | None:
    """Why there is no InferenceService of ours; None where there is one."""
    over = nodes.nodes_per_replica(plan)
    if over > 1:
        return f"its predictor is one pod, and a replica of this plan takes {over} nodes"
    return "the weights are in S3, which KServe's own initializer has to fetch" if _in_s3(plan) else None


def omits(plan: Plan) -> tuple[tuple[str, str], ...]:
    """The one of the two resources that this plan cannot have."""
    pairs = (("InferenceService", why_no_predictor(plan)), ("LLMInferenceService", why_no_presets(plan)))
    return tuple((what, why) for what, why in pairs if why is not None)


def _in_s3(plan: Plan) -> bool:
    site = plan.request.site
    return site is not None and site.weights is not None and site.source[0] == "s3"


def model_uri(plan: Plan) -> str:
    """Where the presets' storage initializer finds the weights: the Hub, a claim, a bucket or an image."""
    site, model = plan.request.site, plan.best.model
    if site is not None and site.weights is not None:
        kind, place = site.source
        return f"{kind}://{place}"
    return f"hf://{model.checkpoint}" + (f":{model.revision}" if model.revision else "")


def why_no_presets(plan: Plan) -> str | None:
    """Why KServe's presets cannot start this plan; None when they can."""
    best = plan.best
    if best.engine.name != "vllm":
        return f"LLMInferenceService starts vLLM, not {best.engine.name}"
    if best.quantization.startswith("gguf:") or best.engine.plugin:
        return "LLMInferenceService's presets load no GGUF file and no plugin"
    if best.engine.platform not in ("cuda", "rocm"):
        return f"LLMInferenceService has no presets for {best.engine.platform}"
    if plan.request.site is not None and not plan.request.site.hub and plan.request.site.weights is None:
        return "LLMInferenceService's presets fetch the weights first: name where they are with --weights"
    hidden = next((word for word in preset_words(plan) if not _PLAIN.fullmatch(word)), None)
    return (
        f"LLMInferenceService's presets pass words through a shell, and {hidden!r} is no plain one" if hidden else None
    )


def additional_words(plan: Plan) -> tuple[str, ...]:
    """The planned options that the presets do not set; plain words only."""
    words = preset_words(plan)
    assert all(_PLAIN.fullmatch(word) for word in words), words
    return words


def preset_words(plan: Plan) -> tuple[str, ...]:
    """The planned options that the presets do not set, whatever is in them."""
    return tuple(word for word in plan_launch(plan).args[1:] if word.partition("=")[0] not in _PRESET_FLAGS)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file, or two for a vLLM plan that fits on a node."""
    files = {}
    if only_presets(plan):
        return {FILE: llm_inference_service(plan, FILE)}
    launch, absent = plan_launch(plan), why_no_presets(plan)
    several = launch.replicas > 1
    made = pod.pod_of(launch, several=several, container="kserve-container")
    files[FILE] = fill(
        "kserve/inferenceservice.yaml.j2",
        **pod.values(plan, launch, made),
        several=several,
        access_mode="ReadWriteMany" if several else "ReadWriteOnce",
        timeout_s=max(MIN_TIMEOUT_S, launch.grace_s),
        absent=absent,
        llm_file=LLM_FILE,
    )
    if absent is None:
        files[LLM_FILE] = llm_inference_service(plan, LLM_FILE)
    return files


def llm_inference_service(plan: Plan, file: str) -> str:
    """The second form, named `file` in its own instructions."""
    launch, parallel = nodes.node_launch(plan), plan.best.parallelism
    over = nodes.nodes_per_replica(plan)
    parallelism: dict[str, int | bool] = {"tensor": parallel.tensor}
    if parallel.pipeline > 1:
        parallelism["pipeline"] = parallel.pipeline
    if parallel.data > 1:
        parallelism |= {"data": parallel.data, "dataLocal": parallel.data}
    if parallel.expert > 1:
        parallelism["expert"] = True
    return fill(
        "kserve/llminferenceservice.yaml.j2",
        **pod.values(plan, launch, pod.pod_of(launch, several=launch.replicas > 1, drains=launch.replicas > 1)),
        file=file,
        absent=why_no_predictor(plan),
        beside=FILE,
        uri=model_uri(plan),
        parallelism=parallelism,
        roles=("template", "worker") if over > 1 else ("template",),
        words=" ".join(additional_words(plan)),
        rdma=nodes.rdma(plan),
        topology_key=nodes.topology_key(plan) if over > 1 else None,
        group_key=LWS_GROUP_KEY,
        lws_name=LWS_NAME,
        s3_secret=S3_SECRET if _in_s3(plan) else None,
    )


def paths(plan: Plan) -> tuple[str, ...]:
    """The presets' file, where it stands beside an InferenceService."""
    return (LLM_FILE,) if not only_presets(plan) and why_no_presets(plan) is None else ()


TARGET = Target(
    "kserve",
    "KServe (InferenceService; kserve-llm.yaml where LLMInferenceService's presets start the plan)",
    (FILE,),
    refuses,
    render,
    default=False,
    extra=paths,
    omits=omits,
)
