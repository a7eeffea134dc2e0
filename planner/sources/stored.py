"""Tensors as a checkpoint's headers list them, and where in the model each belongs.

Knows the names of transformers' and of GGUF's tensors well enough to tell layer, embedding, head and tower
apart, and how packed 4-bit words hide a matrix's shape. Knows no configuration and no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod
from typing import Final, NamedTuple

from planner.spec.model import StoredBytes


class TensorFact(NamedTuple):
    """One tensor of a header: `shape` outermost first, `n_bytes` as stored."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_bytes: int

    @property
    def elements(self) -> int:
        """Stored numbers; a packed word counts as one."""
        return prod(self.shape)


class Place(NamedTuple):
    """Where a tensor belongs. `kind` is layer, embedding, output, tower or other; `rest` the name in its layer."""

    kind: str
    layer: int | None
    rest: str


_LAYER: Final = re.compile(
    r"(?P<prefix>(?:^|.*?\.)(?:layers|h|blk|blocks|block|layer)\.)(?P<index>\d{1,5})\.(?P<rest>.+)"
)
_NUMBERED: Final = re.compile(r"(?P<prefix>(?:.*?\.)?[A-Za-z_]\w*\.)(?P<index>\d{1,5})\.(?P<rest>.+)")
"""A stack under any other name."""
_TOWER: Final = re.compile(
    r"(?:^|[._])(?:vision|visual|vit|image_newline|audio|clip|siglip|speech|multi_modal_projector|mm_projector|"
    r"mm|connector|patch_merger|img_projection|aligner|sam_model)(?:[._]|$)|^v\.|^a\."
)
_EMBEDDING: Final = re.compile(
    r"(?:^|\.)(?:embed_tokens|embed_tokens_per_layer|wte|tok_embeddings|word_embeddings|embed_in|embeddings|"
    r"token_embd|per_layer_token_embd)(?:\.|$)"
)
_OUTPUT: Final = re.compile(
    r"(?:^|\.)(?:lm_head|embed_out|output|output_norm|norm|norm_f|final_layernorm|final_norm|ln_f|output_layer|"
    r"ln_final)\.(?:weight|bias|scales|biases|qweight|qzeros|g_idx|weight_scale|weight_packed|weight_shape)$"
)
_PREDICTION: Final = re.compile(r"(?:^|\.)(?:mtp|nextn|medusa|eagle)(?:[._]|$)")
HEAD: Final = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|output_layer)\.(?:weight|qweight|weight_packed)$")
BUFFER: Final = re.compile(r"(?:rotary_emb\.inv_freq|rope_freqs\.weight|rope_factors_(?:long|short)\.weight|"
                           r"masked_bias|attn\.bias|position_ids)$")  # fmt: skip


def decoder_prefix(facts: Iterable[TensorFact]) -> str | None:
    """What stands before the layer's number in the decoder's names: of several stacks the largest."""
    held, sizes = list(facts), dict[str, int]()
    for pattern in (_LAYER, _NUMBERED):
        for fact in held:
            match = pattern.match(fact.name)
            if match and not _TOWER.search(match["prefix"]) and not _PREDICTION.search(match["prefix"]):
                sizes[match["prefix"]] = sizes.get(match["prefix"], 0) + fact.n_bytes
        if sizes:
            break
    return max(sizes, key=lambda prefix: (sizes[prefix], prefix)) if sizes else None


def place(name: str, prefix: str | None) -> Place:
    """Where `name` belongs when the decoder's layers start with `prefix`."""
    if prefix is not None and name.startswith(prefix):
        index, _, rest = name[len(prefix) :].partition(".")
        if index.isdecimal() and rest:
            return Place("layer", int(index), rest)
    if _PREDICTION.search(name):
        return Place("other", None, name)
    if _TOWER.search(name):
        return Place("tower", None, name)
    if _EMBEDDING.search(name):
        return Place("embedding", None, name)
    if _OUTPUT.search(name) and not _LAYER.match(name):
        return Place("output", None, name)
    return Place("other", None, name)


def stored_bytes(facts: Sequence[TensorFact], n_layers: int) -> StoredBytes:
    """Bytes by place. Layers past `n_layers` (prediction blocks) count as other."""
    prefix = decoder_prefix(facts)
    layers = [0] * n_layers
    sums = dict.fromkeys(("embedding", "output", "tower", "other"), 0)
    dtypes: dict[str, int] = {}
    for fact in facts:
        where = place(fact.name, prefix)
        dtypes[fact.dtype] = dtypes.get(fact.dtype, 0) + fact.n_bytes
        if where.layer is not None and where.layer < n_layers:
            layers[where.layer] += fact.n_bytes
        else:
            sums["other" if where.kind == "layer" else where.kind] += fact.n_bytes
    return StoredBytes(
        layers=tuple(layers),
        embedding=sums["embedding"],
        output=sums["output"],
        towers=sums["tower"],
        other=sums["other"],
        n_tensors=len(facts),
        elements=sum(fact.elements for fact in facts),
        dtypes=tuple(sorted(dtypes.items(), key=lambda item: (-item[1], item[0]))),
    )


SCALES: Final = (
    ".weight_scale_inv", ".weight_scale", ".weight_scale_2", ".input_scale", ".weight_zero_point", ".weight_g_idx",
    ".weight_shape", ".weight_global_scale", ".input_global_scale", ".qzeros", ".scales", ".g_idx", ".biases",
    ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map", ".SCB",
    ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4", "k_scale", "v_scale", "_scales",
)  # fmt: skip
"""Tensors that belong to a quantized matrix and are no parameters of the model."""


def logical(facts: Sequence[TensorFact], bits: int = 4) -> tuple[TensorFact, ...]:
    """The model's own tensors: packed words unfolded into matrices (out, in), scales left out.

    `bits` of a packed value. AWQ packs outputs, GPTQ inputs, compressed-tensors, MLX and NVFP4 inputs.
    """
    names = {fact.name for fact in facts}
    found = []
    for fact in facts:
        stem, _, leaf = fact.name.rpartition(".")
        if leaf in ("scales", "biases", "qzeros", "g_idx") or fact.name.endswith(SCALES):
            continue
        shape = fact.shape
        if leaf == "qweight" and len(shape) == 2:
            gptq = f"{stem}.g_idx" in names
            shape = (shape[1], shape[0] * 32 // bits) if gptq else (shape[1] * 32 // bits, shape[0])
        elif (leaf == "weight_packed" or (leaf == "weight" and f"{stem}.scales" in names)) and fact.dtype in (
            "I32",
            "U32",
        ):
            shape = (*shape[:-1], shape[-1] * 32 // bits)
        elif fact.dtype == "U8" and leaf in ("weight", "weight_packed"):
            shape = (*shape[:-1], shape[-1] * 2)
        elif fact.name.endswith("_blocks") and fact.dtype == "U8" and len(shape) >= 3:
            shape = (*shape[:-2], shape[-2] * shape[-1] * 2)
        name = f"{stem}.weight" if leaf in ("qweight", "weight_packed") else fact.name.removesuffix("_blocks")
        found.append(TensorFact(name, fact.dtype, shape, fact.n_bytes))
    return tuple(found)
