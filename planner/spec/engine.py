"""One release of a serving engine: what it defaults to, accepts, supports and allocates."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from planner.spec.base import Provenance, Spec
from planner.spec.hardware import DeviceClass, Platform

EngineName = Literal["vllm", "tgi", "ollama", "llamacpp", "nim", "tensorrt_llm"]
LAYER_SPLIT_ENGINES = frozenset({"ollama", "llamacpp"})
"""Engines that put whole layers on devices or the host, and reserve a context per slot."""


class Lifecycle(Spec):
    """Whether a release still gets fixes, and what its makers recommend instead."""

    status: Literal["active", "maintenance", "archived"]
    since: str | None = None
    statement: str
    alternatives: tuple[str, ...] = ()
    provenance: Provenance


class Image(Spec):
    """A container image for one platform, and what running it needs."""

    platform: Platform
    reference: str
    """Registry/name:tag, never a floating tag."""
    verified: bool = False
    """True when somebody has seen this very tag."""
    architecture: Literal["x86_64", "aarch64", "any"] = "x86_64"
    port: int
    entrypoint: tuple[str, ...] = ()
    """What the image already runs; arguments follow it."""
    cache_path: str
    """Where weights are kept inside the container."""
    compile_cache_path: str | None = None
    user: int | None = None
    """Numeric user that the image can run as; None means root only."""
    arbitrary_user: bool = False
    """True when any UID in group 0 works (OpenShift restricted-v2)."""
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    runtime: str | None = None
    ipc_host: bool = False
    environment: dict[str, str] = {}
    model_environment: dict[str, dict[str, str]] = {}
    """What some models need beside it, by their model_type."""
    parallel_binds: tuple[str, ...] = ()
    """Folders of the host that a container reads when its server takes several devices."""
    parallel_environment: dict[str, str] = {}
    """Variables of such a server."""
    note: str = ""
    provenance: Provenance


class TokenTier(Spec):
    """Scheduler defaults for devices of at least `min_memory_gib` (as the engine decides)."""

    min_memory_gib: float
    excluded_names: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    max_num_batched_tokens: int
    max_num_seqs: int
    per_device: bool = False
    """Both figures are multiplied by tensor × pipeline (vLLM on CPU)."""


class ContextTier(Spec):
    """Ollama: default context for machines whose total VRAM is at least `min_vram_gib`."""

    min_vram_gib: float
    context_tokens: int


class OneStage(Spec):
    """Groups of at most `devices` reduce payloads of fewer than `bytes` in one stage, others in two."""

    platform: Platform
    devices: int
    bytes: int


class FusedReduction(Spec):
    """Groups of `devices` on exactly `compute_capability` whose all-reduces hold the norm behind them.

    They do up to `most_bytes` of payload, in one stage up to `one_stage_bytes`.
    """

    devices: int
    compute_capability: float
    one_stage_bytes: int
    most_bytes: int


class Defaults(Spec):
    """What the release does when a flag is left out; None where it has no such setting."""

    gpu_memory_utilization: float | None = None
    block_size: int | None = None
    block_size_by_platform: dict[Platform, int] = {}
    """Platforms whose attention kernels want another block than `block_size`."""
    token_tiers: tuple[TokenTier, ...] = ()
    context_tiers: tuple[ContextTier, ...] = ()
    max_concurrent_requests: int | None = None
    max_batch_prefill_tokens: int | None = None
    num_parallel: int | None = None
    num_batch: int | None = None
    num_ubatch: int | None = None
    max_queue: int | None = None
    kv_cache_dtype: str = "auto"
    chunked_prefill: bool = False
    chunked_prefill_above_tokens: int | None = None
    """Contexts beyond this are prefilled in chunks all the same."""
    prefix_caching: bool = False
    prefix_caching_platforms: tuple[Platform, ...] = ()
    """Where it works; empty: everywhere."""
    flash_attention: bool = True
    async_scheduling: bool | None = None
    """False where a step is planned only after the last one's tokens are known; None where there is no such choice."""
    decode_graphs: Literal["full", "piecewise"] = "full"
    """Whether a decode step is one CUDA graph, or one per piece between attention layers that run outside."""
    one_stage: tuple[OneStage, ...] = ()
    """When an all-reduce over fast links takes one stage; empty: where that is the shorter way."""
    fused_all_reduce: bool = False
    """Whether all-reduces are fused with the norms behind them, where `fused_reductions` has the group."""
    fused_reductions: tuple[FusedReduction, ...] = ()
    cudagraph_max_size: int | None = None
    cudagraph_max_size_sm100: int | None = None
    """The same on compute capability 10.x."""
    serial_model_types: tuple[str, ...] = ()
    """Ollama: model types that it runs one request at a time whatever `num_parallel` says."""

    def block_size_on(self, platform: Platform) -> int | None:
        """Tokens of one KV block on `platform`."""
        return self.block_size_by_platform.get(platform, self.block_size)


