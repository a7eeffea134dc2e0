"""Bytes of weights on one device, tensor by tensor, with the engine's sharding and padding.

Exact arithmetic on `tensors.tensors`: what a format covers, its scales and zero points, vocabulary
padding, replicated KV heads, pipeline stages, expert parallelism. Knows no memory of an engine other
than weights. Sources: vLLM distributed/utils.py (stages), model_executor/layers/linear.py,
vocab_parallel_embedding.py and attention/mla (absorbed copies), v0.26; GGUF is `estimate.gguf`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from planner.errors import UsageError
from planner.estimate.tensors import Tensor, kept_layers, quantized_layers, role_layers, tensors
from planner.records import dataclass
from planner.spec.model import Attention, Mla, ModelSpec, RotaryTable
from planner.spec.quantization import QuantizationFormat
from planner.units import ceil_div, round_up

DTYPE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
MXFP4_GROUP = 32
NOT_ALWAYS_IN_FIRST_STAGE = ("output", "output_bias", "norm")


@dataclass(frozen=True, slots=True)
class WeightRules:
    """How an engine lays weights out. The defaults are vLLM's.

    `vocab_multiple`: rows of embedding and head are padded to it before they are split.
    `absorbs_mla`: keeps a second, unquantized copy of latent attention's kv_b for decoding.
    `loads_towers`: whether vision and audio towers are on the device. `rotary_cache`: a table of
    cosines and sines for every position of the context. `mxfp4_multiples`: hidden and intermediate
    widths of MXFP4 experts are padded to these by the kernel, `mxfp4_scale_multiples`: rows (of gate and up
    together) and groups of their scales. `awq_zero_point_bits`: what a zero point takes once loaded.
    """

    vocab_multiple: int = 64
    absorbs_mla: bool = True
    loads_towers: bool = True
    rotary_cache: bool = True
    mxfp4_multiples: tuple[int, int] = (256, 64)
    mxfp4_scale_multiples: tuple[int, int] = (1, 1)
    awq_zero_point_bits: int | None = None


VLLM = WeightRules()
TGI = WeightRules(vocab_multiple=1, absorbs_mla=True, mxfp4_multiples=(1, 1))
PLAIN = WeightRules(1, absorbs_mla=False, rotary_cache=False, mxfp4_multiples=(1, 1))
"""The checkpoint's bytes, no engine's."""


def vllm_rules(
    sm: int | None = None,
    *,
    mxfp4_hidden_multiple: int = 256,
    mxfp4_scale_multiples: tuple[int, int] = (1, 1),
) -> WeightRules:
    """vLLM's layout on a device of compute capability `sm` (90 for Hopper, None off NVIDIA).

    On Hopper AWQ runs in Machete, whose zero points are 16-bit products with the scales, and MXFP4 in
    Triton kernels, whose paddings are the release's; elsewhere MXFP4 takes Marlin's, on data-centre
    Blackwell TensorRT-LLM's. Source: vLLM 0.26 fused_moe/oracle/mxfp4.py, mxfp4_utils.py, machete.py.
    """
    hopper = sm == 90
    elsewhere = (256, 256 if sm and 100 <= sm < 110 else 128)
    return WeightRules(
        awq_zero_point_bits=16 if hopper else None,
        mxfp4_multiples=(mxfp4_hidden_multiple, 64) if hopper or sm is None else elsewhere,
        mxfp4_scale_multiples=mxfp4_scale_multiples if hopper else (1, 1),
    )


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """One tensor's share of one device: `copies` alike, in all or some of `layers` (none: outside the decoder)."""

    role: str
    bytes: int
    quantized: bool
    elements: int
    layers: tuple[int, ...] = ()
    copies: int = 1


