"""Quantized weights to float32: GGUF blocks, AWQ and GPTQ int4, fp8 scales. One function per layout.

Layouts: ggml-common.h of ggml-org/ggml for the GGUF blocks; arXiv 2306.00978 and the AutoAWQ "gemm" packing for
AWQ; arXiv 2210.17323 and the AutoGPTQ packing for GPTQ. Every multiplication is done in float32 in the order of
ggml's reference code, so that the result is equal bit for bit. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from planner.errors import FormatError
from planner.formats.arrays import Floats, to_float32
from planner.formats.gguf import TYPES

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[Any]
_BLOCKS: Final = {name: (block, n_bytes) for name, block, n_bytes in TYPES.values()}
_LOW_HIGH: Final = np.array([0, 4], np.uint8)
E2M1: Final = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The sixteen values of a 4-bit float. OCP MX specification 1.0."""
FP4_GROUPS: Final = {"mxfp4": 32, "nvfp4": 16}
"""Inputs that share a scale."""
AWQ_ORDER: Final = (0, 4, 1, 5, 2, 6, 3, 7)  # column c of eight lies in nibble AWQ_ORDER[c]


def dequantize(raw: bytes, kind: str) -> Floats:
    """Flat float32 of the GGUF data `raw` of type `kind`. Raises FormatError for types not implemented."""
    if kind in ("F32", "F16", "F64", "BF16"):
        return to_float32(raw, kind)
    if kind not in BLOCK_DECODERS:
        known = ", ".join(["F32", "F16", "BF16", *BLOCK_DECODERS])
        raise FormatError(f"GGUF type {kind} is not implemented; implemented: {known}")
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, _BLOCKS[kind][1])
    return BLOCK_DECODERS[kind](blocks).reshape(-1)


def _half(columns: Bytes) -> Floats:
    """fp16 columns as float32."""
    return np.ascontiguousarray(columns).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes, group: int) -> Bytes:
    """(n, bytes) → (n, 2 × bytes): of each `group` bytes first all low nibbles, then all high ones."""
    grouped = packed.reshape(len(packed), -1, 1, group)
    return np.asarray((grouped >> _LOW_HIGH[:, None]) & 15, np.uint8).reshape(len(packed), -1)


def _bits(packed: Bytes) -> Bytes:
    """(n, 4) → (n, 32) single bits, least significant first."""
    return np.unpackbits(np.ascontiguousarray(packed), axis=1, bitorder="little")


def _q4_0(b: Bytes) -> Floats:
    return _half(b[:, :2]) * (_nibbles(b[:, 2:], 16).astype(np.float32) - 8)


def _q4_1(b: Bytes) -> Floats:
    return _half(b[:, :2]) * _nibbles(b[:, 4:], 16).astype(np.float32) + _half(b[:, 2:4])


def _q5_0(b: Bytes) -> Floats:
    q = _nibbles(b[:, 6:], 16) | (_bits(b[:, 2:6]) << 4)
    return _half(b[:, :2]) * (q.astype(np.float32) - 16)


def _q5_1(b: Bytes) -> Floats:
    q = _nibbles(b[:, 8:], 16) | (_bits(b[:, 4:8]) << 4)
    return _half(b[:, :2]) * q.astype(np.float32) + _half(b[:, 2:4])


def _q8_0(b: Bytes) -> Floats:
    return _half(b[:, :2]) * np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.float32)


def _k_scales(b: Bytes) -> tuple[Floats, Floats]:
    """Scale and minimum of each of the eight 32-groups, from 12 bytes of 6-bit numbers; (n, 8, 1) each."""
    low, high, rest = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scale = np.concatenate([low & 63, (rest & 15) | ((low >> 6) << 4)], axis=1)
    minimum = np.concatenate([high & 63, (rest >> 4) | ((high >> 6) << 4)], axis=1)
    scales = _half(b[:, :2]) * scale.astype(np.float32)
    return scales[:, :, None], (_half(b[:, 2:4]) * minimum.astype(np.float32))[:, :, None]


