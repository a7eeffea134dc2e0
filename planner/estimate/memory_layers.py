"""The ledger of engines that place whole layers: llama.cpp and Ollama.

Layers go to the GPUs from the last to the first, the rest stays with the CPU; the KV cache of a layer
lies where the layer does; the token embedding always stays in host memory. KV is num_ctx × slots,
allocated at start. Knows no flags. Rules: llama.cpp src/llama-model.cpp (devices of layers),
Ollama docs/faq (one GPU if the model fits there, else all).
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate

from planner.estimate.deployment import Deployment
from planner.estimate.gguf_tables import layer_bytes
from planner.estimate.identity import remembered
from planner.estimate.kv_llamacpp import llamacpp_kv_bytes
from planner.estimate.layer_split import Load, Placement, Shape, even_split, host_load, place
from planner.estimate.memory_budget import Fit, coefficients, device_total, fitted_basis
from planner.estimate.overheads.host import metal_bytes, system_bytes
from planner.estimate.overheads.llamacpp import compute_buffer_bytes, host_buffer_bytes, output_buffer_bytes
from planner.records import dataclass
from planner.spec.model import ModelSpec, StoredBytes
from planner.spec.plan import LedgerRow, MemoryLedger
from planner.spec.quantization import QuantizationFormat
from planner.units import MIB, gib


@dataclass(frozen=True, slots=True)
class Verdict:
    """A placement judged: `room_bytes` per device for layers, `share_bytes` what models may use of it.

    `host_room_bytes` is what layers may take in host memory, None when that is unknown.
    """

    placement: Placement
    fits: bool
    shortfall_bytes: int
    total_bytes: int
    share_bytes: int
    context_bytes: int
    room_bytes: int
    host_bytes: int
    host_room_bytes: int | None


def layer_ledger(d: Deployment) -> MemoryLedger:
    """The ledger of the fullest device, or of the host when there is no accelerator."""
    shape = shape_of(d)
    verdict = _judged(d, shape)
    return _device_ledger(d, shape, verdict) if d.machine.accelerator else _host_ledger(d, shape, verdict)


def layer_fits(d: Deployment) -> Fit:
    """The short answer, without rows."""
    verdict = _judged(d, shape_of(d))
    context, parallel = slots(d)
    return Fit(verdict.fits, context * parallel, parallel if verdict.fits else 0, verdict.shortfall_bytes)


def _judged(d: Deployment, shape: Shape) -> Verdict:
    k, total = coefficients(d), device_total(d)
    accelerator = d.machine.accelerator
    output = output_buffer_bytes(d.model, slots(d)[1])
    if accelerator is None:
        reserved = min(system_bytes(total), total)
        load = host_load(shape, shape.n, towers=True)
        room = total - reserved - output
        placement = Placement((load,), load, 0, shape.n)
        missing = max(0, load.total - room)
        return Verdict(placement, not missing, missing, total, total - reserved, output, room, load.total, room)
    metal = d.machine.platform == "metal"
    share = total
    if metal:
        share = metal_bytes(total)
    elif accelerator.unified_memory:
        share = total - system_bytes(total)
    context = round(k["metal_context_bytes"] if metal else k["context_bytes"])
    room = share - context - round(k["margin_bytes"])
    placement = place(shape, room, d.machine.count, d.engine.engine == "ollama", d.limits.num_gpu)
    host_bytes = placement.host.total + output
    if placement.on_gpu == placement.n:
        return Verdict(placement, True, 0, total, share, context, room, host_bytes, None)
    host_room = _host_room(d, total, placement.fullest.total + context if placement.devices else 0)
    if host_room is None:
        missing = max(load.total for load in even_split(shape, d.machine.count)) - room
    else:
        missing = host_bytes - host_room
    fits = host_room is not None and missing <= 0
    return Verdict(placement, fits, 0 if fits else max(1, missing), total, share, context, room, host_bytes, host_room)


def _host_room(d: Deployment, total: int, on_gpu: int) -> int | None:
    """Host memory that layers may use; with unified memory what the GPU's part leaves."""
    if d.machine.accelerator is not None and d.machine.accelerator.unified_memory:
        return total - system_bytes(total) - on_gpu
    if d.machine.ram_bytes is None:
        return None
    return d.machine.ram_bytes - system_bytes(d.machine.ram_bytes)


# --- the deployment as layers --------------------------------------------------------------------


def slots(d: Deployment) -> tuple[int, int]:
    """(context of one slot, slots)."""
    limits = d.limits
    return limits.num_ctx or limits.max_model_len, limits.num_parallel or d.engine.defaults.num_parallel or 1


