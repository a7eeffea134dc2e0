"""What loading leaves on a device beyond the tensors' own bytes: blocks that are larger than their tensors.

vLLM makes a model's parameters in the order of its modules and reports what the allocator then holds. Tables
of rotary embeddings are computed in fp32 and dropped, 4-bit weights are unpacked and packed again; parameters
that land in what these left behind keep the whole block (`allocator`). Seen block by block in vLLM 0.26 on an
H200 (benchmarks/measured/h200_vllm_load.csv); order of modules and temporaries read from the 0.26.0 wheel
(model_executor/layers/rotary_embedding, quantization/auto_awq.py, kernels/linear/mixed_precision/machete.py).
Vision towers, whose tensors are small, are not followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from planner.estimate.allocator import Block, CachingAllocator
from planner.estimate.weights import TensorBytes
from planner.spec.model import RotaryTable

Repack = Literal["", "awq", "prepack"]
"""How a kernel takes 4-bit weights: as stored, unpacked first, or through a copy."""
FOLLOWED_LAYERS, FOLLOWED_PACKED_LAYERS = 18, 6
PERIOD_LAYERS, PERIOD_PACKED_LAYERS = 6, 3
FP32, KEPT = 4, 2
"""Bytes of a rotary number as computed and as kept."""
_MODULES = {
    "attn_q": "qkv", "attn_k": "qkv", "attn_v": "qkv", "q_a": "qkv_a", "kv_a": "qkv_a",
    "ffn_gate": "gate_up", "ffn_up": "gate_up", "ffn_gate_exps": "gate_up_exps", "ffn_up_exps": "gate_up_exps",
    "ffn_gate_shexp": "gate_up_shexp", "ffn_up_shexp": "gate_up_shexp",
}  # fmt: skip
"""Roles that are one parameter in vLLM."""
_ATTENTION = ("qkv", "qkv_a", "q_b", "kv_b", "attn_output")
_LAST = ("output", "norm")


class _Packed:
    """One module's packed values, scales and zero points; `elements` of the matrix."""

    __slots__ = ("elements", "scales", "side_bytes", "value_bytes", "values", "zeros")

    def __init__(self, a: CachingAllocator, elements: int, value_bytes: int, side_bytes: int, as_stored: int) -> None:
        self.elements, self.value_bytes, self.side_bytes = elements, value_bytes, side_bytes
        self.values = a.allocate(value_bytes)
        self.zeros = a.allocate(max(1, as_stored))
        self.scales = a.allocate(max(1, side_bytes))


