"""Limits of one deployment: an engine version's defaults resolved for this device and entry point.

The entry point is the OpenAI server (`vllm serve` has other defaults than the offline class). What
the plan fixes wins over a default; a default over nothing. Knows which number an engine would
choose, not whether it fits: that is the memory ledger's.
"""

from __future__ import annotations

import math
from typing import Final

from planner.errors import UsageError
from planner.estimate.kvcache import kv_bytes_per_token
from planner.estimate.memory_pool import GAUDI_BLOCK_TOKENS
from planner.estimate.tensors import parameter_count
from planner.spec.engine import LAYER_SPLIT_ENGINES, EngineRelease, Startup, TokenTier
from planner.spec.hardware import Machine
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.plan import Limits, Parallelism
from planner.spec.quantization import QuantizationFormat
from planner.units import GIB, ceil_div, round_up

DISK_MARGIN: Final = 1.1
DISK_WORK_BYTES: Final = 4 * GIB
"""Compile cache, tokenizer files and logs beside the weights."""
LOAD_MARGIN: Final = 1.5
DOWNLOAD_MARGIN: Final = 1.25
BUDGET_STEP_S: Final = 30
LEAST_BUDGET_S: Final = 120
GRACE_EXTRA_S: Final = 30
"""After draining: closing connections and freeing devices."""
LEAST_CONTEXT_TOKENS: Final = 16


def resolve_limits(
    model: ModelSpec,
    quantization: QuantizationFormat,
    checkpoint: Checkpoint | None,
    release: EngineRelease,
    machine: Machine,
    parallelism: Parallelism,
    *,
    max_num_seqs: int | None = None,
    context_tokens: int | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    gpu_memory_utilization: float | None = None,
    max_num_batched_tokens: int | None = None,
    weight_bytes: int | None = None,
    kv_bits: float = 16,
    fetches: bool = True,
) -> Limits:
    """Every limit that artifacts carry. None for an argument leaves the choice to the engine's default.

    `max_num_seqs` counts the requests that one engine runs at once, `context_tokens` those of one
    request, `weight_bytes` the whole checkpoint on disk (estimated from the format when None).
    `fetches`: the first start gets the weights from a hub. Raises UsageError for a value the engine would refuse.
    """
    if gpu_memory_utilization is not None and not 0 < gpu_memory_utilization <= 1:
        raise UsageError(f"gpu memory utilization {gpu_memory_utilization:g} must be above 0 and at most 1")
    layered = release.engine in LAYER_SPLIT_ENGINES
    context = _context(model, release, machine, context_tokens)
    seqs, batched = (
        (_slots(model, release, max_num_seqs), None)
        if layered
        else _scheduler(release, machine, parallelism, context, max_num_seqs, max_num_batched_tokens)
    )
    stored = weight_bytes or (checkpoint.size_bytes if checkpoint else None) or stored_bytes(model, quantization)
    defaults, startup = release.defaults, _startup(release)
    tgi = _tgi(release, machine, context, input_tokens, output_tokens, max_num_batched_tokens)
    graphs = bucket_graphs(context, seqs, batched or tgi[1] or context)
    load_s = load_seconds(startup, machine, stored, parallelism, graphs, narrow=quantization.weight_bits < 16)
    on_host = layered and machine.accelerator is None
    return Limits(
        max_model_len=context,
        max_num_seqs=seqs,
        max_num_batched_tokens=None if release.engine == "tgi" else batched,
        gpu_memory_utilization=gpu_memory_utilization or defaults.gpu_memory_utilization,
        block_size=defaults.block_size_on(machine.platform),
        num_ctx=context if layered else None,
        num_parallel=seqs if layered else None,
        num_thread=machine.cpu.cores * machine.sockets if on_host and machine.cpu else None,
        num_batch=defaults.num_batch,
        max_queue=defaults.max_queue or defaults.max_concurrent_requests,
        max_batch_prefill_tokens=tgi[1],
        max_input_tokens=tgi[0],
        shm_bytes=shm_bytes(startup, machine, parallelism),
        host_memory_bytes=_host_bytes(
            startup, model, machine, parallelism, stored, seqs * context, kv_bits, layered=layered
        ),
        disk_bytes=_disk_bytes(model, release, checkpoint, stored),
        load_seconds=round(load_s, 1),
        startup_budget_seconds=startup_budget_seconds(startup, load_s, stored if fetches else 0),
        termination_grace_seconds=startup.drain_s + GRACE_EXTRA_S,
    )