def micro_batch(d: Deployment) -> int:
    """Tokens of one micro-batch."""
    n_ubatch = d.engine.defaults.num_ubatch or 512
    return min(n_ubatch, d.limits.num_batch) if d.limits.num_batch else n_ubatch


def shape_of(d: Deployment) -> Shape:
    """The deployment's layers, remembered per model, format and context."""
    context, parallel = slots(d)
    return _shape(
        d.model,
        d.quantization,
        d.checkpoint.size_bytes if d.checkpoint and d.quantization.kind == "gguf" else None,
        d.checkpoint.stored if d.checkpoint and d.quantization.kind == "gguf" else None,
        d.kv_format.bits / 8,
        context,
        parallel,
        micro_batch(d),
        d.engine.defaults.flash_attention,
        round(coefficients(d)["tower_bytes"]),
    )


@remembered
def _shape(
    model: ModelSpec,
    quant: QuantizationFormat,
    file_bytes: int | None,
    stored: StoredBytes | None,
    itemsize: float,
    context: int,
    parallel: int,
    n_ubatch: int,
    flash: bool,
    tower_bytes: int,
) -> Shape:
    sizes = layer_bytes(model, quant, file_bytes, stored)
    kv = _kv_by_layer(model, context, parallel, n_ubatch, itemsize)
    buffer = partial(compute_buffer_bytes, model, cells=context, n_ubatch=n_ubatch, flash_attention=flash)
    return Shape(
        weight_sums=tuple(accumulate((*sizes.layers, sizes.output), initial=0)),
        kv_sums=tuple(accumulate((*kv, 0), initial=0)),
        host_weights=sizes.embedding,
        towers=sizes.towers,
        tower_scratch=tower_bytes if sizes.towers else 0,
        scratch=buffer(has_output=False, devices=2),
        scratch_output=buffer(has_output=True, devices=2),
        scratch_single=buffer(has_output=True, devices=1),
        inputs=host_buffer_bytes(model, cells=context, n_ubatch=n_ubatch),
    )


@remembered
def _kv_by_layer(model: ModelSpec, n_ctx: int, n_parallel: int, n_ubatch: int, itemsize: float) -> tuple[int, ...]:
    """KV and recurrent state of each layer."""
    found = [0] * model.n_layers
    for group in model.layers:
        single = model.model_copy(update={"layers": (group.model_copy(update={"layers": group.layers[:1]}),)})
        size = llamacpp_kv_bytes(single, n_ctx, n_parallel=n_parallel, n_ubatch=n_ubatch, kv_dtype_bytes=itemsize)
        for i in group.layers:
            found[i] = size
    return tuple(found)