class _Module:
    """One parameter of a layer with what belongs to it: values, and the scales of a quantized one."""

    __slots__ = ("elements", "n_bytes", "name", "quantized")

    def __init__(self, name: str) -> None:
        self.name, self.n_bytes, self.elements, self.quantized = name, 0, 0, False

    def allocate(self, a: CachingAllocator, quantized_bits: float, repack: Repack, packed: list[_Packed]) -> int:
        """Make it; returns the bytes that it takes once loaded. What is still to be packed joins `packed`."""
        if not self.quantized:
            a.allocate(self.n_bytes)
            return self.n_bytes
        values = min(self.n_bytes, int(self.elements * quantized_bits / 8))
        side = self.n_bytes - values
        if repack == "awq":
            packed.append(_Packed(a, self.elements, values, side // 2, side // 8))
        elif repack:
            packed.append(_Packed(a, self.elements, values, side, 0))
        else:
            a.allocate(values)
            a.allocate(side)
        return self.n_bytes


def excess_bytes(
    rows: tuple[TensorBytes, ...],
    tables: Iterable[RotaryTable],
    layers: range,
    quantized_bits: float,
    max_split_bytes: int,
    repack: Repack = "",
) -> int:
    """Bytes held beyond the sum of `rows` (one device's tensors) once the decoder `layers` are loaded.

    The first layers are followed one by one; the rest are as the last of those. `quantized_bits` are of
    one value of a quantized tensor, whose scales are tensors of their own; `max_split_bytes` is the release's
    limit while it loads.
    """
    followed, period = FOLLOWED_LAYERS, PERIOD_LAYERS
    if repack:
        followed, period = FOLLOWED_PACKED_LAYERS, PERIOD_PACKED_LAYERS
    here = tuple(tables)
    first = layers[:followed]
    excess, before = _follow(rows, here, first, quantized_bits, max_split_bytes, repack, len(first) - period)
    if len(first) == len(layers):
        return excess
    if repack:
        before = _follow(rows, here, first[:-period], quantized_bits, max_split_bytes, repack, 0)[0]
    return excess + (excess - before) * (len(layers) - len(first)) // period


def _follow(
    rows: tuple[TensorBytes, ...],
    tables: tuple[RotaryTable, ...],
    layers: range,
    quantized_bits: float,
    max_split_bytes: int,
    repack: Repack,
    watch: int,
) -> tuple[int, int]:
    """Excess after all of `layers`, and after the first `watch` of them."""
    a = CachingAllocator(max_split_bytes)
    asked = watched = 0
    packed: list[_Packed] = []
    decoder = [row for row in rows if row.layers and 2 * row.copies >= len(row.layers)]
    where = [frozenset(row.layers) for row in decoder]
    alike: dict[tuple[bool, ...], list[_Module]] = {}
    for row in rows:
        if row.role == "token_embd":
            a.allocate(row.bytes)
            asked += row.bytes
    for index, layer in enumerate(layers):
        if index == watch:
            watched = a.held_bytes - asked
        at = tuple([layer in there for there in where])
        modules = alike.get(at)
        if modules is None:
            modules = alike[at] = _modules(row for row, is_here in zip(decoder, at, strict=True) if is_here)
        for module in (m for m in modules if m.name in _ATTENTION):
            asked += module.allocate(a, quantized_bits, repack, packed)
        for table in tables:
            if table.first_layer == layer or (index == 0 and table.first_layer < layer):
                asked += _rotary(a, table)
        for module in (m for m in modules if m.name not in _ATTENTION):
            asked += module.allocate(a, quantized_bits, repack, packed)
    for row in rows:
        if row.role in _LAST and not row.layers:
            a.allocate(row.bytes)
            asked += row.bytes
    for matrix in packed:
        _unpack_and_pack(a, matrix) if repack == "awq" else _prepack(a, matrix)
    return a.held_bytes - asked, watched


def _modules(rows: Iterable[TensorBytes]) -> list[_Module]:
    """Parameters of a layer that has these `rows`, in their order."""
    found: dict[str, _Module] = {}
    for row in rows:
        name = _MODULES.get(row.role, row.role)
        module = found.setdefault(name, _Module(name))
        module.n_bytes += row.bytes // row.copies
        module.elements += row.elements // row.copies
        module.quantized = module.quantized or row.quantized
    return list(found.values())


def _rotary(a: CachingAllocator, table: RotaryTable) -> int:
    """Make one table of cosines and sines; returns the bytes that stay."""
    half = table.positions * table.width // 2 * FP32
    steps = [a.allocate(table.positions * FP32)]
    if table.scaled:
        steps.append(a.allocate(table.positions * FP32))
        a.free(steps.pop(0))
    steps += [a.allocate(half), a.allocate(half), a.allocate(half)]
    whole = a.allocate(2 * half)
    if table.scaled:
        copy = a.allocate(2 * half)
        for block in steps:
            a.free(block)
        a.free(whole)
        whole = copy
    else:
        for block in steps:
            a.free(block)
    kept = table.positions * table.width * KEPT
    a.allocate(kept)
    a.free(whole)
    return kept


def _prepack(a: CachingAllocator, m: _Packed) -> None:
    """A transposed copy, and the kernel's own layout in place of the stored one."""
    turned = a.allocate(m.value_bytes)
    packed = a.allocate(m.value_bytes)
    a.free(turned)
    a.free(m.values)
    m.values = packed


def _unpack_and_pack(a: CachingAllocator, m: _Packed) -> None:
    """AWQ's order of nibbles into the usual one, then the kernel's; zero points become 16-bit products."""
    wide, wide_zeros = m.elements * 4, m.side_bytes * 2
    nibbles = _unpacked(a, wide)
    shifted = a.allocate(wide)
    usual = a.allocate(m.value_bytes)
    for block in (shifted, m.values):
        a.free(block)
    m.values = usual
    zero_nibbles = _unpacked(a, wide_zeros)
    turned = a.allocate(wide_zeros)
    a.free(zero_nibbles)
    shifted = a.allocate(wide_zeros)
    usual = a.allocate(wide_zeros // 8)
    for block in (shifted, m.zeros, nibbles, turned):
        a.free(block)
    m.zeros = usual
    _prepack(a, m)
    wide_block = a.allocate(wide_zeros)
    converted, scaled, product = (a.allocate(m.side_bytes) for _ in range(3))
    for block in (converted, scaled, wide_block, m.zeros):
        a.free(block)
    m.zeros = product


def _unpacked(a: CachingAllocator, n_bytes: int) -> Block:
    """Shift, mask and reorder: three buffers, of which the last stays."""
    shifted, masked = a.allocate(n_bytes), a.allocate(n_bytes)
    a.free(shifted)
    ordered = a.allocate(n_bytes)
    a.free(masked)
    return ordered
