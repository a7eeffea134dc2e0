"""`ray.yaml`: a RayService that runs the planned engine options in an image that has Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.render import nodes, pod
from planner.render.artifacts import kubernetes
from planner.render.launch import Volume
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "ray.yaml"
IMAGE = "ray-llm"
RAY_HOME, RAY_USER = "/home/ray", 1000
_NOT_KWARGS = ("--served-model-name", "--host", "--port")


def refuses(plan: Plan) -> str | None:
    """The image is built for NVIDIA, and starts vLLM only."""
    reason = nodes.refuses(plan)
    if reason is not None:
        return reason
    if plan.best.engine.platform != "cuda":
        return f"the image with Ray and vLLM is built for NVIDIA GPUs, not for {plan.best.engine.platform}"
    if plan.best.engine.plugin or plan.best.quantization.startswith("gguf:"):
        return "the image with Ray holds no vLLM plugin; use a checkpoint that vLLM reads by itself"
    return kubernetes.cluster_cannot(plan)


def engine_kwargs(words: tuple[str, ...]) -> dict[str, str | int | float | bool]:
    """The engine's options as keyword arguments: `--max-model-len=8192` is `max_model_len: 8192`."""
    found: dict[str, str | int | float | bool] = {}
    for word in words[1:]:
        flag, equals, value = word.partition("=")
        if flag not in _NOT_KWARGS:
            found[flag.removeprefix("--").replace("-", "_")] = _typed(value) if equals else True
    return found


def _typed(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `kubectl apply -f`."""
    from planner.sources.companions import companion_image

    image = companion_image(IMAGE)
    planned, over = nodes.node_launch(plan), nodes.nodes_per_replica(plan)
    launch = replace(
        planned,
        image=image.reference,
        user=RAY_USER,
        volumes=tuple(Volume(v.name, f"{RAY_HOME}/.cache/{_CACHES[v.name]}") for v in planned.volumes),
    )
    revision = plan.best.model.revision
    kwargs = engine_kwargs(planned.args)
    if revision is not None:
        kwargs["revision"] = revision
    limits = plan.best.limits
    serve = fill(
        "ray/serve.yaml.j2",
        launch=launch,
        source=plan.best.model.checkpoint,
        engine_kwargs=kwargs,
        ongoing=limits.max_num_seqs + (limits.max_queue or limits.max_num_seqs),
    )
    text = fill(
        "ray/ray.yaml.j2",
        **pod.values(
            plan,
            launch,
            pod.pod_of(launch, several=False, container="ray-worker", probes=False),
            command=None,
            args=(),
        ),
        serve=serve,
        ray_version=split_reference(image.reference)[1].split("-")[0],
        nodes=over,
        workers=over * launch.replicas,
        several=True,
        access_mode="ReadWriteMany",
    )
    return {FILE: text}


_CACHES = {"weights": "huggingface", "compile-cache": "vllm"}
TARGET = Target("ray", "RayService (KubeRay), an image with Ray", (FILE,), refuses, render, default=False)
