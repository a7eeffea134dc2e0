"""The memory ledger: what each byte of the fullest device is for, and how many tokens of KV fit.

One entry, `ledger(deployment)`, for every engine; `fits(deployment)` answers the search's question
without building rows. Engines with a paged pool (vLLM on CUDA, ROCm, XPU, Gaudi and CPU; TGI; NIM;
TensorRT-LLM) are accounted for here, engines that split whole layers (llama.cpp, Ollama) in
`memory_layers`. Weights and KV are exact arithmetic, the rest are the laws of `overheads`, fitted
per release. Knows no flags and no search; does not model LoRA, draft models or images in flight.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import CatalogError
from planner.estimate.deployment import Deployment
from planner.estimate.identity import remembered
from planner.estimate.kvcache import KvPool, PoolRules, kv_layers, kv_pool
from planner.estimate.overheads import gaudi, tgi, trtllm, vllm
from planner.estimate.overheads.host import system_bytes
from planner.estimate.weights import TGI, VLLM, stage_layers, weight_bytes
from planner.spec.base import FigureBasis
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.plan import LedgerRow, MemoryLedger
from planner.spec.quantization import QuantizationFormat
from planner.units import gib

LAYER_ENGINES = ("ollama", "llamacpp")
PROBE_BYTES = 1 << 50


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of one device before KV, and how much of the device the engine gives itself.

    `graphs_bytes` is what graphs take, `deducted_graphs_bytes` how much of it is held back from the
    budget before KV is sized. `extra_reserved_bytes` are held back inside the budget on top.
    """

    total_bytes: int
    budget_bytes: int
    weights_bytes: int
    activation_bytes: int
    graphs_bytes: int
    deducted_graphs_bytes: int
    runtime_bytes: int
    formulas: dict[str, str]
    stage: int
    reserved_why: str
    extra_reserved_bytes: int = 0
    notes: tuple[str, ...] = ()
    refused: str = ""

    @property
    def available_bytes(self) -> int:
        """Left for KV; negative when it does not fit."""
        return (
            self.budget_bytes
            - self.weights_bytes
            - self.activation_bytes
            - self.deducted_graphs_bytes
            - self.runtime_bytes
            - self.extra_reserved_bytes
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """The short answer: does it fit, the KV pool of the fullest stage, and what is missing."""

    fits: bool
    kv_cache_tokens: int
    concurrent_sequences: int
    shortfall_bytes: int


def ledger(deployment: Deployment) -> MemoryLedger:
    """The ledger of the fullest device of `deployment`; rows add up to the device exactly."""
    if deployment.engine.engine in LAYER_ENGINES:
        from planner.estimate.memory_layers import layer_ledger

        return layer_ledger(deployment)
    budget, pool = _fullest(deployment)
    return _paged_ledger(deployment, budget, pool)


def fits(deployment: Deployment) -> Fit:
    """Whether `deployment` fits, several times faster than the ledger of a paged engine."""
    if deployment.engine.engine in LAYER_ENGINES:
        found = ledger(deployment)
        return Fit(found.fits, found.kv_cache_tokens, found.concurrent_sequences, found.shortfall_bytes)
    budget, pool = _fullest(deployment)
    return Fit(
        _fits(budget, pool),
        pool.tokens,
        _sequences(pool),
        _shortfall(budget, pool),
    )


def coefficients(deployment: Deployment) -> dict[str, float]:
    """The release's memory coefficients. Raises CatalogError for a release without any."""
    memory = deployment.engine.memory
    if memory is None:
        raise CatalogError(f"{deployment.engine.engine} {deployment.engine.version} has no memory constants")
    return memory.coefficients


def fitted_basis(deployment: Deployment) -> FigureBasis:
    """Basis of the fitted rows: measured on this very release, taken over from another, or estimated."""
    memory = deployment.engine.memory
    assert memory is not None
    return {"measured": "fitted", "spec": "fitted", "derived": "inherited", "estimated": "uncalibrated"}[  # type: ignore[return-value]
        memory.provenance.basis
    ]


# --- one device ----------------------------------------------------------------------------------


def _fullest(d: Deployment) -> tuple[Budget, KvPool]:
    """The stage that holds the fewest KV tokens: an engine gives all stages the smallest pool."""
    best: tuple[Budget, KvPool] | None = None
    for stage in range(d.parallelism.pipeline):
        budget = _budget(d, stage)
        pool = pool_of(d, stage, budget.available_bytes)
        if best is None or (pool.max_sequences, budget.available_bytes) < (
            best[1].max_sequences,
            best[0].available_bytes,
        ):
            best = (budget, pool)
    assert best is not None
    return best


def _budget(d: Deployment, stage: int) -> Budget:
    if d.machine.platform == "gaudi":
        return gaudi_budget(d, stage)
    if d.engine.engine == "tgi":
        return tgi_budget(d, stage)
    if d.engine.engine == "tensorrt_llm":
        return trtllm_budget(d, stage)
    return vllm_budget(d, stage)


def device_weights(d: Deployment, stage: int) -> int:
    """Bytes of weights on one device of `stage`."""
    p = d.parallelism
    return _weights(
        d.model,
        d.quantization,
        d.checkpoint,
        p.tensor,
        p.pipeline,
        stage,
        expert_ranks(d),
        d.engine.engine == "tgi",
    )


def expert_ranks(d: Deployment) -> int:
    """Ranks that the experts are spread over: with data-parallel attention, all of them."""
    p = d.parallelism
    if not d.model.is_moe:
        return 1
    if p.expert > 1:
        return p.expert
    return p.data * p.tensor if p.data > 1 else 1


@remembered
def _weights(
    model: ModelSpec,
    quant: QuantizationFormat,
    checkpoint: Checkpoint | None,
    tp: int,
    pp: int,
    stage: int,
    ep: int,
    is_tgi: bool,
) -> int:
    return weight_bytes(
        model,
        quant,
        tp=tp,
        pp=pp,
        stage=stage,
        ep=ep,
        rules=TGI if is_tgi else VLLM,
        group_size=checkpoint.group_size if checkpoint else None,
        unquantized=(checkpoint.unquantized or None) if checkpoint else None,
    )


@remembered
def _stage_layers(model: ModelSpec, pp: int, stage: int) -> range:
    return stage_layers(model.n_layers, pp, stage)


@remembered
def is_hybrid(model: ModelSpec) -> bool:
    """True when any layer keeps recurrent state."""
    return any(row.kind == "state" for row in kv_layers(model, 2))


@remembered
def _geometry(
    model: ModelSpec, tp: int, pp: int, stage: int, itemsize: float, max_model_len: int, rules: PoolRules
) -> KvPool:
    layers = stage_layers(model.n_layers, pp, stage)
    return kv_pool(
        model, PROBE_BYTES, max_model_len=max_model_len, kv_dtype_bytes=itemsize, tp=tp, layers=layers, rules=rules
    )


def pool_rules(d: Deployment) -> PoolRules:
    """How the engine pages: block size, and whether windowed layers free what they left behind."""
    limits = d.limits
    block = limits.block_size or d.engine.defaults.block_size or 16
    return PoolRules(
        block_tokens=128 if d.machine.platform == "gaudi" else block,
        hybrid=d.engine.engine not in ("tgi",) and d.machine.platform != "gaudi",
        max_num_batched_tokens=limits.max_num_batched_tokens or limits.max_batch_prefill_tokens or limits.max_model_len,
    )


def pool_of(d: Deployment, stage: int, available_bytes: int, context: int | None = None) -> KvPool:
    """The KV pool of `available_bytes` on one device of `stage`."""
    length = context or d.limits.max_model_len
    shape = _geometry(
        d.model,
        d.parallelism.tensor,
        d.parallelism.pipeline,
        stage,
        d.kv_format.bits / 8,
        length,
        pool_rules(d),
    )
    return refill(shape, available_bytes, length)


def refill(shape: KvPool, available_bytes: int, max_model_len: int) -> KvPool:
    """`shape` with another amount of bytes: what `kv_pool` would say, without grouping layers again."""
    if shape.block_bytes == 0:
        return shape
    blocks = max(available_bytes, 0) // shape.block_bytes
    sequences = blocks / shape.blocks_per_sequence
    tokens = int(sequences * max_model_len) if shape.groups > 1 else blocks * shape.block_tokens
    return KvPool(
        blocks,
        shape.block_bytes,
        shape.block_tokens,
        shape.groups,
        shape.layers_per_group,
        shape.blocks_per_sequence,
        tokens,
        sequences,
    )


# --- engines -------------------------------------------------------------------------------------


def device_total(d: Deployment) -> int:
    """What the driver reports as total on one device; RAM of one node for a CPU (and for Apple's GPU)."""
    accelerator, ram = d.machine.accelerator, d.machine.ram_bytes
    if accelerator is None:
        return ram or 0
    if accelerator.unified_memory and ram:
        return min(accelerator.usable_memory_bytes, ram)
    return accelerator.usable_memory_bytes


def vllm_budget(d: Deployment, stage: int) -> Budget:
    """vLLM: total × utilisation − weights − runtime − activation peak − graphs (by version)."""
    k, limits, p = coefficients(d), d.limits, d.parallelism
    total = device_total(d)
    utilization = limits.gpu_memory_utilization or d.engine.defaults.gpu_memory_utilization or 0.9
    on_cpu = d.machine.accelerator is None
    largest_graph = 0 if on_cpu else _graph_limit(d)
    tokens = limits.max_num_batched_tokens or limits.max_model_len
    o = vllm.overheads(
        d.model,
        k,
        tp=p.tensor,
        ep=expert_ranks(d),
        layers=len(_stage_layers(d.model, p.pipeline, stage)),
        last_stage=stage == p.pipeline - 1,
        world=p.devices_per_replica,
        max_num_batched_tokens=tokens,
        max_num_seqs=limits.max_num_seqs,
        max_model_len=limits.max_model_len,
        graph_max_size=largest_graph,
        hybrid=is_hybrid(d.model),
        multimodal=any(b.role == "vision" for b in d.model.blocks),
    )
    budget = int(total * utilization)
    shared, refused, notes = 0, "", []
    if on_cpu or (d.machine.accelerator and d.machine.accelerator.unified_memory):
        shared = system_bytes(total)
        if budget > total - shared:
            most = int((total - shared) / total * 100) / 100
            refused = (
                f"memory is shared with the system, which needs about {gib(shared)}: "
                f"utilisation {utilization:g} is too much, at most {most:g}"
            )
            notes.append(refused)
    if on_cpu:
        notes.append("KV cache in host RAM; VLLM_CPU_KVCACHE_SPACE or --kv-cache-memory-bytes sets it explicitly")
    return Budget(
        total_bytes=total,
        budget_bytes=budget,
        weights_bytes=device_weights(d, stage),
        activation_bytes=o.activation_bytes,
        graphs_bytes=o.graphs_bytes,
        deducted_graphs_bytes=o.deducted_graphs_bytes,
        runtime_bytes=o.runtime_bytes,
        formulas={
            "activations": o.activation_formula,
            "cuda_graphs": o.graphs_formula,
            "runtime": o.runtime_formula,
            "budget": f"{gib(total)} × {utilization:g}",
        },
        stage=stage,
        reserved_why="What gpu_memory_utilization leaves alone: driver, other processes, fragmentation",
        notes=tuple(notes),
        refused=refused,
    )


def _graph_limit(d: Deployment) -> int:
    """Largest batch captured as a graph."""
    defaults, accelerator = d.engine.defaults, d.machine.accelerator
    if defaults.cudagraph_max_size_sm100 and accelerator and 100 <= (accelerator.sm or 0) < 120:
        return defaults.cudagraph_max_size_sm100
    return defaults.cudagraph_max_size or 0


def tgi_budget(d: Deployment, stage: int) -> Budget:
    """TGI: total × cuda-memory-fraction × its own safety factor, less what is in use after warm-up."""
    k, limits = coefficients(d), d.limits
    total = device_total(d)
    fraction = limits.gpu_memory_utilization or d.engine.defaults.gpu_memory_utilization or 1.0
    tokens = limits.max_batch_prefill_tokens or d.engine.defaults.max_batch_prefill_tokens or limits.max_model_len
    o = tgi.overheads(d.model, k, tp=d.parallelism.tensor, prefill_tokens=tokens, max_model_len=limits.max_model_len)
    share = fraction * k["free_memory_factor"]
    return Budget(
        total_bytes=total,
        budget_bytes=int(total * share),
        weights_bytes=device_weights(d, stage),
        activation_bytes=o.activation_bytes,
        graphs_bytes=o.graphs_bytes,
        deducted_graphs_bytes=0,
        runtime_bytes=o.runtime_bytes,
        formulas={
            "activations": o.activation_formula,
            "cuda_graphs": o.graphs_formula,
            "runtime": o.runtime_formula,
            "budget": f"{gib(total)} × {fraction:g} × {k['free_memory_factor']:g}",
        },
        stage=stage,
        reserved_why="TGI sizes KV on 90 % of the memory (TGI_WIGGLE_ROOM); graphs are captured from the rest",
        notes=(f"{tokens} prefill tokens are what TGI warms up with; fewer leave more for KV",),
    )


def gaudi_budget(d: Deployment, stage: int) -> Budget:
    """Gaudi: the utilisation is of what is free after load and profile; graphs take a share of that."""
    k, limits = coefficients(d), d.limits
    total = device_total(d)
    weights = device_weights(d, stage)
    utilization = limits.gpu_memory_utilization or d.engine.defaults.gpu_memory_utilization or 0.9
    tokens = limits.max_num_batched_tokens or limits.max_model_len
    o = gaudi.overheads(
        d.model,
        k,
        tp=d.parallelism.tensor,
        ep=expert_ranks(d),
        tokens=tokens,
        rows=limits.max_num_seqs,
        world=d.parallelism.devices_per_replica,
    )
    free = max(0, total - weights - o.activation_bytes - o.runtime_bytes)
    usable = int(free * utilization)
    graphs = int(usable * k["gaudi_graph_share"])
    return Budget(
        total_bytes=total,
        budget_bytes=total - (free - usable) if free else total,
        weights_bytes=weights,
        activation_bytes=o.activation_bytes,
        graphs_bytes=graphs,
        deducted_graphs_bytes=graphs,
        runtime_bytes=o.runtime_bytes,
        formulas={
            "activations": o.activation_formula,
            "cuda_graphs": f"{gib(usable)} usable × {k['gaudi_graph_share']:g} (VLLM_GRAPH_RESERVED_MEM)",
            "runtime": o.runtime_formula,
            "budget": f"{gib(free)} free after load and profile × {utilization:g}",
        },
        stage=stage,
        reserved_why="Gaudi applies gpu_memory_utilization to what is free after loading and profiling",
    )


def trtllm_budget(d: Deployment, stage: int) -> Budget:
    """TensorRT-LLM: a fraction of what is free after the engine is loaded goes to KV."""
    k, limits = coefficients(d), d.limits
    total = device_total(d)
    weights = device_weights(d, stage)
    fraction = limits.gpu_memory_utilization or d.engine.defaults.gpu_memory_utilization or k["free_fraction"]
    o = trtllm.overheads(
        d.model,
        k,
        tp=d.parallelism.tensor,
        ep=expert_ranks(d),
        tokens=limits.max_num_batched_tokens or limits.max_model_len,
        rows=limits.max_num_seqs,
        world=d.parallelism.devices_per_replica,
    )
    free = max(0, total - weights - o.activation_bytes - o.runtime_bytes)
    held = free - int(free * fraction)
    return Budget(
        total_bytes=total,
        budget_bytes=total - held if free else total,
        weights_bytes=weights,
        activation_bytes=o.activation_bytes,
        graphs_bytes=0,
        deducted_graphs_bytes=0,
        runtime_bytes=o.runtime_bytes,
        formulas={
            "activations": o.activation_formula,
            "cuda_graphs": "within the reserve",
            "runtime": o.runtime_formula,
            "budget": f"{gib(free)} free after load × {fraction:g}",
        },
        stage=stage,
        reserved_why="free_gpu_memory_fraction is of what is free after the engine is loaded; graphs come out of the rest",
    )


# --- answers -------------------------------------------------------------------------------------


def _sequences(pool: KvPool) -> int:
    return int(pool.max_sequences)


def _fits(budget: Budget, pool: KvPool) -> bool:
    return not budget.refused and budget.available_bytes >= 0 and (pool.block_bytes == 0 or pool.max_sequences >= 1)


def _shortfall(budget: Budget, pool: KvPool) -> int:
    """Bytes missing on the device for one sequence of the planned context."""
    needed = pool.blocks_per_sequence * pool.block_bytes
    return max(0, needed - budget.available_bytes)


def _largest_context(d: Deployment, stage: int, pool: KvPool) -> int:
    """Longest single sequence that the pool holds, at most the model's own context."""
    longest = d.model.context_length
    if pool.block_bytes == 0:
        return longest
    if pool.groups == 1:
        return min(longest, pool.tokens)
    at = d.limits.max_model_len
    other = longest if longest > at else max(1, at // 2)
    there = pool_of(d, stage, 0, other).blocks_per_sequence
    slope = (there - pool.blocks_per_sequence) / (other - at) if other != at else 0.0
    if slope <= 0:
        return longest if pool.blocks >= pool.blocks_per_sequence else 0
    return max(0, min(longest, int(at + (pool.blocks - pool.blocks_per_sequence) / slope)))


def _paged_ledger(d: Deployment, b: Budget, pool: KvPool) -> MemoryLedger:
    fitted = fitted_basis(d)
    kv = pool.bytes
    outside = b.graphs_bytes - min(b.graphs_bytes, b.deducted_graphs_bytes)
    inside_unused = max(0, b.deducted_graphs_bytes - b.graphs_bytes)
    reserved = max(0, b.total_bytes - b.budget_bytes - outside) + b.extra_reserved_bytes
    taken = b.weights_bytes + kv + b.activation_bytes + b.graphs_bytes + b.runtime_bytes + reserved
    free = b.total_bytes - taken
    ok = _fits(b, pool)
    per_token = round(pool.block_bytes * pool.blocks_per_sequence / d.limits.max_model_len) if pool.block_bytes else 0
    if pool.groups == 1:
        per_token = pool.block_bytes // pool.block_tokens
    p = d.parallelism
    split = f" on one of {p.tensor * p.pipeline} devices" if p.tensor * p.pipeline > 1 else ""
    graphs_why = (
        "Captured batches; held back before the KV cache is sized"
        if b.deducted_graphs_bytes
        else "Captured batches; they come out of the memory that the budget leaves"
    )
    rows = (
        _row(
            "weights",
            b.weights_bytes,
            f"{d.quantization.id} tensors{split}",
            "Model weights, tensor by tensor",
            "exact",
        ),
        _row(
            "kv_cache",
            kv,
            f"{pool.blocks} blocks × {pool.block_bytes} B ({b.formulas['budget']} less the rows above and below)",
            f"Keys and values of {pool.tokens} tokens in {d.kv_format.id}",
            fitted,
        ),
        _row("activations", b.activation_bytes, b.formulas["activations"], "Peak of one full step", fitted),
        _row("cuda_graphs", b.graphs_bytes, b.formulas["cuda_graphs"], graphs_why, fitted),
        _row("runtime", b.runtime_bytes, b.formulas["runtime"], "Memory outside the tensor allocator", fitted),
        _row("reserved", reserved, f"{gib(b.total_bytes)} − {b.formulas['budget']}", b.reserved_why, "exact"),
        _row(
            "free",
            free,
            "device − all other rows",
            "Rounding to whole blocks" if free >= 0 and not inside_unused else _free_why(free),
            "exact",
        ),
    )
    return MemoryLedger(
        device=d.machine.accelerator.name if d.machine.accelerator else d.machine.label,
        device_bytes=b.total_bytes,
        stage=b.stage,
        rows=rows,
        kv_cache_tokens=pool.tokens,
        kv_bytes_per_token=per_token,
        largest_context_tokens=_largest_context(d, b.stage, pool) if b.available_bytes > 0 else 0,
        concurrent_sequences=_sequences(pool),
        fits=ok,
        shortfall_bytes=0 if ok else max(_shortfall(b, pool), 1 if b.refused else 0),
        notes=b.notes,
    )


def _free_why(free: int) -> str:
    if free < 0:
        return f"Missing: the device is {gib(-free)} too small for weights and overheads"
    return "Rounding to whole blocks, and graph memory that was estimated but not used"


def _row(item: str, n_bytes: int, formula: str, why: str, basis: FigureBasis) -> LedgerRow:
    return LedgerRow(item=item, bytes=n_bytes, formula=formula, why=why, basis=basis)  # type: ignore[arg-type]
