"""The catalog's GGUF tables for `estimate.gguf`: which file type gives which tensor which ggml type.

Read once from catalog/quantization.yaml; the byte counts of a model's layers are kept per model.
"""

from __future__ import annotations

from functools import cache

from planner.errors import CatalogError
from planner.estimate.gguf import TOWERS, gguf_choices
from planner.estimate.identity import remembered
from planner.estimate.tensors import tensors
from planner.records import dataclass
from planner.spec.gguf import GgufMix, GgufMixRules
from planner.spec.model import ModelSpec, StoredBytes
from planner.spec.quantization import GgufType, QuantizationFormat

TOKEN_ROLES = ("token_embd", "per_layer_embedding")
"""What llama.cpp leaves in host memory: rows are looked up there, not multiplied."""


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Bytes of a GGUF file by where llama.cpp puts them.

    `layers` one figure per decoder layer; `output` head and last norm, which move to the GPU together
    as one more layer; `embedding` stays on the host; `towers` is the mmproj file (16 bits).
    """

    layers: tuple[int, ...]
    output: int
    embedding: int
    towers: int

    @property
    def total(self) -> int:
        """All of the model file (without the towers)."""
        return sum(self.layers) + self.output + self.embedding


@cache
def _tables() -> tuple[dict[str, GgufMix], GgufMixRules, dict[str, GgufType]]:
    from planner.sources.catalog import load

    document = load().document("quantization")
    mixes = {row["file_type"]: GgufMix.model_validate(row) for row in document["mixes"]}
    rules = GgufMixRules.model_validate(document["mix_rules"])
    return mixes, rules, dict(load().gguf_types())


@remembered
def layer_bytes(
    model: ModelSpec, quant: QuantizationFormat, file_bytes: int | None, stored: StoredBytes | None = None
) -> LayerBytes:
    """Bytes of `model` as a GGUF file of `quant`, by layer.

    `file_bytes` is a published file's size: tensors are scaled to it, for files that follow a mix of
    their own. `stored` is what the file's header says: nothing is estimated then. Raises
    CatalogError for a GGUF format without a mix.
    """
    if stored is not None and quant.kind == "gguf" and len(stored.layers) == model.n_layers:
        head = stored.output + stored.other + (stored.embedding if model.tie_word_embeddings else 0)
        return LayerBytes(stored.layers, head, stored.embedding, stored.towers)
    layers = [0.0] * model.n_layers
    output = embedding = 0.0
    tied = model.tie_word_embeddings
    for role, at, size in tensor_rows(model, quant):
        if at and role in TOKEN_ROLES:
            embedding += size * len(at)
        elif at:
            for layer in at:
                layers[layer] += size
        elif role in TOKEN_ROLES:
            embedding += size
            if tied and role == "token_embd":
                output += size
        else:
            output += size
    scale = 1.0
    if file_bytes:
        counted = sum(layers) + output + embedding - (embedding if tied else 0)
        scale = file_bytes / counted if counted else 1.0
        if not 0.8 < scale < 1.25:
            scale = 1.0
    towers = sum(block.parameters * 2 for block in model.blocks if block.role in ("vision", "audio", "projector"))
    return LayerBytes(
        tuple(round(size * scale) for size in layers), round(output * scale), round(embedding * scale), towers
    )


@remembered
def tensor_rows(model: ModelSpec, quant: QuantizationFormat) -> tuple[tuple[str, tuple[int, ...], float], ...]:
    """(role, layers, bytes in each) of every tensor, no layers for one outside them.

    Formats that are no GGUF mix count by their mean bits.
    """
    if quant.kind == "gguf":
        mixes, rules, types = _tables()
        name = quant.gguf_file_type
        if name is None or name not in mixes:
            raise CatalogError(f"{quant.id} names the GGUF file type {name!r}, which quantization.yaml lacks")
        found = gguf_choices(model, mixes[name], rules, types)
        return tuple((t.role, layers, float(size)) for t, layers, _, size in found)
    rows: list[tuple[str, tuple[int, ...], float]] = []
    for t in tensors(model):
        if t.role in TOWERS:
            continue
        bits = quant.weight_bits if t.quantizable or quant.kind == "float" else 16
        rows.append((t.role, t.layers, t.elements / t.count * bits / 8))
    return tuple(rows)
