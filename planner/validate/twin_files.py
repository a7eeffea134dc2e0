"""A twin's checkpoint on disk in the plan's weight format, and what the ledger's formula says that it weighs.

The files are read back by the engine's own loaders, so that a smoke test dequantizes what the plan's engine would.
Formats that the engine does not read are refused by name. Knows nothing of the forward pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from planner.errors import UsageError
from planner.estimate.weights import PLAIN, weight_bytes
from planner.formats import gguf, safetensors
from planner.formats.quantize import (
    GGUF_KINDS,
    bf16,
    quantize_awq,
    quantize_fp4,
    quantize_fp8,
    quantize_gptq,
    quantize_int8,
)
from planner.formats.reader import FileReader
from planner.formats.writing import write_safetensors
from planner.validate.small_gguf import BUFFERS, write_gguf_of
from planner.validate.twin import Twin

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.quantization import QuantizationFormat

Weights = Mapping[str, npt.NDArray[np.float32]]
Tensors = dict[str, npt.NDArray[Any]]
GROUP = 16
"""Inputs that share a scale in a twin's AWQ or GPTQ; its matrices are too narrow for groups of 128."""
_KEPT = re.compile(r"(embed_tokens|lm_head|mlp\.gate|block_sparse_moe\.gate|shared_expert_gate)\.weight$")


def write_twin(twin: Twin, weights: Weights, form: QuantizationFormat, catalog: Catalog, folder: Path) -> Path:
    """The checkpoint in `folder`: itself, or a .gguf file in it. Raises UsageError when there cannot be one."""
    if form.kind == "gguf":
        types = types_of(twin, form, catalog)
        return write_gguf_of(twin.engine_config, weights, lambda role, at: types[role, at], folder / "twin.gguf")
    encode, declared = _encoder(form)
    tensors: Tensors = {}
    dtypes: dict[str, str] = {}
    for name, value in weights.items():
        if encode is None or value.ndim != 2 or _KEPT.search(name):
            tensors[name] = _plain(value, form, twin)
            continue
        for part, array in encode(value).items():
            key = name if part == "weight" else f"{name.removesuffix('.weight')}.{part}"
            tensors[key] = array
            if array.dtype == np.uint8 and (form.kind == "fp8" or part == "weight_scale") and form.kind != "mxfp4":
                dtypes[key] = "F8_E4M3"
    config = twin.config | ({"quantization_config": declared} if declared else {})
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", tensors, dtypes)
    return folder


def stored_bytes(path: Path) -> int:
    """Bytes of tensor data in the files of a checkpoint; GGUF's rope factors are a buffer and do not count."""
    if path.suffix == ".gguf":
        with FileReader(path) as reader:
            return sum(t.n_bytes for name, t in gguf.read_header(reader).tensors.items() if name not in BUFFERS)
    with FileReader(path / "model.safetensors") as reader:
        return sum(t.n_bytes for t in safetensors.read_header(reader).tensors.values())


def planned_bytes(twin: Twin, form: QuantizationFormat, catalog: Catalog) -> int:
    """The same by the ledger's formula."""
    if form.kind == "gguf":
        from planner.estimate.gguf import gguf_tensor_types

        return sum(t.bytes for t in gguf_tensor_types(twin.spec, *_mix(form, catalog), catalog.gguf_types()))
    return weight_bytes(twin.spec, form, rules=PLAIN, group_size=_group(form))


def types_of(twin: Twin, form: QuantizationFormat, catalog: Catalog) -> dict[tuple[str, int | None], str]:
    """(role, layer) → ggml type, as llama.cpp's quantizer would choose. Raises UsageError for types not made here."""
    from planner.estimate.gguf import gguf_tensor_types

    rows = gguf_tensor_types(twin.spec, *_mix(form, catalog), catalog.gguf_types())
    missing = sorted({row.type for row in rows} - set(GGUF_KINDS))
    if missing:
        raise UsageError(f"the validation engine has no {', '.join(missing)}; it has {', '.join(GGUF_KINDS)}")
    return {(row.role, row.layer): row.type for row in rows}


def _mix(form: QuantizationFormat, catalog: Catalog) -> tuple[Any, Any]:
    from planner.spec.gguf import GgufMix, GgufMixRules

    document = catalog.document("quantization")
    mix = next((m for m in document["mixes"] if m["file_type"] == form.gguf_file_type), None)
    if mix is None:
        raise UsageError(f"{form.id} has no mix of types in the catalog")
    return GgufMix.model_validate(mix), GgufMixRules.model_validate(document["mix_rules"])


def _plain(value: npt.NDArray[np.float32], form: QuantizationFormat, twin: Twin) -> npt.NDArray[Any]:
    """What the format leaves alone is in the model's own 16-bit type."""
    kind = form.id if form.kind == "float" else twin.spec.dtype
    return value if kind == "fp32" and form.kind == "float" else value.astype("<f2") if kind == "fp16" else bf16(value)


def _group(form: QuantizationFormat) -> int | None:
    """The twin's group; those of MXFP4 and NVFP4 are part of the format."""
    return GROUP if form.id in ("awq", "gptq-int4", "gptq-int8") else form.group_size


Encode = Callable[[npt.NDArray[np.float32]], Tensors]


def _encoder(form: QuantizationFormat) -> tuple[Encode | None, dict[str, Any]]:
    """How a matrix is stored, and the quantization_config that says so."""
    bits = round(form.weight_bits)
    grouped = {"bits": bits, "group_size": GROUP}
    if form.kind == "float":
        return None, {}
    if form.id == "awq":
        return lambda w: quantize_awq(w, GROUP), {
            "quant_method": "awq",
            "version": "gemm",
            "zero_point": True,
        } | grouped
    if form.id in ("gptq-int4", "gptq-int8"):
        return lambda w: quantize_gptq(w, GROUP, bits), {"quant_method": "gptq", "desc_act": False} | grouped
    if form.kind == "fp8":
        declared: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
        if form.block:
            return lambda w: _fp8(w, form), declared | {"weight_block_size": list(form.block)}
        return lambda w: _fp8(w, form), _compressed("float", 8, None) if form.group_size == 0 else declared
    if form.id in ("int8-w8a8", "int8-w8a16"):
        return _int8, _compressed("int", 8, None)
    if form.kind in ("mxfp4", "nvfp4"):
        return lambda w: quantize_fp4(w, form.kind), _compressed("float", 4, f"{form.kind}-pack-quantized")
    raise UsageError(f"the validation engine does not read {form.id}")


def _fp8(weight: npt.NDArray[np.float32], form: QuantizationFormat) -> Tensors:
    codes, scale = quantize_fp8(weight, form.block, per_row=form.group_size == 0)
    if form.block:
        return {"weight": codes, "weight_scale_inv": scale}
    return {"weight": codes, "weight_scale": bf16(scale) if form.group_size == 0 else scale}


def _int8(weight: npt.NDArray[np.float32]) -> Tensors:
    codes, scale = quantize_int8(weight)
    return {"weight": codes, "weight_scale": bf16(scale)}


def _compressed(kind: str, bits: int, packed: str | None) -> dict[str, Any]:
    group = {"weights": {"type": kind, "num_bits": bits}, "targets": ["Linear"]}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}} | (
        {"format": packed} if packed else {}
    )
