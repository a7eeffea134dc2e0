"""Modules whose weight is packed into other tensors: AWQ, GPTQ, MXFP4 and NVFP4, as `quantization_config` declares.

fp8 and int8 keep a tensor named weight beside its scale; those are `weights`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.errors import UsageError
from planner.formats.arrays import Floats
from planner.formats.quantized import dequantize_awq, dequantize_fp4, dequantize_gptq

Raw = Callable[[str], npt.NDArray[Any]]
FP4 = {"mxfp4-pack-quantized": "mxfp4", "nvfp4-pack-quantized": "nvfp4"}
UNSCALED = ("fp8", "fbgemm_fp8")
IMPLEMENTED = "fp8, awq, gptq, compressed-tensors (fp8, int8, mxfp4, nvfp4)"


@dataclass(frozen=True, slots=True)
class Packing:
    """The first of `parts` names a packed module, all of them belong to it; `read` gives its weight."""

    parts: tuple[str, ...]
    read: Callable[[str], Floats]


def packing(quantization: dict[str, Any] | None, raw: Raw) -> Packing | None:
    """How modules are packed under this `quantization_config`; None when they are not. Raises UsageError."""
    if not quantization:
        return None
    method, bits = quantization.get("quant_method"), quantization.get("bits", quantization.get("w_bit", 4))
    if method in UNSCALED:
        return None
    if method == "awq":
        return _awq(quantization, bits, raw)
    if method == "gptq":
        return _gptq(quantization, bits, raw)
    if method == "compressed-tensors":
        return _compressed(quantization, raw)
    raise UsageError(f"quantization {method!r} is not implemented; implemented: {IMPLEMENTED}")


def _awq(quantization: dict[str, Any], bits: object, raw: Raw) -> Packing:
    if bits != 4 or str(quantization.get("version", "gemm")).lower() != "gemm":
        version = quantization.get("version")
        raise UsageError(f"AWQ with {bits} bits, version {version!r}: only 4-bit gemm is implemented")
    parts = ("qweight", "qzeros", "scales")
    return Packing(parts, lambda m: dequantize_awq(*(raw(f"{m}.{part}") for part in parts)))


def _gptq(quantization: dict[str, Any], bits: Any, raw: Raw) -> Packing:
    if bits not in (2, 4, 8):
        raise UsageError(f"GPTQ with {bits} bits is not implemented; implemented: 2, 4, 8")
    offset = 0 if quantization.get("checkpoint_format") == "gptq_v2" else 1

    def read(m: str) -> Floats:
        order = raw(f"{m}.g_idx") if quantization.get("desc_act") else None
        return dequantize_gptq(
            raw(f"{m}.qweight"), raw(f"{m}.qzeros"), raw(f"{m}.scales"), order, bits=bits, zero_offset=offset
        )

    return Packing(("qweight", "qzeros", "scales", "g_idx"), read)


def _compressed(quantization: dict[str, Any], raw: Raw) -> Packing | None:
    groups = [g for g in (quantization.get("config_groups") or {}).values() if isinstance(g, dict)]
    weights = [group.get("weights") or {} for group in groups]
    if weights and all(w.get("num_bits") == 8 and w.get("type") in ("float", "int") for w in weights):
        return None
    formats = {str(group.get("format") or quantization.get("format")) for group in groups}
    if len(formats) != 1 or not formats <= FP4.keys():
        told = ", ".join(sorted(formats)) or "no format"
        raise UsageError(f"compressed-tensors with {told} is not implemented; implemented: {IMPLEMENTED}")
    if FP4[formats.pop()] == "mxfp4":
        return Packing(
            ("weight_packed", "weight_scale"),
            lambda m: dequantize_fp4(raw(f"{m}.weight_packed"), raw(f"{m}.weight_scale")),
        )

    def read(m: str) -> Floats:
        overall = np.asarray(raw(f"{m}.weight_global_scale"), np.float32)
        return dequantize_fp4(raw(f"{m}.weight_packed"), raw(f"{m}.weight_scale"), overall)

    return Packing(("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"), read)
