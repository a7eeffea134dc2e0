"""`ray.yaml`: a RayService that runs the planned engine options in an image that has Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.render import nodes, placement, pod
from planner.render.artifacts import kubernetes
from planner.render.launch import Volume
from planner.render.names import split_reference
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.engine import EngineRelease
    from planner.spec.plan import Plan

FILE = "ray.yaml"
IMAGE = "ray-llm"
RAY_HOME, RAY_USER = "/home/ray", 1000
_DRAFTING = {
    "--spec-method": "speculative_config.method",
    "--spec-model": "speculative_config.model",
    "--spec-tokens": "speculative_config.num_speculative_tokens",
}
Scalar = str | int | float | bool
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
    if plan.best.features is not None and plan.best.features.lora_adapters:
        return "Ray Serve loads adapters from object storage, not from the Hub; use target kubernetes or lws"
    return kubernetes.cluster_cannot(plan) or _unknown_there(plan)


def _bundled() -> EngineRelease | None:
    """The catalogued release of the vLLM inside the image; None where nobody has stated it."""
    from planner.sources.catalog import load
    from planner.sources.companions import companion_image

    version = companion_image(IMAGE).engine_version
    return next((r for r in load().releases("vllm") if r.version == version), None)


def _unknown_there(plan: Plan) -> str | None:
    """Why the image's vLLM does not take the planned options; None when it does, or when its list is not known."""
    from planner.sources.flags import check_flags

    release = _bundled()
    found = check_flags(release, nodes.node_launch(plan).args) if release is not None else ()
    return f"the image with Ray holds {found[0]}" if found else None


def engine_kwargs(words: tuple[str, ...]) -> dict[str, Scalar | dict[str, Scalar]]:
    """The engine's options as keyword arguments: `--max-model-len=8192` is `max_model_len: 8192`.

    A dotted option is a key of a mapping. Drafting is the mapping that every vLLM takes, since the one in the image
    may not know the plain options.
    """
    found: dict[str, Scalar | dict[str, Scalar]] = {}
    for word in words[1:]:
        flag, equals, text = word.partition("=")
        if flag in _NOT_KWARGS:
            continue
        name, _, key = _DRAFTING.get(flag, flag.removeprefix("--").replace("-", "_")).partition(".")
        value = _typed(text) if equals else True
        if key:
            inner = found.setdefault(name, {})
            assert isinstance(inner, dict), name
            inner[key] = value
        else:
            found[name] = value
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
        image=placement.mirrored(plan, image.reference),
        user=RAY_USER,
        environment={**planned.environment, **({"HOME": RAY_HOME} if "HOME" in planned.environment else {})},
        volumes=tuple(Volume(v.name, f"{RAY_HOME}/.cache/{_CACHES[v.name]}") for v in planned.volumes),
    )
    revision = placement.placed(plan).model.revision
    kwargs = engine_kwargs(planned.args)
    if revision is not None:
        kwargs["revision"] = revision
    limits = plan.best.limits
    serve = fill(
        "ray/serve.yaml.j2",
        launch=launch,
        source=placement.placed(plan).model.checkpoint,
        engine_kwargs=kwargs,
        ongoing=limits.max_num_seqs + (limits.max_queue or limits.max_num_seqs),
    )
    text = fill(
        "ray/ray.yaml.j2",
        **pod.values(
            plan,
            launch,
            pod.pod_of(launch, several=False, drains=False, container="ray-worker", probes=False),
            command=None,
            args=(),
        ),
        serve=serve,
        bundled=_bundled(),
        ray_version=split_reference(image.reference)[1].split("-")[0],
        nodes=over,
        workers=over * launch.replicas,
        several=True,
        access_mode="ReadWriteMany",
    )
    return {FILE: text}


_CACHES = {"weights": "huggingface", "compile-cache": "vllm"}
TARGET = Target("ray", "RayService (KubeRay), an image with Ray", (FILE,), refuses, render, default=False)
