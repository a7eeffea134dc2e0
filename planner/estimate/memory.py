"""The memory ledger: what each byte of the fullest device is for, and how many tokens of KV fit.

One entry, `ledger(deployment)`, for every engine; `fits(deployment)` answers the search's question
without building rows. Engines with a paged pool (vLLM on CUDA, ROCm, XPU, Gaudi and CPU; TGI; NIM;
TensorRT-LLM) get a budget (`memory_budget`) and a pool (`memory_pool`); engines that split whole layers
(llama.cpp, Ollama) are in `memory_layers`. Weights and KV are exact arithmetic, the rest are laws fitted
per release; adapters and drafts are in `extras`. Does not model images in flight.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from planner.estimate.deployment import Deployment
from planner.estimate.kvcache import KvPool
from planner.estimate.memory_budget import Budget, Fit, budget_of, fitted_basis
from planner.estimate.memory_pool import largest_context, pool_of
from planner.spec.base import FigureBasis
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.spec.plan import LedgerRow, MemoryLedger
from planner.units import gib

Item = Literal["weights", "kv_cache", "activations", "cuda_graphs", "runtime", "reserved", "free"]


def ledger(deployment: Deployment) -> MemoryLedger:
    """The ledger of the fullest device of `deployment`; rows add up to the device exactly."""
    if deployment.engine.engine in LAYER_SPLIT_ENGINES:
        from planner.estimate.memory_layers import layer_ledger

        return layer_ledger(deployment)
    budget, pool = _fullest(deployment)
    return _paged_ledger(deployment, budget, pool)


def fits(deployment: Deployment) -> Fit:
    """Whether `deployment` fits, in about half the time of `ledger`."""
    if deployment.engine.engine in LAYER_SPLIT_ENGINES:
        from planner.estimate.memory_layers import layer_fits

        return layer_fits(deployment)
    budget, pool = _fullest(deployment)
    return Fit(
        _fits(budget, pool),
        pool.tokens,
        _sequences(pool),
        _shortfall(budget, pool),
    )


def _fullest(d: Deployment) -> tuple[Budget, KvPool]:
    """The stage that holds the fewest KV tokens: an engine gives all stages the smallest pool."""
    best: tuple[Budget, KvPool] | None = None
    for stage in range(d.parallelism.pipeline):
        budget = budget_of(d, stage)
        if d.machine.corrections:
            budget = _as_seen(d, budget)
        pool = pool_of(d, stage, budget.available_bytes)
        if best is None or (pool.max_sequences, budget.available_bytes) < (
            best[1].max_sequences,
            best[0].available_bytes,
        ):
            best = (budget, pool)
    assert best is not None
    return best


def _as_seen(d: Deployment, budget: Budget) -> Budget:
    """`budget` with the memory that this user's own log or metrics showed beyond it, as part of the runtime."""
    from planner.estimate.local import runtime_offset_bytes

    offset = max(runtime_offset_bytes(d), -budget.runtime_bytes)
    if not offset:
        return budget
    formula = f"{budget.formulas['runtime']} {'+' if offset > 0 else '−'} {gib(abs(offset))} measured here"
    return replace(budget, runtime_bytes=budget.runtime_bytes + offset, formulas=budget.formulas | {"runtime": formula})


def _sequences(pool: KvPool) -> int:
    return int(pool.max_sequences)


def _fits(budget: Budget, pool: KvPool) -> bool:
    return not budget.refused and budget.available_bytes >= 0 and (pool.block_bytes == 0 or pool.max_sequences >= 1)


def _shortfall(budget: Budget, pool: KvPool) -> int:
    """Bytes missing on the device for one sequence of the planned context."""
    needed = pool.blocks_per_sequence * pool.block_bytes
    return max(0, needed - budget.available_bytes)


def _paged_ledger(d: Deployment, b: Budget, pool: KvPool) -> MemoryLedger:
    fitted = fitted_basis(d)
    runtime = _seen(d) or fitted
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
            f"{d.quantization.id} tensors{split}{_extras(d)}{_unloaded(d)}",
            "Model weights, tensor by tensor, and what loading them leaves",
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
        _row("runtime", b.runtime_bytes, b.formulas["runtime"], "Memory outside the tensor allocator", runtime),
        _row("reserved", reserved, _reserved(b, outside), b.reserved_why, "exact"),
        _row(
            "free",
            free,
            "device − all other rows",
            "Rounding to whole blocks" if free >= 0 and not inside_unused else _free_why(free),
            "exact",
        ),
    )
    device = d.machine.accelerator or d.machine.cpu
    return MemoryLedger(
        device=device.name if device else d.machine.label,
        device_bytes=b.total_bytes,
        stage=b.stage,
        rows=rows,
        kv_cache_tokens=pool.tokens,
        kv_bytes_per_token=per_token,
        largest_context_tokens=largest_context(d, b.stage, pool) if b.available_bytes > 0 else 0,
        concurrent_sequences=_sequences(pool),
        fits=ok,
        shortfall_bytes=0 if ok else max(_shortfall(b, pool), 1 if b.refused else 0),
        notes=b.notes,
    )


def _seen(d: Deployment) -> FigureBasis | None:
    """`calibrated here` where this user's own measurement moved the runtime row."""
    if not d.machine.corrections:
        return None
    from planner.estimate.local import runtime_offset_bytes

    return "calibrated here" if runtime_offset_bytes(d) else None


def _extras(d: Deployment) -> str:
    if d.extras is None:
        return ""
    from planner.estimate.extras import extras_formula

    return extras_formula(d)


def _unloaded(d: Deployment) -> str:
    """Of the files' tensors those that are in no layer, head, embedding or tower, where nothing drafts with them."""
    held = d.checkpoint
    if held is None or held.stored is None or not held.stored.other:
        return ""
    if d.extras is not None and d.extras.features.speculative is not None:
        return ""
    from planner.estimate.weights import PLAIN, weight_bytes

    counted = weight_bytes(d.model, d.quantization, rules=PLAIN, group_size=held.group_size)
    beyond = min(held.stored.other, held.stored.total - counted)
    return f"; other: {beyond:,} B on disk, not loaded" if beyond > 0 else ""


def _free_why(free: int) -> str:
    if free < 0:
        return f"Missing: the device is {gib(-free)} too small for weights and overheads"
    return "Rounding to whole blocks, and graph memory that was estimated but not used"


def _reserved(b: Budget, outside: int) -> str:
    """How the row `reserved` comes about, of which graphs outside of the budget take `outside` bytes."""
    left = f"{gib(b.total_bytes)} − {b.formulas['budget']}"
    return (
        left
        + (f" − {gib(outside)} of graphs that lie in it" if outside else "")
        + (f" + {gib(b.extra_reserved_bytes)} beside" if b.extra_reserved_bytes else "")
    )


def _row(item: Item, n_bytes: int, formula: str, why: str, basis: FigureBasis) -> LedgerRow:
    return LedgerRow(item=item, bytes=n_bytes, formula=formula, why=why, basis=basis)