class Warmup(Spec):
    """A platform that compiles a graph for every bucket of shapes before it serves, beside none of the usual steps.

    `narrow_factor` is how many times longer a graph takes with weights below 16 bits.
    """

    seconds_per_graph: float
    narrow_factor: float = 1.0
    provenance: Provenance


class Startup(Spec):
    """What starting a server costs: seconds, host bytes, and rates that say how fast bytes arrive.

    `storage_read_bytes_per_s` and `download_bytes_per_s` are planning assumptions about a place we
    cannot see; they are data so that an operator can state his own.
    """

    engine_start_s: float
    """Process start, imports, device initialisation, until weights begin to load."""
    compile_s: float = 0.0
    """torch.compile or kernel compilation with a cold cache, for one pipeline stage."""
    graph_capture_s: float = 0.0
    warmup_s: float = 0.0
    warmup_by_platform: dict[Platform, Warmup] = {}
    storage_read_bytes_per_s: float
    download_bytes_per_s: float
    host_base_bytes: int
    """Host memory of the server without any device worker."""
    host_bytes_per_device: int
    """Host memory of one worker: runtime, pinned staging, one shard of a checkpoint in flight."""
    shm_base_bytes: int | None = None
    """/dev/shm that one device needs; None where the engine needs no more than a container has."""
    shm_bytes_per_device: int = 0
    """/dev/shm added by every device of a tensor-parallel group."""
    drain_s: int = 30
    drain_flag: str | None = None
    """Option in seconds without which the server drops running requests when it is told to stop."""
    """How long running requests may take after SIGTERM before the engine is killed."""
    provenance: Provenance


class KernelSupport(Spec):
    """That a quantization runs on a platform, and how.

    `min_compute_capability` is a gate; `native_from` is where the multiply itself runs in the
    format (below it weights are widened first: `weight_only`). `via` is `core` or the plugin that
    a stock image lacks.
    """

    quantization: str
    platform: Platform
    min_compute_capability: float | None = None
    max_compute_capability: float | None = None
    """Newest capability that still has the kernel (INT8 W8A8 ends before Blackwell)."""
    weight_only: bool = False
    """Weights are widened before the multiply on every device this row is about."""
    native_from: float | None = None
    architectures: tuple[str, ...] = ()
    """gfx names or accelerator architectures; empty means all of the platform."""
    kernel: str = ""
    via: str = "core"
    checkpoint_only: bool = True
    flag: str | None = None
    """Value of the engine's quantization flag when one must be given (online quantization)."""
    note: str = ""
    provenance: Provenance


class MemoryConstants(Spec):
    """Bytes an engine takes besides weights and KV. Laws are in `estimate/memory.py`; the
    coefficients are here, each fitted over several rows and measured on `measured_on`."""

    measured_on: str
    coefficients: dict[str, float]
    v2_architectures: tuple[str, ...] = ()
    """Architectures that vLLM's second model runner serves whatever their kind (class names of the model code)."""
    provenance: Provenance