def token_tier(release: EngineRelease, machine: Machine) -> TokenTier | None:
    """The first scheduler tier that the device passes; None where the engine has none."""
    accelerator = machine.accelerator
    memory = accelerator.usable_memory_bytes if accelerator else machine.ram_bytes or 0
    names = f"{accelerator.id} {accelerator.name}".casefold() if accelerator else ""
    for tier in release.defaults.token_tiers:
        on_platform = not tier.platforms or machine.platform in tier.platforms
        if machine.platform == "gaudi":
            memory = 0  # the plugin reports no memory here, so the smallest tier applies
        if on_platform and memory >= tier.min_memory_gib * GIB and not any(n in names for n in tier.excluded_names):
            return tier
    return None


def default_context_tokens(model: ModelSpec, release: EngineRelease, machine: Machine) -> int:
    """Context of one request when nobody sets it: the model's, capped by Ollama's tier of total VRAM."""
    if not release.defaults.context_tiers:
        return model.context_length
    accelerator = machine.accelerator
    vram = accelerator.usable_memory_bytes * machine.count if accelerator else 0
    tiers = sorted(release.defaults.context_tiers, key=lambda tier: -tier.min_vram_gib)
    tier = next(tier for tier in tiers if vram >= tier.min_vram_gib * GIB)
    return min(model.context_length, tier.context_tokens)


def stored_bytes(model: ModelSpec, quantization: QuantizationFormat) -> int:
    """Bytes of a checkpoint in `quantization`, from its bits per weight: for disk and load time only.

    Embedding and head keep 16 bits outside GGUF. The ledger counts memory tensor by tensor instead.
    """
    parameters = parameter_count(model)
    embeddings = model.vocab_size * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    bits = quantization.weight_bits
    if quantization.kind == "gguf":
        overhead = 0.0 if bits >= 16 else 0.5 if bits >= 6 else 0.9
        return round(parameters * (bits + overhead) / 8)
    if bits >= 16:
        return round(parameters * bits / 8)
    group = quantization.group_size or 0
    bits += (quantization.scale_bits + quantization.zero_point_bits) / group if group else 0
    wide = min(parameters, embeddings)
    return round((parameters - wide) * bits / 8 + wide * 2)


def bucket_graphs(context: int, sequences: int, prefill_tokens: int) -> int:
    """Graphs of Gaudi's exponential buckets: prompts by length and blocks before them, decodes by batch and blocks.

    Each range holds about log2 of its largest value, in blocks of 128 tokens (vllm-gaudi 0.26,
    extension/bucketing/exponential.py); the 36 prompts that its documentation lists for 1,024 tokens come out as 40.
    """
    blocks = ceil_div(context, GAUDI_BLOCK_TOKENS)
    prompts = _spaced(prefill_tokens) - 1
    return prompts * max(2, _spaced(blocks - 1)) + _spaced(sequences) * _spaced(blocks * sequences)


def _spaced(largest: int) -> int:
    return math.ceil(math.log2(max(1, largest))) + 1


def load_seconds(
    startup: Startup,
    machine: Machine,
    weight_bytes: int,
    parallelism: Parallelism,
    bucket_graphs: int = 0,
    *,
    narrow: bool = False,
) -> float:
    """Seconds from container start to ready with the weights on disk.

    Each node reads its own share: all of it when one copy is on the node, a stage's part across nodes. `bucket_graphs`
    count where the platform compiles them (`narrow`: weights below 16 bits, which takes longer).
    """
    nodes = max(1, ceil_div(parallelism.devices_per_replica, max(1, machine.devices_per_node)))
    read_s = weight_bytes / nodes / startup.storage_read_bytes_per_s
    warmup = startup.warmup_by_platform.get(machine.platform)
    if warmup is not None:
        per_graph_s = warmup.seconds_per_graph * (warmup.narrow_factor if narrow else 1.0)
        return startup.engine_start_s + read_s + bucket_graphs * per_graph_s
    graphs = startup.graph_capture_s if machine.accelerator else 0.0
    return startup.engine_start_s + read_s + startup.compile_s + graphs + startup.warmup_s


def startup_budget_seconds(startup: Startup, load_s: float, fetched_bytes: int) -> int:
    """What every target allows: a first start that also downloads, over a slow line, with margins, in steps of 30 s."""
    download_s = fetched_bytes / startup.download_bytes_per_s
    budget = LOAD_MARGIN * load_s + DOWNLOAD_MARGIN * download_s
    return max(LEAST_BUDGET_S, round_up(math.ceil(budget), BUDGET_STEP_S))


def shm_bytes(startup: Startup, machine: Machine, parallelism: Parallelism) -> int | None:
    """/dev/shm of one container: a base, and more for every further device of the node.

    Containers get 64 MiB unless told; NCCL and the engine's own message queues need more.
    """
    if startup.shm_base_bytes is None:
        return None
    return startup.shm_base_bytes + startup.shm_bytes_per_device * (_devices_on_node(machine, parallelism) - 1)


