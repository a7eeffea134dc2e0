"""Plain number formats to float32: fp32, fp16, bf16, fp8 and integers. Blocks are `formats.quantized`.

Every conversion here is exact: all of fp16, bf16, e4m3 and e5m2 are float32 values.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from planner.errors import FormatError
from planner.formats.reader import RangeReader, read_exactly
from planner.formats.safetensors import TensorInfo

Floats = npt.NDArray[np.float32]
_PLAIN = {
    "F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "U8": "u1", "BOOL": "u1", "I16": "<i2", "U16": "<u2",
    "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
}  # fmt: skip


def read_array(reader: RangeReader, tensor: TensorInfo) -> npt.NDArray[np.generic]:
    """The tensor as numpy has it: floats as float32, integers as they are stored; shape as in the file."""
    raw = read_exactly(reader, tensor.offset, tensor.n_bytes, tensor.name)
    if tensor.dtype in ("I8", "U8", "BOOL", "I16", "U16", "I32", "U32", "I64", "U64"):
        return np.frombuffer(raw, _PLAIN[tensor.dtype]).reshape(tensor.shape)
    return to_float32(raw, tensor.dtype).reshape(tensor.shape)


def to_float32(raw: bytes, dtype: str) -> Floats:
    """Flat float32 of the bytes `raw` in `dtype` (safetensors' names). Raises FormatError for others."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        table: Floats = _fp8_table(4 if dtype == "F8_E4M3" else 5)
        return table[np.frombuffer(raw, np.uint8)]
    if dtype not in ("F32", "F16", "F64"):
        raise FormatError(f"weights of dtype {dtype} are not implemented")
    return np.frombuffer(raw, _PLAIN[dtype]).astype(np.float32)


@cache
def _fp8_table(exponent_bits: int) -> Floats:
    """All 256 values of e4m3fn (no infinities, NaN at all ones) or e5m2 (as IEEE). arXiv 2209.05433."""
    code = np.arange(256)
    mantissa_bits = 7 - exponent_bits
    sign = np.where(code >> 7, -1.0, 1.0)
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    value = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    if exponent_bits == 4:
        value[(code & 0x7F) == 0x7F] = np.nan
    else:
        value[(exponent == 31) & (mantissa == 0)] = np.inf
        value[(exponent == 31) & (mantissa > 0)] = np.nan
    return np.asarray(sign * value, np.float32)