def stage_layers(n_layers: int, pp: int, stage: int) -> range:
    """Decoder layers of a pipeline stage as vLLM cuts them.

    Even shares; remaining layers go one each to the stages before the last, from the back.
    """
    if not 0 <= stage < pp or pp > n_layers:
        raise UsageError(f"pipeline stage {stage} of {pp} is impossible with {n_layers} layers")
    shares = [n_layers // pp] * pp
    for i in range(2, n_layers % pp + 2):
        shares[-i] += 1
    start = sum(shares[:stage])
    return range(start, start + shares[stage])


@lru_cache(maxsize=2048)
def device_tensors(
    model: ModelSpec,
    quant: QuantizationFormat,
    *,
    tp: int = 1,
    pp: int = 1,
    stage: int = 0,
    ep: int = 1,
    rules: WeightRules = VLLM,
    group_size: int | None = None,
    unquantized: tuple[str, ...] | None = None,
) -> tuple[TensorBytes, ...]:
    """Every tensor of one device of a `tp` × `pp` group, in bytes.

    `ep` ranks share the experts whole (1: experts are split by `tp` like any linear). `group_size`
    and `unquantized` are the checkpoint's where it differs from the format and the model's own.
    """
    if tp < 1 or ep < 1:
        raise UsageError(f"parallel sizes start at 1, not tp={tp}, ep={ep}")
    layers = frozenset(stage_layers(model.n_layers, pp, stage))
    own = quant.id == model.quantization
    group = group_size if group_size is not None else model.quantization_group_size if own else None
    if group is None:
        group = quant.group_size
    kept = kept_layers(model if unquantized is None else model.model_copy(update={"unquantized": unquantized}))
    if unquantized is None and not own:
        kept = {}
    return tuple(_device_tensors(model, quant, tp, pp, stage, ep, rules, group, kept, layers))


def weight_bytes(
    model: ModelSpec,
    quant: QuantizationFormat,
    *,
    tp: int = 1,
    pp: int = 1,
    stage: int = 0,
    ep: int = 1,
    rules: WeightRules = VLLM,
    group_size: int | None = None,
    unquantized: tuple[str, ...] | None = None,
) -> int:
    """Bytes of weights on one device: the sum of `device_tensors`."""
    rows = device_tensors(
        model, quant, tp=tp, pp=pp, stage=stage, ep=ep, rules=rules, group_size=group_size, unquantized=unquantized
    )
    return sum(row.bytes for row in rows)


def _device_tensors(
    model: ModelSpec,
    quant: QuantizationFormat,
    tp: int,
    pp: int,
    stage: int,
    ep: int,
    rules: WeightRules,
    group: int | None,
    kept: dict[str, frozenset[int] | None],
    layers: frozenset[int],
) -> Iterator[TensorBytes]:
    itemsize = DTYPE_BYTES[model.dtype] if model.dtype != "fp32" else 2
    if quant.kind == "float":
        itemsize = round(quant.weight_bits / 8)
    if quant.id == "awq" and rules.awq_zero_point_bits is not None:
        quant = quant.model_copy(update={"zero_point_bits": rules.awq_zero_point_bits})
    own = quant.id == model.quantization
    fp8 = role_layers(model.fp8_roles) if own else {}
    for t in tensors(model):
        if not t.always_loaded or (t.role in ("vision", "audio", "projector") and not rules.loads_towers):
            continue
        here = _copies_here(t, model, pp, stage, layers)
        if not here:
            continue
        rows, cols, experts = local_shape(t, tp, ep, rules)
        elements = rows * cols * experts
        n_quantized = n_fp8 = 0
        if quant.kind != "float" and (t.quantizable or (own and t.role in model.also_quantized)):
            local = Tensor(t.role, tuple(i for i in t.layers if i in layers), t.rows, t.cols)
            n_quantized = quantized_layers(local, kept) if t.layers else here
            n_fp8 = n_quantized - quantized_layers(local, fp8) if fp8 and t.layers else 0
        at = tuple(i for i in t.layers if i in layers)
        if n_fp8:
            n_quantized -= n_fp8
            yield TensorBytes(t.role, n_fp8 * (elements + 8 * experts), True, elements * n_fp8, at, n_fp8)
        if n_quantized:
            each = 0
            if quant.kind == "mxfp4" and experts > 1:
                rows, cols = _mxfp4_padded(t.role, rows, cols, rules)
                each = _mxfp4_scale_padding(t.role, rows, cols, rules) * experts
            size = n_quantized * (linear_bytes(quant, rows, cols, experts, group) + each)
            yield TensorBytes(t.role, size, True, elements * n_quantized, at, n_quantized)
        rest = here - n_quantized - n_fp8
        if rest > 0:
            yield TensorBytes(t.role, rest * elements * itemsize, False, elements * rest, at, rest)
    if rules.absorbs_mla:
        yield from _absorbed(model, tp, layers, itemsize)
    if rules.rotary_cache:
        elements = sum(table.positions * table.width for table in rotary_tables(model))
        yield TensorBytes("rotary_cache", elements * itemsize, False, elements)


def _mxfp4_padded(role: str, rows: int, cols: int, rules: WeightRules) -> tuple[int, int]:
    hidden, inner = rules.mxfp4_multiples
    if role.startswith("ffn_down"):
        return round_up(rows, hidden), round_up(cols, inner)
    return round_up(rows, inner), round_up(cols, hidden)


def _mxfp4_scale_padding(role: str, rows: int, cols: int, rules: WeightRules) -> int:
    """Bytes that padding adds to one expert's scales, of one byte for 32 inputs."""
    row_multiple, group_multiple = rules.mxfp4_scale_multiples
    if not role.startswith("ffn_down"):
        row_multiple = max(1, row_multiple // 2)
    groups = ceil_div(cols, MXFP4_GROUP)
    return round_up(rows, row_multiple) * round_up(groups, group_multiple) - rows * groups


def rotary_tables(model: ModelSpec) -> tuple[RotaryTable, ...]:
    """The model's own, else one of its context for each width. Partial rotation is taken as whole (a few MB)."""
    if model.rotary:
        return model.rotary
    widths: dict[int, int] = {}
    for group in model.layers:
        for m in group.mixers:
            width = m.qk_rope_head_dim if isinstance(m, Mla) else m.head_dim if isinstance(m, Attention) else 0
            if width:
                widths[width] = min(group.layers[0], widths.get(width, model.n_layers))
    return tuple(RotaryTable(positions=model.context_length, width=w, first_layer=at) for w, at in widths.items())


def _copies_here(t: Tensor, model: ModelSpec, pp: int, stage: int, layers: frozenset[int]) -> int:
    """How many of the tensor's layers (or 1, outside them) this stage holds."""
    if t.layers:
        return sum(i in layers for i in t.layers)
    if t.role in NOT_ALWAYS_IN_FIRST_STAGE:
        return int(stage == pp - 1)
    tied_head = t.role == "token_embd" and model.tie_word_embeddings and stage == pp - 1
    return int(stage == 0 or tied_head)


def local_shape(t: Tensor, tp: int, ep: int, rules: WeightRules = VLLM) -> tuple[int, int, int]:
    """(rows, cols, experts) of `t` on one of `tp` devices, experts over `ep` ranks when that is > 1."""
    if t.shard == "vocab":
        return ceil_div(round_up(t.rows, rules.vocab_multiple), tp), t.cols, 1
    if t.shard == "column":
        return ceil_div(t.rows, tp), t.cols, t.experts
    if t.shard == "row":
        return t.rows, ceil_div(t.cols, tp), t.experts
    if t.shard == "kv":
        heads = t.rows // t.head_dim
        return max(1, ceil_div(heads, tp)) * t.head_dim, t.cols, 1
    if t.shard == "expert":
        if ep > 1:
            return t.rows, t.cols, ceil_div(t.experts, ep)
        if t.role.startswith("ffn_down"):
            return t.rows, ceil_div(t.cols, tp), t.experts
        return ceil_div(t.rows, tp), t.cols, t.experts
    return t.rows, t.cols, t.experts


def linear_bytes(quant: QuantizationFormat, rows: int, cols: int, experts: int = 1, group: int | None = None) -> int:
    """Stored bytes of `experts` matrices of `rows` × `cols` in a quantized format.

    Packed values, then scales (per block, per group of inputs, per output channel when the group is
    0, else per tensor), zero points per group, and GPTQ's int32 group index per input.
    """
    values = ceil_div(round(rows * cols * quant.weight_bits), 8)
    scales = zeros = 0
    group = quant.group_size if group is None else group
    if quant.block:
        scales = ceil_div(rows, quant.block[0]) * ceil_div(cols, quant.block[1])
    elif group == 0:
        scales, zeros = rows, rows
    elif group:
        scales = zeros = ceil_div(cols, group) * rows
    size = values + ceil_div(scales * quant.scale_bits, 8) + ceil_div(zeros * quant.zero_point_bits, 8)
    size += quant.tensor_scale_bits // 8
    if quant.kind == "nf4":
        size += ceil_div(scales, 256) * 4  # second level of double quantization
    if quant.id.startswith("gptq"):
        size += 4 * cols
    return size * experts


def _absorbed(model: ModelSpec, tp: int, layers: frozenset[int], itemsize: int) -> Iterator[TensorBytes]:
    for group in model.layers:
        n = sum(i in layers for i in group.layers)
        for m in group.mixers:
            if isinstance(m, Mla) and n and not m.output_groups:
                elements = ceil_div(m.heads, tp) * (m.qk_nope_head_dim + m.v_head_dim) * m.kv_lora_rank * n
                at = tuple(i for i in group.layers if i in layers)
                yield TensorBytes("kv_b_absorbed", elements * itemsize, False, elements, at, n)
