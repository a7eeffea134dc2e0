"""What one device gives to everything but the KV cache, engine by engine.

A `Budget` says how much of the device the engine gives itself and what it takes out of that before KV.
Weights are exact; activations, graphs and runtime are the laws of `overheads` with the release's
coefficients. Knows no pools and no rows.
"""

from __future__ import annotations

from planner.errors import CatalogError
from planner.estimate.deployment import Deployment
from planner.estimate.device_weights import device_weights, expert_ranks
from planner.estimate.identity import remembered
from planner.estimate.kvcache import kv_layers
from planner.estimate.overheads import gaudi, tgi, trtllm, vllm
from planner.estimate.overheads.host import system_bytes
from planner.estimate.weights import stage_layers
from planner.records import dataclass
from planner.spec.base import FigureBasis
from planner.spec.engine import EngineRelease
from planner.spec.model import ModelSpec
from planner.units import gib


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


def coefficients(d: Deployment) -> dict[str, float]:
    """The release's memory coefficients. Raises CatalogError for a release without any."""
    return _constants(d.engine)


def _constants(release: EngineRelease) -> dict[str, float]:
    if release.memory is None:
        raise CatalogError(f"{release.engine} {release.version} has no memory constants")
    return release.memory.coefficients


_FITTED: dict[str, FigureBasis] = {
    "measured": "fitted",
    "spec": "fitted",
    "derived": "inherited",
    "estimated": "uncalibrated",
}


def fitted_basis(d: Deployment) -> FigureBasis:
    """Basis of the fitted rows: measured on this very release, taken over from another, or estimated."""
    assert d.engine.memory is not None
    return _FITTED[d.engine.memory.provenance.basis]


def budget_of(d: Deployment, stage: int) -> Budget:
    """The budget of one device of pipeline stage `stage`."""
    if d.machine.platform == "gaudi" and d.engine.engine != "tgi":
        return gaudi_budget(d, stage)
    if d.engine.engine == "tgi":
        return tgi_budget(d, stage)
    if d.engine.engine == "tensorrt_llm":
        return trtllm_budget(d, stage)
    return vllm_budget(d, stage)


@remembered
def _stage_layers(model: ModelSpec, pp: int, stage: int) -> range:
    return stage_layers(model.n_layers, pp, stage)


@remembered
def is_hybrid(model: ModelSpec) -> bool:
    """True when any layer keeps recurrent state."""
    return any(row.kind == "state" for row in kv_layers(model, 2))


def largest_utilization(d: Deployment) -> float:
    """The most of the device that vLLM may be given: all of it, or what the system leaves of shared memory."""
    if d.machine.accelerator is not None and not d.machine.accelerator.unified_memory:
        return 1.0
    total = device_total(d)
    return int((total - system_bytes(total)) / total * 100) / 100 if total else 0.0


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
    limits, p = d.limits, d.parallelism
    total = device_total(d)
    utilization = limits.gpu_memory_utilization or d.engine.defaults.gpu_memory_utilization or 0.9
    on_cpu = d.machine.accelerator is None
    o = _vllm_overheads(
        d.model,
        d.engine,
        p.tensor,
        expert_ranks(d),
        len(_stage_layers(d.model, p.pipeline, stage)),
        stage == 0,
        stage == p.pipeline - 1,
        p.devices_per_replica,
        limits.max_num_batched_tokens or limits.max_model_len,
        limits.max_num_seqs,
        limits.max_model_len,
        0 if on_cpu else _graph_limit(d),
        _fused_experts(d),
    )
    budget = int(total * utilization)
    refused, notes = "", []
    if utilization > (most := largest_utilization(d)):
        refused = (
            f"memory is shared with the system, which needs about {gib(system_bytes(total))}: "
            f"utilisation {utilization:g} is too much, at most {most:g}"
        )
        notes.append(refused)
    if any(block.role == "vision" for block in d.model.blocks):
        notes.append(
            "the engine profiles the largest image or video too, which may take up to 2 GiB more than planned; "
            "--limit-mm-per-prompt lowers it"
        )
    if on_cpu:
        notes.append("KV cache in host RAM, of the size that --kv-cache-memory-bytes gives")
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


@remembered
def _vllm_overheads(
    model: ModelSpec,
    release: EngineRelease,
    tp: int,
    ep: int,
    layers: int,
    first_stage: bool,
    last_stage: bool,
    world: int,
    tokens: int,
    sequences: int,
    max_model_len: int,
    graph_limit: int,
    fused_experts: bool,
) -> vllm.Overheads:
    return vllm.overheads(
        model,
        _constants(release),
        tp=tp,
        ep=ep,
        layers=layers,
        first_stage=first_stage,
        last_stage=last_stage,
        world=world,
        max_num_batched_tokens=tokens,
        max_num_seqs=sequences,
        max_model_len=max_model_len,
        graph_max_size=graph_limit,
        hybrid=is_hybrid(model),
        multimodal=any(block.role == "vision" for block in model.blocks),
        fused_experts=fused_experts,
        second_runner=release.memory is not None and model.architecture in release.memory.v2_architectures,
    )


def _fused_experts(d: Deployment) -> bool:
    """MXFP4 experts run in Triton or FlashInfer kernels on Hopper and data-centre Blackwell, in Marlin elsewhere."""
    sm = d.machine.accelerator.sm if d.machine.accelerator else None
    return d.quantization.id == "mxfp4" and sm is not None and 90 <= sm < 110


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
        reserved_why="free_gpu_memory_fraction is of what is free after load; graphs are in the rest",
    )