def _kv_slope(d: Deployment) -> int:
    """KV bytes that one more token of one slot takes, over all layers."""
    context, parallel = slots(d)
    n_ubatch, itemsize = micro_batch(d), d.kv_format.bits / 8
    more = _kv_by_layer(d.model, context + 16384, parallel, n_ubatch, itemsize)
    now = _kv_by_layer(d.model, context, parallel, n_ubatch, itemsize)
    return max(0, (sum(more) - sum(now)) // 16384)


# --- ledgers -------------------------------------------------------------------------------------


def _device_ledger(d: Deployment, shape: Shape, v: Verdict) -> MemoryLedger:
    context, parallel = slots(d)
    accelerator, placement = d.machine.accelerator, v.placement
    assert accelerator is not None
    full = placement.on_gpu == placement.n
    load = placement.fullest if placement.devices else Load()
    slope = _kv_slope(d)
    longest = d.model.context_length
    if slope:
        spare = max(0, v.room_bytes - load.total) if full else 0
        share = max(1, slope * load.layers // placement.n) if len(placement.devices) > 1 else slope
        longest = min(longest, context + spare // share)
    return MemoryLedger(
        device=accelerator.name,
        device_bytes=v.total_bytes,
        rows=_rows(
            d,
            load,
            v.total_bytes,
            runtime=v.context_bytes,
            reserved=v.total_bytes - v.share_bytes,
            reserved_why=_reserved_why(d),
            layers=f"{load.layers} of {placement.n} layers",
        ),
        kv_cache_tokens=context * parallel,
        kv_bytes_per_token=slope // parallel,
        largest_context_tokens=longest if v.fits else 0,
        concurrent_sequences=parallel if v.fits else 0,
        fits=v.fits,
        shortfall_bytes=v.shortfall_bytes,
        offloaded_layers=placement.on_gpu,
        total_layers=placement.n,
        host_bytes=v.host_bytes,
        notes=_notes(d, v),
    )


def _notes(d: Deployment, v: Verdict) -> tuple[str, ...]:
    notes, placement = [], v.placement
    if d.machine.platform == "metal":
        notes.append(
            f"macOS lets the GPU use {gib(v.share_bytes)} of {gib(v.total_bytes)}; "
            f"`sudo sysctl iogpu.wired_limit_mb=N` with N above {v.share_bytes // MIB} raises it until the next start"
        )
    if len(placement.devices) > 1:
        notes.append(f"layers are split over {len(placement.devices)} devices, which work one after the other")
    if placement.on_gpu < placement.n:
        notes.append(
            f"{placement.on_gpu} of {placement.n} layers on the GPU, the rest ({gib(v.host_bytes)}) in host memory "
            "at the speed of the CPU"
        )
        if v.host_room_bytes is None:
            notes.append("host memory is unknown; give --ram to plan with layers in it")
        elif not v.fits:
            notes.append(
                f"host memory has {gib(max(0, v.host_room_bytes))} for it: {gib(v.shortfall_bytes)} are missing"
            )
    return tuple(notes)


def _host_ledger(d: Deployment, shape: Shape, v: Verdict) -> MemoryLedger:
    """Everything on the CPU."""
    context, parallel = slots(d)
    load, slope = v.placement.host, _kv_slope(d)
    longest = d.model.context_length
    if slope:
        longest = min(longest, context + max(0, v.room_bytes - load.total) // slope)
    reserved = v.total_bytes - v.share_bytes
    note = f"{gib(reserved)} of RAM are left to the operating system" if v.total_bytes else "host memory is unknown"
    return MemoryLedger(
        device=d.machine.cpu.name if d.machine.cpu else d.machine.label,
        device_bytes=v.total_bytes,
        rows=_rows(
            d,
            load,
            v.total_bytes,
            runtime=v.context_bytes,
            reserved=reserved,
            reserved_why="Operating system and other services",
            layers=f"{shape.n} of {shape.n} layers",
        ),
        kv_cache_tokens=context * parallel,
        kv_bytes_per_token=slope // parallel,
        largest_context_tokens=longest if v.fits else 0,
        concurrent_sequences=parallel if v.fits else 0,
        fits=v.fits,
        shortfall_bytes=v.shortfall_bytes,
        offloaded_layers=0,
        total_layers=shape.n,
        host_bytes=v.host_bytes,
        notes=(note,),
    )


def _reserved_why(d: Deployment) -> str:
    if d.machine.platform == "metal":
        return "What macOS does not let the GPU use"
    accelerator = d.machine.accelerator
    if accelerator is not None and accelerator.unified_memory:
        return "Operating system, which shares this memory"
    return "Nothing is held back"


def _rows(
    d: Deployment, load: Load, total: int, *, runtime: int, reserved: int, reserved_why: str, layers: str
) -> tuple[LedgerRow, ...]:
    context, parallel = slots(d)
    fitted = fitted_basis(d)
    n_ubatch = micro_batch(d)
    free = total - load.total - runtime - reserved
    free_why = "Left over" if free >= 0 else f"Missing: {gib(-free)}"
    return (
        LedgerRow(
            item="weights",
            bytes=load.weights,
            formula=f"{d.quantization.id} tensors of {layers}",
            why="Model weights, tensor by tensor; the token embedding stays in host memory",
            basis="exact",
        ),
        LedgerRow(
            item="kv_cache",
            bytes=load.kv,
            formula=f"{context} tokens × {parallel} slots in {d.kv_format.id}, {layers}",
            why="Keys, values and recurrent state, allocated at start",
            basis="exact",
        ),
        LedgerRow(
            item="activations",
            bytes=load.compute,
            formula=f"{n_ubatch} tokens × (vocabulary {d.model.vocab_size} + hidden {d.model.hidden_size}) × 4 B, "
            "or of the widest layer",
            why="Compute buffer of one micro-batch",
            basis=fitted,
        ),
        LedgerRow(item="cuda_graphs", bytes=0, formula="0", why="No graphs are kept", basis="exact"),
        LedgerRow(
            item="runtime",
            bytes=runtime,
            formula=f"{runtime / MIB:.0f} MiB",
            why="Context and kernels of the device" if d.machine.accelerator else "Output buffer",
            basis=fitted,
        ),
        LedgerRow(
            item="reserved",
            bytes=reserved,
            formula=f"{gib(total)} − {gib(total - reserved)}",
            why=reserved_why,
            basis="exact" if not reserved else "uncalibrated",
        ),
        LedgerRow(item="free", bytes=free, formula="device − all other rows", why=free_why, basis="exact"),
    )