def _q4_k(b: Bytes) -> Floats:
    scale, minimum = _k_scales(b)
    return scale * _nibbles(b[:, 16:], 32).reshape(len(b), 8, 32).astype(np.float32) - minimum


def _q5_k(b: Bytes) -> Floats:
    scale, minimum = _k_scales(b)
    fifth = (b[:, 16:48][:, None, :] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    q = _nibbles(b[:, 48:], 32).reshape(len(b), 8, 32) | (fifth << 4)
    return scale * q.astype(np.float32) - minimum


def _q6_k(b: Bytes) -> Floats:
    low = _nibbles(b[:, :128], 64)
    pairs = (b[:, 128:192].reshape(len(b), 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3
    q = (low | (pairs.reshape(len(b), 256) << 4)).astype(np.float32) - 32
    scale = _half(b[:, 208:]) * np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32)
    return scale[:, :, None] * q.reshape(len(b), 16, 16)


def _mxfp4(b: Bytes) -> Floats:
    """ggml keeps twice each value as an integer, and half the scale; a scale byte of 255 is a number to it."""
    half_scale = np.exp2(b[:, :1].astype(np.float64) - 128).astype(np.float32)
    return half_scale * (2 * E2M1).astype(np.int8)[_nibbles(b[:, 1:], 16)].astype(np.float32)


def _power_of_two(exponent: Bytes) -> Floats:
    """E8M0: 2 to the byte less 127; 255 is not a number."""
    value = np.exp2(exponent.astype(np.float64) - 127).astype(np.float32)
    return np.where(exponent == 255, np.float32(np.nan), value)


BLOCK_DECODERS: Final[dict[str, Callable[[Bytes], Floats]]] = {
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q4_K": _q4_k, "Q5_K": _q5_k,
    "Q6_K": _q6_k, "MXFP4": _mxfp4,
}  # fmt: skip


def dequantize_awq(qweight: Ints, qzeros: Ints, scales: Floats) -> Floats:
    """(out, in) from AWQ's qweight (in, out/8) int32, qzeros (in/group, out/8) int32, scales (in/group, out)."""
    _check_packed("AWQ", qweight, qzeros, scales)
    q, zeros = _unpack_columns(qweight), _unpack_columns(qzeros)
    rows, groups = q.shape[0], scales.shape[0]
    if zeros.shape != scales.shape or q.shape[1] != scales.shape[1] or not groups or rows % groups:
        raise FormatError(f"AWQ: qweight {qweight.shape}, qzeros {qzeros.shape}, scales {scales.shape} do not match")
    centred = q.reshape(groups, rows // groups, -1).astype(np.float32) - zeros[:, None, :]
    return np.ascontiguousarray((centred * scales[:, None, :]).reshape(rows, -1).T)


def _check_packed(method: str, qweight: Ints, qzeros: Ints, scales: Floats) -> None:
    for name, packed in (("qweight", qweight), ("qzeros", qzeros)):
        if packed.dtype != np.int32 or packed.ndim != 2:
            raise FormatError(f"{method}: {name} must be a matrix of int32, it is {packed.dtype} {packed.shape}")
    if scales.ndim != 2 or scales.dtype != np.float32:
        raise FormatError(f"{method}: scales must be a matrix of floats, they are {scales.dtype} {scales.shape}")


def _unpack_columns(packed: Ints) -> Ints:
    """(rows, n) int32 → (rows, 8n) nibbles in AWQ's order."""
    shifts = 4 * np.array(AWQ_ORDER, np.uint32)
    return ((packed.view(np.uint32)[:, :, None] >> shifts) & 15).reshape(packed.shape[0], -1)


def dequantize_gptq(
    qweight: Ints, qzeros: Ints, scales: Floats, g_idx: Ints | None = None, *, bits: int = 4, zero_offset: int = 1
) -> Floats:
    """(out, in) from GPTQ's qweight (in·bits/32, out), qzeros (groups, out·bits/32), scales (groups, out).

    `g_idx` (in,) is each input row's group; without it groups are consecutive. `zero_offset` is 1 in checkpoint
    format v1, which stores zero points less one, and 0 in v2. `bits` is 2, 4 or 8.
    """
    _check_packed("GPTQ", qweight, qzeros, scales)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    mask = (1 << bits) - 1
    out = qweight.shape[1]
    q = ((qweight.view(np.uint32)[:, None, :] >> shifts[:, None]) & mask).reshape(-1, out)
    zeros = ((qzeros.view(np.uint32)[:, :, None] >> shifts) & mask).reshape(qzeros.shape[0], -1)
    rows, groups = q.shape[0], scales.shape[0]
    if zeros.shape != scales.shape or out != scales.shape[1] or not groups or (g_idx is None and rows % groups):
        raise FormatError(f"GPTQ: qweight {qweight.shape}, qzeros {qzeros.shape}, scales {scales.shape} do not match")
    group = np.arange(rows) // (rows // groups) if g_idx is None else np.asarray(g_idx).astype(np.int64)
    if group.shape != (rows,) or group.min(initial=0) < 0 or group.max(initial=0) >= groups:
        raise FormatError(f"GPTQ: g_idx must give one of {groups} groups for each of {rows} rows")
    zeros = ((zeros + zero_offset) & mask).astype(np.float32)
    return np.ascontiguousarray(((q.astype(np.float32) - zeros[group]) * scales[group]).T)


def apply_scale(weight: Floats, scale: Floats, block: tuple[int, int] | None = None) -> Floats:
    """fp8 `weight` (out, in) times its scale: one number, one per row (out or out×1), or one per `block`."""
    if scale.size == 1:
        return weight * scale.reshape(())
    if block is None:
        if scale.size != weight.shape[0]:
            raise FormatError(f"fp8: a scale of shape {scale.shape} does not fit a weight of shape {weight.shape}")
        return weight * scale.reshape(-1, 1)
    expected = tuple(-(-n // b) for n, b in zip(weight.shape, block, strict=True))
    if scale.shape != expected:
        raise FormatError(f"fp8: block scales of shape {scale.shape}, expected {expected} for {weight.shape}")
    full = scale.repeat(block[0], axis=0)[: weight.shape[0]].repeat(block[1], axis=1)[:, : weight.shape[1]]
    return weight * full


def dequantize_fp4(packed: Ints, scale: Ints, overall: Floats | None = None) -> Floats:
    """(out, in) from weight_packed (out, in/2) bytes, even inputs in the low nibble, and a scale per group.

    MXFP4: bytes of E8M0, one per 32 inputs. NVFP4: E4M3 (given as float32), one per 16, divided by `overall`.
    Layouts: compressed-tensors' mxfp4-pack-quantized and nvfp4-pack-quantized.
    """
    kind = "mxfp4" if overall is None else "nvfp4"
    wanted = np.uint8 if overall is None else np.float32
    if packed.ndim != 2 or scale.ndim != 2 or packed.dtype != np.uint8 or scale.dtype != wanted:
        raise FormatError(
            f"{kind}: weight_packed {packed.dtype} {packed.shape} with scales {scale.dtype} {scale.shape}"
        )
    rows, width = packed.shape[0], 2 * packed.shape[1]
    if scale.shape != (rows, width // FP4_GROUPS[kind]) or width % FP4_GROUPS[kind]:
        raise FormatError(f"{kind}: scales of shape {scale.shape} do not fit a weight of shape {(rows, width)}")
    values = E2M1[np.stack([packed & 15, packed >> 4], axis=-1)].reshape(rows, -1, FP4_GROUPS[kind])
    if overall is None:
        factors = _power_of_two(scale)
    elif overall.size != 1 or not overall.reshape(()) > 0:
        raise FormatError("nvfp4: weight_global_scale must be one positive number")
    else:
        factors = np.asarray(scale / overall.reshape(()), np.float32)
    return np.asarray((values * factors[:, :, None]).reshape(rows, width), np.float32)