def _context(model: ModelSpec, release: EngineRelease, machine: Machine, asked: int | None) -> int:
    if asked is None:
        return default_context_tokens(model, release, machine)
    if asked < LEAST_CONTEXT_TOKENS:
        raise UsageError(f"a context of {asked} tokens is too short; the least is {LEAST_CONTEXT_TOKENS}")
    return min(asked, model.context_length)


def _scheduler(
    release: EngineRelease,
    machine: Machine,
    parallelism: Parallelism,
    context: int,
    asked_seqs: int | None,
    asked_tokens: int | None,
) -> tuple[int, int | None]:
    """(sequences, tokens per step) as vLLM's `_set_default_max_num_seqs_and_batched_tokens_args` does."""
    tier = token_tier(release, machine)
    if tier is None:
        default = release.defaults.max_concurrent_requests
        return asked_seqs or default or 1, asked_tokens
    factor = parallelism.tensor * parallelism.pipeline if tier.per_device else 1
    seqs = asked_seqs or tier.max_num_seqs * factor
    if asked_tokens is not None:
        if asked_seqs is not None and asked_seqs > asked_tokens:
            raise UsageError(
                f"{asked_tokens:,} batched tokens per step are fewer than {asked_seqs:,} sequences; "
                f"{release.engine} needs at least {asked_seqs:,}"
            )
        return min(seqs, asked_tokens), asked_tokens
    tokens = tier.max_num_batched_tokens * factor
    if not release.defaults.chunked_prefill and context <= (release.defaults.chunked_prefill_above_tokens or context):
        tokens = max(tokens, context)
    tokens = max(seqs, min(tokens, seqs * context)) if asked_seqs else min(tokens, seqs * context)
    return min(seqs, tokens), tokens


def _slots(model: ModelSpec, release: EngineRelease, asked: int | None) -> int:
    """Parallel slots of a llama.cpp server; one for families that Ollama runs one request at a time."""
    if model.modality == "embedding" or model.model_type in release.defaults.serial_model_types:
        return 1
    return asked or release.defaults.num_parallel or 1


def _tgi(
    release: EngineRelease, machine: Machine, context: int, prompt: int | None, output: int | None, asked: int | None
) -> tuple[int | None, int | None]:
    """(longest prompt, prefill tokens per batch); a whole prompt must fit where prefill is not chunked."""
    if release.engine != "tgi":
        return None, None
    longest = context - min(context - 1, output or max(1, context // 8))
    longest = max(longest, min(prompt or 0, context - 1))
    default = min(release.defaults.max_batch_prefill_tokens or context, context)
    chunks = release.defaults.chunked_prefill and machine.platform == "cuda"
    return longest, asked or (default if chunks else max(default, longest))


def _devices_on_node(machine: Machine, parallelism: Parallelism) -> int:
    return max(1, min(parallelism.devices_per_replica, machine.devices_per_node or 1))


def _host_bytes(
    startup: Startup,
    model: ModelSpec,
    machine: Machine,
    parallelism: Parallelism,
    stored: int,
    kv_tokens: int,
    kv_bits: float,
    *,
    layered: bool,
) -> int:
    """Host memory of one container, in whole GiB.

    With accelerators: the server, and per worker its runtime and the shard in flight; the page cache
    that loading fills is not counted, but where the engine maps one file (`layered`) and loads it again
    after every pause: then the file itself. With unified memory, weights and KV live here too. On a CPU they do
    as well, but are counted when the ledger stands (`configure`).
    """
    accelerator = machine.accelerator
    total = startup.host_base_bytes
    if accelerator is not None:
        total += startup.host_bytes_per_device * _devices_on_node(machine, parallelism)
        total += stored if layered and not accelerator.unified_memory else 0
    if accelerator is not None and accelerator.unified_memory:
        per_token = kv_bytes_per_token(model, kv_bits / 8)
        total += stored + round((per_token.unbounded_bytes + per_token.windowed_bytes) * kv_tokens)
    return round_up(total, GIB)


def _disk_bytes(model: ModelSpec, release: EngineRelease, checkpoint: Checkpoint | None, stored: int) -> int:
    """Room for the weights, in whole GiB; Ollama quantizing them itself needs the 16-bit source as well."""
    source = parameter_count(model) * 2 if release.engine == "ollama" and checkpoint is None else 0
    return round_up(round((stored + source) * DISK_MARGIN) + DISK_WORK_BYTES, GIB)


def _startup(release: EngineRelease) -> Startup:
    if release.startup is None:
        raise UsageError(f"the catalog entry of {release.engine} {release.version} says nothing about starting up")
    return release.startup
