"""Float32 matrices into quantized layouts: the inverse of `quantized`, for checkpoints that we make ourselves.

AWQ, GPTQ, fp8, int8, MXFP4, NVFP4 and the GGUF blocks, each by plain rounding to nearest: what a checkpoint of that
format looks like, not what a calibrated quantizer would choose. Layouts: as in `quantized`; scales per
arXiv 2209.05433 (fp8) and the OCP MX specification 1.0. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from planner.errors import FormatError
from planner.formats.arrays import Floats, to_float32
from planner.formats.quantized import AWQ_ORDER, E2M1, FP4_GROUPS

Arrays = dict[str, npt.NDArray[Any]]
E4M3_MAX: Final = 448.0
E2M1_MAX: Final = 6.0


def quantize_awq(weight: Floats, group: int) -> Arrays:
    """qweight, qzeros and fp16 scales of `weight` (out, in); `group` inputs share a scale and a zero point."""
    codes, zeros, scales = _asymmetric(weight, group, 4)
    return {"qweight": _columns(codes.T, AWQ_ORDER), "qzeros": _columns(zeros.T, AWQ_ORDER), "scales": scales.T.copy()}


def quantize_gptq(weight: Floats, group: int, bits: int = 4) -> Arrays:
    """qweight, qzeros (less one, format v1), fp16 scales and g_idx of `weight` (out, in)."""
    codes, zeros, scales = _asymmetric(weight, group, bits)
    per_word = 32 // bits
    order = tuple(range(per_word))
    less_one = (zeros.T.astype(np.int64) - 1) & ((1 << bits) - 1)
    rows = _columns(codes, order).T
    return {
        "qweight": np.ascontiguousarray(rows),
        "qzeros": _columns(less_one, order),
        "scales": scales.T.copy(),
        "g_idx": (np.arange(weight.shape[1]) // group).astype(np.int32),
    }


def _asymmetric(weight: Floats, group: int, bits: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Codes (out, in), zero points (out, groups) and fp16 scales (out, groups)."""
    out, width = weight.shape
    if width % group:
        raise FormatError(f"{width} inputs are no multiple of the group of {group}")
    grouped = weight.reshape(out, width // group, group)
    low = np.minimum(grouped.min(axis=2), 0)
    top = (1 << bits) - 1
    scales = np.maximum((np.maximum(grouped.max(axis=2), 0) - low) / top, 1e-6).astype(np.float16)
    wide = scales.astype(np.float32)
    zeros = np.clip(np.rint(-low / wide), 0, top).astype(np.int64)
    codes = np.clip(np.rint(grouped / wide[:, :, None]) + zeros[:, :, None], 0, top).astype(np.int64)
    return codes.reshape(out, width), zeros, scales


def _columns(codes: npt.NDArray[Any], order: tuple[int, ...]) -> npt.NDArray[Any]:
    """(rows, n × words) codes into (rows, words) int32; code c of a word lies in place order[c]."""
    n = len(order)
    if codes.shape[1] % n:
        raise FormatError(f"{codes.shape[1]} codes do not fill words of {n}")
    shifts = (32 // n) * np.array(order, np.uint64)
    grouped = codes.reshape(len(codes), -1, n).astype(np.uint64)
    return np.asarray((grouped << shifts).sum(axis=2, dtype=np.uint64).astype(np.uint32).view(np.int32))


def quantize_fp8(weight: Floats, block: tuple[int, int] | None = None, per_row: bool = False) -> tuple[Any, Floats]:
    """E4M3 codes and scales: one for the tensor, one per output (`per_row`), or one per `block`."""
    rows, cols = block or ((1, weight.shape[1]) if per_row else weight.shape)
    scale = np.maximum(_block_max(weight, rows, cols) / E4M3_MAX, 1e-12).astype(np.float32)
    if per_row:  # stored as bf16: rounded up, so that nothing overflows
        scale = to_float32(bf16(scale * np.float32(1 + 2**-7)).tobytes(), "BF16").reshape(scale.shape)
    full = scale.repeat(rows, axis=0)[: weight.shape[0]].repeat(cols, axis=1)[:, : weight.shape[1]]
    return e4m3(weight / full), scale.reshape(()) if block is None and not per_row else scale


def _block_max(weight: Floats, rows: int, cols: int) -> Floats:
    height, width = -(-weight.shape[0] // rows), -(-weight.shape[1] // cols)
    padded = np.zeros((height * rows, width * cols), np.float32)
    padded[: weight.shape[0], : weight.shape[1]] = np.abs(weight)
    return np.asarray(padded.reshape(height, rows, width, cols).max(axis=(1, 3)), np.float32)


def e4m3(values: Floats) -> npt.NDArray[np.uint8]:
    """The nearest E4M3 code of each value; beyond 448 the largest."""
    magnitudes, codes = _e4m3_codes()
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    code = codes[np.searchsorted(middles, np.abs(values))]
    return np.asarray(code | np.where(np.signbit(values), 0x80, 0), np.uint8)


@cache
def _e4m3_codes() -> tuple[Floats, npt.NDArray[np.uint8]]:
    codes = np.arange(0x7F, dtype=np.uint8)  # 0x7F is not a number
    return to_float32(codes.tobytes(), "F8_E4M3"), codes


def quantize_int8(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Codes (out, in) and one bf16 scale per output, as float32 (out, 1)."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, 1e-12)
    scale = to_float32(bf16(scale * np.float32(1 + 2**-7)).tobytes(), "BF16").reshape(scale.shape)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def quantize_fp4(weight: Floats, kind: str) -> Arrays:
    """weight_packed, weight_scale and, for nvfp4, weight_global_scale of `weight` (out, in). `kind`: mxfp4 or nvfp4."""
    group = FP4_GROUPS[kind]
    grouped = weight.reshape(len(weight), -1, group)
    largest = np.maximum(np.abs(grouped).max(axis=2), 1e-12)
    parts: Arrays = {}
    if kind == "mxfp4":
        parts["weight_scale"], scale = _e8m0(largest)
    else:
        overall = np.float32(E4M3_MAX * E2M1_MAX / largest.max())
        codes = e4m3(np.asarray(largest / E2M1_MAX * overall, np.float32))
        parts |= {"weight_scale": codes, "weight_global_scale": np.array([overall], np.float32)}
        scale = np.maximum(to_float32(codes.tobytes(), "F8_E4M3").reshape(codes.shape) / overall, 1e-12)
    nibbles = _e2m1(np.asarray(grouped / scale[:, :, None], np.float32)).reshape(weight.shape)
    return parts | {"weight_packed": nibbles[:, ::2] | (nibbles[:, 1::2] << 4)}


def _e8m0(largest: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The power of two, as a byte and as itself, that brings `largest` between 4 and 8."""
    exponent = np.clip(np.floor(np.log2(np.maximum(largest, 1e-12))) - 2 + 127, 0, 254).astype(np.uint8)
    return exponent, np.exp2(exponent.astype(np.float32) - 127)


def _e2m1(values: Floats) -> npt.NDArray[np.uint8]:
    middles = (E2M1[1:8] + E2M1[:7]) / 2
    code = np.searchsorted(middles, np.abs(values)).astype(np.uint8)
    return np.asarray(code | np.where(np.signbit(values), 8, 0), np.uint8)


def bf16(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bf16 of each value, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


# --- GGUF blocks ----------------------------------------------------------------------------------


def quantize_gguf(weight: Floats, kind: str) -> bytes:
    """The data of a GGUF tensor of type `kind`. Raises FormatError for types that cannot be made here."""
    if kind == "F32":
        return np.ascontiguousarray(weight, "<f4").tobytes()
    if kind == "F16":
        return np.ascontiguousarray(weight, "<f4").astype("<f2").tobytes()
    if kind == "BF16":
        return bf16(weight).tobytes()
    if kind not in BLOCK_ENCODERS:
        raise FormatError(f"GGUF type {kind} cannot be made; possible: {', '.join(GGUF_KINDS)}")
    size, encode = BLOCK_ENCODERS[kind]
    if weight.shape[-1] % size:
        raise FormatError(f"rows of {weight.shape[-1]} are no multiple of {kind}'s block of {size}")
    return np.ascontiguousarray(encode(np.ascontiguousarray(weight, np.float32).reshape(-1, size))).tobytes()


def _half(values: Floats) -> npt.NDArray[np.uint8]:
    """(n,) as fp16 bytes (n, 2)."""
    return np.ascontiguousarray(values, "<f2").reshape(-1, 1).view(np.uint8)


def _widened(values: Floats) -> Floats:
    """(n,) rounded to fp16, as a column to divide by."""
    return np.asarray(values.astype(np.float16).astype(np.float32)[:, None])


def _divided(x: Floats, by: Floats) -> Floats:
    return np.asarray(np.divide(x, by, out=np.zeros_like(x), where=by != 0), np.float32)


def _q8_0(x: Floats) -> npt.NDArray[np.uint8]:
    scale = np.abs(x).max(axis=1) / 127
    q = np.clip(np.rint(_divided(x, _widened(scale))), -127, 127).astype(np.int8)
    return np.concatenate([_half(scale), q.view(np.uint8)], axis=1)


def _centred(x: Floats, bits: int) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Scale by the value of largest magnitude, which becomes the lowest code."""
    half = 1 << (bits - 1)
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)[:, 0]
    scale = np.asarray(largest / -half, np.float32)
    q = np.clip(np.rint(_divided(x, _widened(scale))) + half, 0, 2 * half - 1)
    return scale, q.astype(np.uint8)


def _spread(x: Floats, bits: int) -> tuple[Floats, Floats, npt.NDArray[np.uint8]]:
    """Scale and minimum of each row."""
    low = x.min(axis=1)
    scale = np.asarray((x.max(axis=1) - low) / ((1 << bits) - 1), np.float32)
    q = np.clip(np.rint(_divided(x - _widened(low), _widened(scale))), 0, (1 << bits) - 1)
    return scale, low, q.astype(np.uint8)


def _low_nibbles(q: npt.NDArray[np.uint8], group: int) -> npt.NDArray[np.uint8]:
    """(n, 2 × bytes) codes: of each 2 × `group` the first half low, the second high."""
    halves = (q & 15).reshape(len(q), -1, 2, group)
    return np.asarray((halves[:, :, 0] | (halves[:, :, 1] << 4)).reshape(len(q), -1), np.uint8)


def _fifth_bits(q: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.packbits(q >> 4, axis=1, bitorder="little")


def _q4_0(x: Floats) -> npt.NDArray[np.uint8]:
    scale, q = _centred(x, 4)
    return np.concatenate([_half(scale), _low_nibbles(q, 16)], axis=1)


def _q4_1(x: Floats) -> npt.NDArray[np.uint8]:
    scale, low, q = _spread(x, 4)
    return np.concatenate([_half(scale), _half(low), _low_nibbles(q, 16)], axis=1)


def _q5_0(x: Floats) -> npt.NDArray[np.uint8]:
    scale, q = _centred(x, 5)
    return np.concatenate([_half(scale), _fifth_bits(q), _low_nibbles(q, 16)], axis=1)


def _q5_1(x: Floats) -> npt.NDArray[np.uint8]:
    scale, low, q = _spread(x, 5)
    return np.concatenate([_half(scale), _half(low), _fifth_bits(q), _low_nibbles(q, 16)], axis=1)


def _k_groups(x: Floats, bits: int) -> tuple[list[npt.NDArray[Any]], npt.NDArray[np.uint8]]:
    """The head of a Q4_K or Q5_K block (scale, minimum, twelve bytes of 6-bit pairs) and its codes (n, 256)."""
    top = (1 << bits) - 1
    groups = x.reshape(len(x), 8, 32)
    low = np.minimum(groups.min(axis=2), 0)
    step = (np.maximum(groups.max(axis=2), 0) - low) / top
    scale, minimum = step.max(axis=1) / 63, -low.min(axis=1) / 63
    steps = np.clip(np.rint(_divided(step, _widened(scale))), 0, 63).astype(np.uint8)
    lows = np.clip(np.rint(_divided(-low, _widened(minimum))), 0, 63).astype(np.uint8)
    real, shift = steps * _widened(scale), lows * _widened(minimum)
    q = np.clip(np.rint(_divided(groups + shift[:, :, None], np.broadcast_to(real[:, :, None], groups.shape))), 0, top)
    first = (steps[:, :4] & 63) | ((steps[:, 4:] >> 4) << 6)
    second = (lows[:, :4] & 63) | ((lows[:, 4:] >> 4) << 6)
    third = (steps[:, 4:] & 15) | ((lows[:, 4:] & 15) << 4)
    head = [_half(scale), _half(minimum), first, second, third]
    return head, q.astype(np.uint8).reshape(len(x), 256)


def _q4_k(x: Floats) -> npt.NDArray[np.uint8]:
    head, q = _k_groups(x, 4)
    return np.concatenate([*head, _low_nibbles(q, 32)], axis=1)


def _q5_k(x: Floats) -> npt.NDArray[np.uint8]:
    head, q = _k_groups(x, 5)
    high = (q.reshape(len(q), 8, 32) >> 4) << np.arange(8, dtype=np.uint8)[:, None]
    return np.concatenate([*head, high.sum(axis=1, dtype=np.uint8), _low_nibbles(q, 32)], axis=1)


def _q6_k(x: Floats) -> npt.NDArray[np.uint8]:
    groups = x.reshape(len(x), 16, 16)
    step = np.abs(groups).max(axis=2) / 31
    scale = np.asarray(step.max(axis=1) / 127, np.float32)
    steps = np.clip(np.rint(_divided(step, _widened(scale))), 0, 127).astype(np.int8)
    real = steps.astype(np.float32) * _widened(scale)
    q = np.clip(np.rint(_divided(groups, np.broadcast_to(real[:, :, None], groups.shape))) + 32, 0, 63)
    codes = q.astype(np.uint8).reshape(len(x), 256)
    high = (codes >> 4).reshape(len(x), 2, 4, 32) << np.array([0, 2, 4, 6], np.uint8)[:, None]
    packed = high.sum(axis=2, dtype=np.uint8).reshape(len(x), 64)
    return np.concatenate([_low_nibbles(codes, 64), packed, steps.view(np.uint8), _half(scale)], axis=1)


def _mxfp4(x: Floats) -> npt.NDArray[np.uint8]:
    exponent, scale = _e8m0(np.abs(x).max(axis=1, keepdims=True))
    return np.concatenate([exponent, _low_nibbles(_e2m1(np.asarray(x / scale, np.float32)), 16)], axis=1)


BLOCK_ENCODERS: Final[dict[str, tuple[int, Callable[[Floats], npt.NDArray[np.uint8]]]]] = {
    "Q8_0": (32, _q8_0), "Q4_0": (32, _q4_0), "Q4_1": (32, _q4_1), "Q5_0": (32, _q5_0), "Q5_1": (32, _q5_1),
    "Q4_K": (256, _q4_k), "Q5_K": (256, _q5_k), "Q6_K": (256, _q6_k), "MXFP4": (32, _mxfp4),
}  # fmt: skip
GGUF_KINDS: Final = ("F32", "F16", "BF16", *BLOCK_ENCODERS)
