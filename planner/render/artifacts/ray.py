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
GROUP = "engine"
"""Name of the workers' group, which KubeRay labels them with."""
RAY_HOME, RAY_USER = "/home/ray", 1000
_DRAFTING = {
    "--spec-method": "speculative_config.method",
    "--spec-model": "speculative_config.model",
    "--spec-tokens": "speculative_config.num_speculative_tokens",
}
Scalar = str | int | float | bool
_NOT_KWARGS = ("--served-model-name", "--host", "--port", "--shutdown-timeout")
"""What the command line says of its own server, which is Ray's here: name, address, draining."""
HEAD_MEMORY_MIB, HEAD_SHM_MIB, HEAD_CPUS = 8192, 2048, 2
OBJECT_STORE_BYTES = 1 << 30
"""Requests and answers are small; Ray's default, a third of the memory, would not fit beside the engine in /dev/shm."""
_GCS, _RAYLET, _PROXY = "/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz"
_START_S = 300
"""Ray's own processes start in seconds; weights load inside Serve, which the operator waits for by itself."""
PROBE_PERIOD_S = 10
HEAD_PORTS = (("gcs-server", 6379), ("dashboard", 8265), ("client", 10001), ("serve", 8000), ("dashboard-agent", 52365))
WORKER_PORTS = (("serve", 8000), ("dashboard-agent", 52365))
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
"""Label of the operator's pods by its chart: it hands over serveConfigV2 and reads the state from another namespace."""
_OPERATOR_PORTS = (8265, 52365, 8000)


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
    devices = nodes.rdma(plan)
    worker = pod.pod_of(
        launch,
        several=False,
        drains=False,
        container="ray-worker",
        probes=False,
        ports=WORKER_PORTS,
        watches=_watches(_RAYLET, "dashboard-agent", ready=(_PROXY, "serve")),
        resources=devices,
        pins=bool(devices),
        domain=_domain(plan, launch.name, launch.replicas) if over > 1 else None,
    )
    instance = {"app.kubernetes.io/instance": launch.name}
    text = fill(
        "ray/ray.yaml.j2",
        group=GROUP,
        **pod.values(
            plan,
            launch,
            worker,
            command=None,
            args=(),
            # KubeRay's Services select by app.kubernetes.io/name, which it sets itself
            policy_labels=instance,
            entry_port="serve",
            peers=True,
            operator_rules=({"labels": OPERATOR, "ports": _OPERATOR_PORTS},),
        ),
        head_launch=replace(
            launch,
            devices_per_replica=0,
            kubernetes_resource=None,
            cpu_request=HEAD_CPUS,
            host_memory_mib=HEAD_MEMORY_MIB,
            shm_mib=HEAD_SHM_MIB,
        ),
        head=replace(
            worker,
            container="ray-head",
            ports=HEAD_PORTS,
            watches=_watches(_GCS, "dashboard", ready=(_GCS, "dashboard")),
            resources={},
            pins=False,
            domain=None,
        ),
        no_selector={},
        object_store_bytes=OBJECT_STORE_BYTES,
        serve=serve,
        bundled=_bundled(),
        ray_version=split_reference(image.reference)[1].split("-")[0],
        nodes=over,
        workers=over * launch.replicas,
        several=True,
        access_mode="ReadWriteMany",
    )
    return {FILE: text}


def _watches(alive: str, port: str, *, ready: tuple[str, str]) -> tuple[pod.Watch, ...]:
    """Ray's own health over HTTP: what the operator would inject runs `wget`, which an image need not have."""
    path, at = ready
    return (
        pod.Watch("startup", alive, port, PROBE_PERIOD_S, _START_S // PROBE_PERIOD_S),
        pod.Watch("readiness", path, at, PROBE_PERIOD_S, 3),
        pod.Watch("liveness", alive, port, 2 * PROBE_PERIOD_S, 6),
    )


def _domain(plan: Plan, name: str, replicas: int) -> pod.Domain | None:
    """All workers are one group of pods: with one replica it must be in one domain, else it is only drawn together."""
    key = nodes.topology_key(plan)
    labels = {"app.kubernetes.io/instance": name, "ray.io/group": GROUP}
    return pod.Domain(key, labels, required=replicas == 1) if key is not None else None


_CACHES = {"weights": "huggingface", "compile-cache": "vllm"}
TARGET = Target("ray", "RayService (KubeRay), an image with Ray", (FILE,), refuses, render, default=False)
