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
from planner.estimate.memory_budget import coefficients, device_total, fitted_basis
from planner.estimate.overheads.host import metal_bytes, system_bytes
from planner.estimate.overheads.llamacpp import compute_buffer_bytes, host_buffer_bytes, output_buffer_bytes
from planner.spec.model import ModelSpec
from planner.spec.plan import LedgerRow, MemoryLedger
from planner.spec.quantization import QuantizationFormat
from planner.units import MIB, gib


def layer_ledger(d: Deployment) -> MemoryLedger:
    """The ledger of the fullest device, or of the host when there is no accelerator."""
    k = coefficients(d)
    shape = shape_of(d)
    total = device_total(d)
    if d.machine.accelerator is None:
        return _host_ledger(d, shape, total)
    metal = d.machine.platform == "metal"
    unified = d.machine.accelerator.unified_memory
    share = metal_bytes(total) if metal else total - system_bytes(total) if unified else total
    context = round(k["metal_context_bytes"] if metal else k["context_bytes"])
    room = share - context - round(k["margin_bytes"])
    placement = place(shape, room, d.machine.count, d.engine.engine == "ollama", d.limits.num_gpu)
    return _device_ledger(d, shape, placement, total, share, context, room)


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
    itemsize: float,
    context: int,
    parallel: int,
    n_ubatch: int,
    flash: bool,
    tower_bytes: int,
) -> Shape:
    sizes = layer_bytes(model, quant, file_bytes)
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


def _device_ledger(
    d: Deployment, shape: Shape, placement: Placement, total: int, share: int, context_bytes: int, room: int
) -> MemoryLedger:
    context, parallel = slots(d)
    full = placement.on_gpu == placement.n
    load = placement.fullest if placement.devices else Load()
    used = len(placement.devices)
    accelerator = d.machine.accelerator
    assert accelerator is not None
    host = placement.host
    host_bytes = host.total + output_buffer_bytes(d.model, parallel)
    fits, shortfall, notes = True, 0, []
    if d.machine.platform == "metal":
        notes.append(
            f"macOS lets the GPU use {gib(share)} of {gib(total)}; `sudo sysctl iogpu.wired_limit_mb={share // MIB}` "
            "with a larger value raises it"
        )
    if used > 1:
        notes.append(f"layers are split over {used} devices, which work one after the other")
    if not full:
        room_in_ram = _host_room(d, total, share, used, load, context_bytes)
        if d.limits.num_gpu is None or placement.on_gpu < min(d.limits.num_gpu, placement.n):
            missing = max(load_.total for load_ in even_split(shape, d.machine.count)) - room
        else:
            missing = 0
        notes.append(
            f"{placement.on_gpu} of {placement.n} layers on the GPU, the rest ({gib(host_bytes)}) in host memory "
            "at the speed of the CPU"
        )
        if room_in_ram is None:
            fits, shortfall = False, max(1, missing)
            notes.append("host memory is unknown; give --ram to plan with layers in it")
        elif host_bytes > room_in_ram:
            fits, shortfall = False, max(1, host_bytes - room_in_ram)
            notes.append(f"host memory has {gib(max(0, room_in_ram))} for it: {gib(shortfall)} are missing")
    slope = _kv_slope(d)
    spare = room - load.total if full else 0
    largest = d.model.context_length
    if slope:
        per_device = max(1, slope * max(load.layers, 1) // max(placement.n, 1)) if used > 1 else slope
        largest = min(largest, context + max(0, spare) // per_device)
    rows = _rows(
        d,
        load,
        total,
        runtime=context_bytes,
        reserved=total - share,
        reserved_why=_reserved_why(d),
        layers=f"{load.layers} of {placement.n} layers",
    )
    return MemoryLedger(
        device=accelerator.name,
        device_bytes=total,
        rows=rows,
        kv_cache_tokens=context * parallel,
        kv_bytes_per_token=slope // parallel,
        largest_context_tokens=largest if fits else 0,
        concurrent_sequences=parallel if fits else 0,
        fits=fits,
        shortfall_bytes=shortfall,
        offloaded_layers=placement.on_gpu,
        total_layers=placement.n,
        host_bytes=host_bytes,
        notes=tuple(notes),
    )


def _host_room(d: Deployment, total: int, share: int, used: int, load: Load, context: int) -> int | None:
    """Host memory that layers may use; with unified memory what the GPU's part leaves."""
    accelerator = d.machine.accelerator
    assert accelerator is not None
    if accelerator.unified_memory or d.machine.platform == "metal":
        return total - system_bytes(total) - (load.total + context if used else 0)
    if d.machine.ram_bytes is None:
        return None
    return d.machine.ram_bytes - system_bytes(d.machine.ram_bytes)


def _host_ledger(d: Deployment, shape: Shape, total: int) -> MemoryLedger:
    """Everything on the CPU."""
    context, parallel = slots(d)
    load = host_load(shape, shape.n)
    load = Load(load.weights + shape.towers, load.kv, load.compute + shape.tower_scratch, load.layers)
    reserved = min(system_bytes(total), total)
    room = total - reserved - output_buffer_bytes(d.model, parallel)
    fits = load.total <= room
    slope = _kv_slope(d)
    largest = d.model.context_length
    if slope:
        largest = min(largest, context + max(0, room - load.total) // slope)
    n = shape.n
    notes = [f"{gib(reserved)} of RAM are left to the operating system"]
    if total == 0:
        notes = ["host memory is unknown; give --ram"]
    return MemoryLedger(
        device=d.machine.cpu.name if d.machine.cpu else d.machine.label,
        device_bytes=total,
        rows=_rows(
            d,
            load,
            total,
            runtime=output_buffer_bytes(d.model, parallel),
            reserved=reserved,
            reserved_why="Operating system and other services",
            layers=f"{n} of {n} layers",
        ),
        kv_cache_tokens=context * parallel,
        kv_bytes_per_token=slope // parallel,
        largest_context_tokens=largest if fits else 0,
        concurrent_sequences=parallel if fits else 0,
        fits=fits,
        shortfall_bytes=0 if fits else load.total - room,
        offloaded_layers=0,
        total_layers=n,
        host_bytes=load.total,
        notes=tuple(notes),
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
