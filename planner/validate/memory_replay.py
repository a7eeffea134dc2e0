"""What the ledger says of a measured memory row, in the row's own unit.

A row becomes the deployment that it measured: its limits where the source gives them, else the
release's defaults for that device. Nothing is fitted here per row: the ledger's constants are the
engine release's, so what we say of a row is both the fitted and the held-out figure, except where the
release's constants were measured on these very rows (0.26 on H200), which the fold's name says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from planner.advise.limits import resolve_limits
from planner.errors import PlannerError
from planner.estimate.deployment import Deployment
from planner.estimate.device_weights import device_weights
from planner.estimate.gguf import gguf_file_bytes, gguf_tensor_types
from planner.estimate.kvcache import KvPool
from planner.estimate.layer_split import even_split
from planner.estimate.memory import ledger
from planner.estimate.memory_budget import budget_of
from planner.estimate.memory_layers import shape_of
from planner.estimate.memory_pool import pool_of
from planner.spec.gguf import GgufMix, GgufMixRules
from planner.spec.plan import Parallelism
from planner.units import GIB, MIB
from planner.validate.replay import Book
from planner.validate.scored import UNFITTED, Scored, device_class_of, unanswered

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.engine import EngineRelease
    from planner.spec.measurement import MemoryRow
    from planner.spec.model import Checkpoint, ModelSpec
    from planner.spec.plan import Limits

METRICS = {
    "weights_gib": "weights", "kv_gib": "KV bytes", "kv_tokens": "KV tokens", "activations_gib": "activations",
    "cuda_graphs_gib": "CUDA graphs", "runtime_gib": "runtime", "buffers_mib": "buffers", "size_bytes": "GGUF size",
}  # fmt: skip
ANY_DEVICE = "h100-sxm"
"""Stands for a card that the source does not name, where the figure (weights) does not depend on it."""
LAYERED = frozenset({"llamacpp", "ollama"})


def score_memory(catalog: Catalog, rows: Iterable[MemoryRow]) -> list[Scored]:
    """Every memory row beside what the ledger says."""
    book = Book(catalog)
    return [_score(catalog, book, row) for row in rows]


def _score(catalog: Catalog, book: Book, row: MemoryRow) -> Scored:
    try:
        model, quantization = catalog.model(row.model), catalog.format(row.quantization)
        predicted = predict(catalog, book, row)
        machine = book.machine(row) if row.accelerator else None
    except PlannerError as error:
        return unanswered(row, " ".join(str(error).split()))
    return Scored(
        row=row,
        metric=METRICS[row.metric],
        load="",
        device_class=device_class_of(machine) if machine else "any device",
        platform=machine.platform if machine else "",
        format_kind=quantization.kind,
        moe=model.is_moe,
        true=row.value,
        predicted=predicted,
        held={UNFITTED: predicted},
    )


def predict(catalog: Catalog, book: Book, row: MemoryRow) -> float:
    """The figure of `row` in its own unit."""
    if row.metric == "size_bytes":
        return float(gguf_bytes(catalog, row))
    d = deployment(catalog, book, row)
    if row.metric == "buffers_mib":
        return _buffers(d, row) / MIB
    if row.metric == "weights_gib":
        return device_weights(d, 0) / GIB
    if row.logged_weights_gib and row.metric in ("kv_tokens", "kv_gib"):
        pool = _pool_beside(d, round(row.logged_weights_gib * GIB))
        return float(pool.tokens) if row.metric == "kv_tokens" else pool.bytes / GIB
    found = ledger(d)
    if row.metric == "kv_tokens":
        return float(found.kv_cache_tokens)
    item = {"kv_gib": "kv_cache"}.get(row.metric, row.metric.removesuffix("_gib"))
    return found.bytes_of(item) / GIB


def _pool_beside(d: Deployment, weights_bytes: int) -> KvPool:
    """The KV pool on the first device when it holds `weights_bytes` instead of the model's own."""
    budget = budget_of(d, 0)
    return pool_of(d, 0, budget.available_bytes + budget.weights_bytes - weights_bytes)


def gguf_bytes(catalog: Catalog, row: MemoryRow) -> int:
    """Bytes of a GGUF file, or of its tensors alone. Raises UnknownNameError for an unknown mix."""
    document = catalog.document("quantization")
    name = row.quantization.removeprefix("gguf:")
    mixes = {m["file_type"]: m for m in document["mixes"]}
    mix = GgufMix.model_validate(mixes[name])
    rules = GgufMixRules.model_validate(document["mix_rules"])
    model, kinds = catalog.model(row.model), catalog.gguf_types()
    if row.what == "file":
        return gguf_file_bytes(model, mix, rules, kinds, imatrix=row.imatrix)
    return sum(t.bytes for t in gguf_tensor_types(model, mix, rules, kinds, imatrix=row.imatrix))


def _buffers(d: Deployment, row: MemoryRow) -> int:
    """Sum of the row's `parts` on its device."""
    shape = shape_of(d)
    if row.gpu_layers >= 0:
        load = shape.load(shape.n - row.gpu_layers, shape.n, d.machine.count, False)
    else:
        load = even_split(shape, d.machine.count)[row.device]
    return sum(getattr(load, part) for part in row.parts.split("+"))


def deployment(catalog: Catalog, book: Book, row: MemoryRow) -> Deployment:
    """What the row ran, defaults of its release resolved for its device."""
    named = row if row.accelerator else row.model_copy(update={"accelerator": ANY_DEVICE})
    machine = book.machine(named)
    if row.total_gib and machine.accelerator:
        size = {"usable_memory_bytes": round(row.total_gib * GIB)}
        machine = machine.model_copy(update={"accelerator": machine.accelerator.model_copy(update=size)})
    release = _as_run(book.release(row), row)
    model, quantization = catalog.model(row.model), catalog.format(row.quantization)
    if row.text_only:
        model = model.model_copy(update={"blocks": (), "modality": "text"})
    layered = row.engine in LAYERED
    layout = Parallelism() if layered else Parallelism(tensor=row.tensor, pipeline=row.pipeline, data=row.data)
    limits: Limits = resolve_limits(
        model, quantization, _checkpoint(model, row), release, machine, layout, max_num_seqs=row.max_num_seqs or None,
        context_tokens=row.max_model_len or (None if layered else model.context_length),
        gpu_memory_utilization=row.gpu_memory_utilization or None,
        max_num_batched_tokens=row.max_num_batched_tokens or None,
    )  # fmt: skip
    return Deployment(
        model=model, quantization=quantization, kv_format=catalog.kv_format(row.kv_cache_dtype), machine=machine,
        engine=release, parallelism=layout, limits=limits, checkpoint=_checkpoint(model, row),
    )  # fmt: skip


def _checkpoint(model: ModelSpec, row: MemoryRow) -> Checkpoint | None:
    """The published checkpoint of the row's format, which says what it leaves unquantized."""
    return next((c for c in model.checkpoints if c.repo and c.quantization == row.quantization), None)


def _as_run(release: EngineRelease, row: MemoryRow) -> EngineRelease:
    """`release` with the defaults that the row's flags replaced."""
    changes: dict[str, Any] = {}
    if row.eager:
        changes |= {"cudagraph_max_size": 0, "cudagraph_max_size_sm100": None}
    if row.engine in LAYERED:
        changes["flash_attention"] = row.flash_attention
        if row.micro_batch:
            changes["num_ubatch"] = row.micro_batch
    return release.model_copy(update={"defaults": release.defaults.model_copy(update=changes)}) if changes else release
