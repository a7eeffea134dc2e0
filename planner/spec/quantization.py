"""Weight and KV formats: bits, block layouts, mixes and what they cost in quality."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Provenance, Spec

Kind = Literal["float", "fp8", "int8", "int4", "nf4", "mxfp4", "nvfp4", "gguf"]
Compute = Literal["native", "weight_only"]


class QualityLoss(Spec):
    """Published loss against the 16-bit model, in `metric`'s own unit (higher is worse)."""

    metric: str
    model: str
    baseline: float
    value: float
    provenance: Provenance


class QuantizationFormat(Spec):
    """How a linear layer's weights are stored and multiplied.

    `weight_bits` counts the packed value alone; scales and zero points follow from the group
    fields. `group_size` 0 means one scale per output channel, None none at all; `block` is the
    two-dimensional block of fp8-block. `quality_rank` orders formats: 0 is lossless, larger loses
    more. For GGUF mixes `gguf_file_type` names the row of `GgufMix`.
    """

    id: str
    name: str
    kind: Kind
    weight_bits: float
    activation_bits: int
    group_size: int | None = None
    block: tuple[int, int] | None = None
    scale_bits: int = 0
    zero_point_bits: int = 0
    tensor_scale_bits: int = 0
    needs_checkpoint: bool = False
    """False when an engine can quantize bf16 weights while loading."""
    gguf_file_type: str | None = None
    quality_rank: float
    quality: tuple[QualityLoss, ...] = ()
    aliases: tuple[str, ...] = ()
    provenance: Provenance


class GgufType(Spec):
    """One ggml tensor type: a block of `block_elements` values takes `block_bytes`."""

    id: str
    number: int
    block_elements: int
    block_bytes: int
    provenance: Provenance


class KvFormat(Spec):
    """A KV-cache element format. `bits` includes scales stored in line (q8_0: 8.5)."""

    id: str
    bits: float
    engines: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    quality_rank: float = 0
    provenance: Provenance
