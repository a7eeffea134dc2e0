"""One plan as something to start: image, words, environment, devices, mounts, budgets.

The only place where a configuration becomes a process; every target prints the same `Launch`, which
is why the planned limits are equal in all files. Knows nothing of file formats.
"""

from __future__ import annotations

import posixpath
import re
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from planner.records import dataclass
from planner.render import names, placement, plugins
from planner.render.arguments import container_model_path, is_local, own_path
from planner.render.arguments import ollama as ollama_arguments
from planner.render.arguments import vllm as vllm_arguments
from planner.render.quoting import mount
from planner.units import GIB, MIB, ceil_div

if TYPE_CHECKING:
    from planner.spec.engine import Image
    from planner.spec.plan import Configuration, Plan, Resolved

FILES_MOUNT = "/etc/planner"
"""Where a container finds the Modelfile and the start script. A relative FROM counts from here."""
PROBE_PERIOD_S = 10
IMAGE_PULL_S = 900
UNPRIVILEGED_PORT = 1024
DERIVED_NOTE = "built from the Dockerfile of target image; a cluster pulls it from the registry that it is pushed to."
_PLAIN_WORD = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
_BUILDERS = ("vllm", "tgi", "ollama", "llamacpp")
_DEFAULT_HEALTH = {"vllm": "/health", "tgi": "/health", "ollama": "/api/version", "llamacpp": "/health"}
_LAUNCHERS = {
    "vllm": ("vllm", "serve"),
    "tgi": ("text-generation-launcher",),
    "ollama": ("/bin/ollama", "serve"),
    "llamacpp": ("/app/llama-server",),
}
OWN_TARGETS = {"nim": ("nim", "nim-operator")}
"""Engines whose vendor's container or operator starts them: the targets that write those."""
_DEVICE_VARIABLE = {"gaudi": "HABANA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
_RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com/xe"}


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume for what a container downloads or compiles."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Launch:
    """How one replica is started, and how many there are.

    `command` replaces the image's own entrypoint (None: it stays); `args` follow. `local_devices`
    holds what a container runtime calls the devices of each replica on one host; empty tuples on a CPU.
    """

    name: str
    engine: str
    platform: str
    image: str
    image_verified: bool
    image_note: str
    fixed_image: bool
    built_here: bool
    """True where a host builds the derived image itself; a site's mirror has it, and its hosts no package index."""
    derived_from: str | None
    """The stock image that `image` adds a plugin to by the Dockerfile beside; None: `image` is the engine's own."""
    command: tuple[str, ...] | None
    args: tuple[str, ...]
    entry: tuple[str, ...]
    """What the container runs before `args`, spelled out: `command`, or the image's entrypoint."""
    environment: dict[str, str]
    device_variable: str | None
    port: int
    health_path: str
    served_name: str
    volumes: tuple[Volume, ...]
    local_model: str | None
    model_mount: str | None
    weights: placement.Weights | None
    """What a pod mounts at `model_mount`, where a cluster has the weights at hand."""
    pull_secret: str | None
    ca_bundle: str | None
    """PEM file of the user's machine; a container finds it at `placement.CA_FILE`."""
    egress_ports: tuple[int, ...]
    """Ports beside DNS that the server has to reach."""
    devices: tuple[str, ...]
    binds: tuple[str, ...]
    """Folders of a host that a container reads at the same path; on a cluster its device plugin brings them."""
    groups: tuple[str, ...]
    capabilities: tuple[str, ...]
    security_options: tuple[str, ...]
    runtime: str | None
    ipc_host: bool
    user: int | None
    shm_mib: int
    replicas: int
    devices_per_replica: int
    local_devices: tuple[tuple[str, ...], ...]
    nodes: int
    kubernetes_resource: str | None
    cpu_request: int
    host_memory_mib: int
    disk_gib: int
    startup_budget_s: int
    startup_failures: int
    grace_s: int
    token: str
    """`required`, `optional` or `none`."""
    unconfined: bool
    healthcheck: tuple[str, ...]

    @property
    def host_name(self) -> str:
        """Names containers and volumes on one host, where another engine may serve the same model beside this one."""
        return f"{self.name}-{self.engine}"

    @property
    def model_mount_field(self) -> str:
        """`target=PATH` as a field of `docker run --mount`."""
        return str(mount(f"target={self.model_mount}"))

    @property
    def progress_deadline_s(self) -> int:
        """How long a rollout may take before Kubernetes calls it failed: the budget and a pull of the image."""
        return self.startup_budget_s + IMAGE_PULL_S

    @property
    def uses_gpu(self) -> bool:
        """True when devices must be handed to the container."""
        return self.devices_per_replica > 0


def builder(engine: str) -> ModuleType:
    """The argument module of `engine`."""
    assert engine in _BUILDERS, engine
    return import_module(f"planner.render.arguments.{engine}")


def find_image(configuration: Configuration, resolved: Resolved) -> Image | None:
    """The catalogued image behind the planned reference, or the platform's own."""
    choice = configuration.engine
    if choice.image is None:
        return None
    same = [image for image in resolved.engine.images if image.reference == choice.image]
    for image in same:
        if image.platform == choice.platform:
            return image
    cpu = resolved.machine.cpu
    architecture = cpu.architecture if cpu else "x86_64"
    platform_image = resolved.engine.image_for(resolved.machine.platform, architecture)
    return platform_image or (same[0] if same else None)


def why_other_targets(engine: str) -> str:
    """What to ask for instead, for an engine that no `Launch` starts."""
    own = OWN_TARGETS.get(engine)
    return f"{engine} has targets of its own: use target {' or '.join(own)}" if own else f"no target starts {engine}"


def why_no_image(plan: Plan) -> str | None:
    """Why no image of ours runs this plan, on however many nodes; None when one does."""
    configuration, resolved = plan.best, plan.resolved
    choice = configuration.engine
    if choice.platform == "metal":
        return "a container on macOS has no access to the GPU: run Ollama natively (target ollama)"
    if choice.name not in _BUILDERS:
        return why_other_targets(choice.name)
    image = find_image(configuration, resolved)
    if image is None:
        return f"no image of {choice.name} {choice.version} for {choice.platform} is known"
    return plugins.why_no_derived_image(choice, choice.image or image.reference)


def why_no_container(plan: Plan) -> str | None:
    """Why this plan cannot run in one container of ours per replica; None when it can."""
    reason = why_no_image(plan) or placement.why_no_weights(plan)
    if reason is not None:
        return reason
    machine, per_replica = plan.resolved.machine, plan.best.parallelism.devices_per_replica
    if machine.accelerator is not None and per_replica > machine.devices_per_node:
        return (
            f"one replica takes {per_replica} devices and a node has {machine.devices_per_node}: "
            "this target starts one container per replica"
        )
    return None


def plan_launch(plan: Plan) -> Launch:
    """The `Launch` of the best configuration. `why_no_container(plan)` must be None."""
    configuration, resolved, site = placement.placed(plan), plan.resolved, plan.request.site
    image = find_image(configuration, resolved)
    assert image is not None
    choice, limits, model = configuration.engine, configuration.limits, configuration.model
    engine = builder(choice.name)
    base = placement.mirrored(plan, choice.image or image.reference)
    reference = placement.mirrored(plan, plugins.derived_reference(choice)) if choice.plugin else base
    port = image.port if image.port >= UNPRIVILEGED_PORT else image.port + 8000
    accelerator, parallel = resolved.machine.accelerator, configuration.parallelism
    per_replica = parallel.devices_per_replica if accelerator else 0
    if accelerator and resolved.engine.has("layer_split"):
        per_replica = configuration.hardware.count
    on_node = max(1, resolved.machine.devices_per_node // per_replica) if per_replica else 1
    local = min(parallel.replicas, on_node)
    device_names = resolved.machine.slices or tuple(map(str, range(local * per_replica)))
    listen = engine.listen(port)
    arguments: tuple[str, ...] = engine.arguments(configuration, resolved)
    command, entry, args = _command(configuration, image, arguments + listen)
    health = resolved.engine.health_path or _DEFAULT_HEALTH[choice.name]
    volumes = [Volume("weights", image.cache_path)]
    if image.compile_cache_path:
        volumes.append(Volume("compile-cache", image.compile_cache_path))
    environment = {
        **image.environment,
        **image.model_environment.get(resolved.model.model_type, {}),
        **(image.parallel_environment if per_replica > 1 else {}),
        **engine.environment(configuration, resolved),
        **placement.environment(site),
    }
    environment.pop("PORT", None)
    variable = _DEVICE_VARIABLE.get(choice.platform)
    if variable:
        environment.pop(variable, None)
    return Launch(
        name=f"llm-{names.slug(model.served_name)}",
        engine=choice.name,
        platform=choice.platform,
        image=reference,
        # nobody can have seen a tag that is built from the Dockerfile beside; its base is named there
        image_verified=choice.image_verified or image.verified or choice.plugin is not None,
        image_note=" ".join(filter(None, (DERIVED_NOTE if choice.plugin else "", image.note, _unlisted(resolved)))),
        fixed_image=names.has_fixed_tag(reference),
        built_here=choice.plugin is not None and (site is None or site.registry is None),
        derived_from=base if choice.plugin else None,
        command=command,
        args=args,
        entry=entry,
        environment=dict(sorted(environment.items())),
        device_variable=variable if per_replica else None,
        port=port,
        health_path=health,
        served_name=model.served_name,
        volumes=tuple(volumes),
        local_model=own_path(model) if is_local(model) and not placement.in_cluster(site) else None,
        model_mount=_model_mount(configuration),
        weights=placement.cluster_weights(plan),
        pull_secret=site.pull_secret if site else None,
        ca_bundle=site.ca_bundle if site else None,
        egress_ports=placement.egress_ports(site),
        devices=image.devices,
        binds=image.parallel_binds if per_replica > 1 else (),
        groups=image.groups,
        capabilities=image.capabilities,
        security_options=image.security_options,
        runtime=image.runtime,
        ipc_host=image.ipc_host,
        user=image.user,
        shm_mib=ceil_div(limits.shm_bytes or 64 * MIB, MIB),
        replicas=parallel.replicas,
        devices_per_replica=per_replica,
        local_devices=tuple(device_names[i * per_replica : (i + 1) * per_replica] for i in range(local)),
        nodes=configuration.hardware.nodes,
        kubernetes_resource=device_resource(resolved) if per_replica else None,
        cpu_request=_cpu_request(configuration, resolved),
        host_memory_mib=ceil_div(limits.host_memory_bytes, MIB),
        disk_gib=max(1, ceil_div(limits.disk_bytes, GIB)),
        startup_budget_s=limits.startup_budget_seconds,
        startup_failures=max(1, ceil_div(limits.startup_budget_seconds, PROBE_PERIOD_S)),
        grace_s=limits.termination_grace_seconds,
        token=token_need(configuration, resolved) if site is None or site.reaches_hub else "none",
        unconfined="seccomp=unconfined" in image.security_options,
        healthcheck=_healthcheck(choice.name, port, health),
    )


def _unlisted(resolved: Resolved) -> str:
    """What to say of a release whose options nobody has listed."""
    engine = resolved.engine
    if engine.flags_file is not None or engine.engine == "ollama":
        return ""
    return f"No option list of {engine.engine} {engine.version} is catalogued: its flags are not verified."


def _command(
    configuration: Configuration, image: Image, words: tuple[str, ...]
) -> tuple[tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]:
    """(entrypoint to set or None, entrypoint in words, arguments).

    An image whose entrypoint is not the engine's launcher (Gaudi's wrapper) gets the launcher; an
    old vLLM entrypoint (the API server module) takes the model by flag.
    """
    choice = configuration.engine
    launcher = _LAUNCHERS[choice.name]
    entry = image.entrypoint
    knows = bool(entry) and (
        entry[-1].rsplit("/", 1)[-1] in (launcher[-1].rsplit("/", 1)[-1], "tgi-entrypoint.sh", "llama-server")
        or "vllm.entrypoints.openai.api_server" in entry
    )
    command = None if knows else launcher
    entry = entry if knows else launcher
    if choice.name == "vllm" and "serve" not in entry:
        words = (f"--model={words[0]}", *words[1:])
    if choice.name == "tgi" and any(not _PLAIN_WORD.fullmatch(word) for word in words):
        command = entry = launcher  # the image's entry script splits its arguments at spaces
    if choice.name == "ollama":
        words = words[1:] if entry[-1] == "serve" else words
    return command, entry, words


def _model_mount(configuration: Configuration) -> str | None:
    """Where a local checkpoint is seen inside; for Ollama where the Modelfile beside it says."""
    model = configuration.model
    if not is_local(model):
        return None
    if configuration.engine.name != "ollama":
        return container_model_path(model)
    return posixpath.normpath(posixpath.join(FILES_MOUNT, ollama_arguments.source(configuration)))


def _cpu_request(configuration: Configuration, resolved: Resolved) -> int:
    """Cores that one replica asks a cluster for.

    On accelerators one per device and two for the server: with fewer, vLLM's processes take turns
    (its documentation's advice on CPU resources). Where the CPU computes, its threads, less a
    sixteenth that a node keeps for itself: a request for every core is never scheduled.
    """
    cpu = resolved.machine.cpu
    threads = configuration.limits.num_thread
    if threads is None and resolved.machine.accelerator is not None:
        return configuration.parallelism.devices_per_replica + 2
    cores = threads or (cpu.cores * resolved.machine.sockets if cpu else 4)
    return max(1, cores - max(1, cores // 16))


def device_resource(resolved: Resolved) -> str | None:
    """What the device plugin calls one of the machine's accelerators; None without any, or where nobody knows."""
    accelerator = resolved.machine.accelerator
    if accelerator is None:
        return None
    if accelerator.kubernetes_resource:
        return accelerator.kubernetes_resource
    if accelerator.part == "MIG":
        return None  # the plugin has a resource for each size of slice, and this one's is not known
    return "habana.ai/gaudi" if accelerator.platform == "gaudi" else _RESOURCES.get(accelerator.vendor)


def token_need(configuration: Configuration, resolved: Resolved) -> str:
    """`required`, `optional` or `none`: what the engine downloads from the Hub by itself, and whether that is gated.

    A GGUF file on vLLM comes with the tokenizer of the original repository; nobody here knows who may read an adapter.
    """
    model, features, engine = configuration.model, configuration.features, configuration.engine.name
    if engine == "ollama":
        return "none"
    gated: list[bool | None] = [] if is_local(model) else [model.gated]
    if engine == "vllm" and vllm_arguments.tokenizer(configuration, resolved) is not None:
        gated.append(resolved.model.gated)
    if features is not None and (features.lora_adapters or features.draft_model):
        gated.append(None)
    return "required" if True in gated else "optional" if None in gated else "none"


def _healthcheck(engine: str, port: int, path: str) -> tuple[str, ...]:
    """A check that the image itself can run: Python where the engine is Python, else its own client."""
    url = f"http://127.0.0.1:{port}{path}"
    if engine == "ollama":
        return ("/bin/ollama", "list")
    if engine == "llamacpp":
        return ("curl", "-fsS", "-o", "/dev/null", url)
    return ("python3", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=5)")