class LoraRules(Spec):
    """What a release can attach adapters to. Architectures are class names of the model code."""

    unsupported_architectures: tuple[str, ...] = ()
    embedding_architectures: tuple[str, ...] = ()
    """Those whose embedding and head take adapters too, and so have buffers as wide as the vocabulary."""
    max_vocab_size: int | None = None
    """The head of a larger vocabulary takes no adapter, and the release refuses the model."""
    ranks: tuple[int, ...] = ()
    """Values of the rank's option; empty: any."""
    provenance: Provenance


class EngineRelease(Spec):
    """Everything version-dependent about one engine release."""

    engine: EngineName
    version: str
    title: str
    license: str
    lifecycle: Lifecycle
    images: tuple[Image, ...] = ()
    native_platforms: tuple[Platform, ...] = ()
    """Platforms on which it installs without a container."""
    device_classes: tuple[DeviceClass, ...] = ()
    capabilities: tuple[str, ...] = ()
    """openai_api, native_api, tensor_parallel, pipeline_parallel, data_parallel, expert_parallel,
    multi_node, continuous_batching, prefix_caching, speculative_decoding, lora, grammar,
    guaranteed_grammar, watermark, tool_calling, kubernetes, openshift, hf_endpoints, metrics,
    cpu_offload, layer_split, one_command, multimodal, embeddings …"""
    unsupported_model_types: tuple[str, ...] = ()
    no_float16_model_types: tuple[str, ...] = ()
    """Model types that it refuses to run in float16, and so not at all where there is no bfloat16."""
    supported_model_types: tuple[str, ...] = ()
    """Empty means every architecture in the catalog."""
    default_dtype: str = "auto"
    defaults: Defaults
    support: tuple[KernelSupport, ...]
    kv_cache_dtypes: tuple[str, ...] = ()
    """Ids of `KvFormat` that the release can keep its cache in."""
    kv_flags: dict[str, str] = {}
    """`KvFormat` id → what the engine's own option calls it."""
    kv_min_compute_capability: dict[str, float] = {}
    startup: Startup | None = None
    memory: MemoryConstants | None = None
    lora: LoraRules | None = None
    flags_file: str | None = None
    """JSON beside the release's YAML: every flag of its launcher."""
    health_path: str | None = None
    metrics_path: str | None = None
    queue_metric: str | None = None
    running_metric: str | None = None
    latest: bool = False
    calibration_lines: tuple[str, ...] = ()
    """Which fits of `catalog/calibration` stand for this release, nearest first; empty means the
    engine's own and its relatives'."""
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        """Support rows may name several `quantizations` and `platforms`; one row becomes many.

        Images and support rows without a provenance of their own take the release's.
        """
        if not isinstance(data, dict) or "provenance" not in data:
            return data
        rows: list[Any] = []
        for row in data.get("support", ()):
            if not isinstance(row, dict):
                rows.append(row)
                continue
            shared = {"provenance": data["provenance"], **row}
            quantizations = shared.pop("quantizations", None) or [shared.get("quantization")]
            platforms = shared.pop("platforms", None) or [shared.get("platform")]
            rows += [{**shared, "quantization": q, "platform": p} for q in quantizations for p in platforms]
        images = [
            {"provenance": data["provenance"], **image} if isinstance(image, dict) else image
            for image in data.get("images", ())
        ]
        startup = data.get("startup")
        if isinstance(startup, dict):
            startup = {"provenance": data["provenance"], **startup}
        return {**data, "support": rows, "images": images, "startup": startup}

    def image_for(self, platform: Platform, architecture: str = "x86_64") -> Image | None:
        """The image for `platform`, or None when the release has none."""
        for image in self.images:
            if image.platform == platform and image.architecture in (architecture, "any"):
                return image
        return None

    def has(self, capability: str) -> bool:
        """True when the release has `capability`."""
        return capability in self.capabilities
