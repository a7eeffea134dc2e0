"""Bytes of what a deployment carries beside its model: adapters' buffers, and what drafts tokens.

vLLM holds, for every adapter of a batch and every linear, two matrices of the largest rank, used or not (lora/layers
of its wheel): A has rank × inputs, B outputs × rank, each with the inputs and outputs that the linear has on the
device; the embedding and the head, where they take adapters, the whole vocabulary. A draft model is sharded like the
model and runs on the last pipeline stage; its layers cache keys and values in the same pool. Knows no speed.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from planner.estimate.identity import remembered
from planner.estimate.kvcache import kv_bytes_per_token, kv_layers
from planner.estimate.tensors import Tensor, prediction_parameters, tensors
from planner.estimate.weights import DTYPE_BYTES, VLLM, device_tensors, local_shape, stage_layers
from planner.spec.model import Attention, DenseFfn, ModelSpec
from planner.units import ceil_div

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment, Extras
    from planner.spec.engine import EngineRelease
    from planner.spec.quantization import QuantizationFormat

_NO_LINEARS = frozenset({"router", "conv", "token_embd", "output", "shared_gate"})
EAGLE3_DRAFT_VOCABULARY = 32_000
"""Rows of an EAGLE-3 head's own output layer in the published heads of its authors."""
EAGLE_FFN_WIDTHS = 4
"""Width of an EAGLE head's feed-forward over the hidden size, where the model itself has experts only."""


def extra_weight_bytes(d: Deployment, stage: int) -> int:
    """Bytes on one device of `stage` beside the model's own weights; 0 without extras."""
    extras = d.extras
    if extras is None:
        return 0
    p, features = d.parallelism, extras.features
    size = 0
    if features.lora_adapters:
        slots, rank = len(features.lora_adapters), features.max_lora_rank
        size += slots * adapter_bytes(d.model, d.engine, p.tensor, p.pipeline, stage, p.expert, rank)
    if stage == p.pipeline - 1:
        size += _drafting_bytes(d, extras)
    return size


@remembered
def adapter_bytes(model: ModelSpec, release: EngineRelease, tp: int, pp: int, stage: int, ep: int, rank: int) -> int:
    """Buffers of one adapter of rank `rank` on one device of `stage`."""
    layers = frozenset(stage_layers(model.n_layers, pp, stage))
    width = DTYPE_BYTES[model.dtype] if model.dtype != "fp32" else 2
    elements = 0
    for t in tensors(model):
        here = len(layers.intersection(t.layers))
        if here and _is_linear(t):
            rows, cols, experts = local_shape(t, tp, ep, VLLM)
            elements += here * experts * rank * (rows + cols)
    if release.lora is not None and model.architecture in release.lora.embedding_architectures:
        both = model.vocab_size + model.hidden_size
        elements += rank * both * ((stage == 0) + (stage == pp - 1))
    return elements * width


def _is_linear(t: Tensor) -> bool:
    return t.cols > 1 and t.always_loaded and t.role not in _NO_LINEARS and not t.role.startswith("indexer")


def _drafting_bytes(d: Deployment, extras: Extras) -> int:
    model, tp, method = d.model, d.parallelism.tensor, extras.features.speculative
    if method == "draft_model" and extras.draft is not None and extras.draft_format is not None:
        return _model_bytes(extras.draft, extras.draft_format, tp)
    width = DTYPE_BYTES[model.dtype] if model.dtype != "fp32" else 2
    if method == "mtp":
        stored = d.quantization.weight_bits / 8 if d.quantization.id == model.quantization else width
        return ceil(prediction_parameters(model) * stored / tp)
    if method in ("eagle", "eagle3"):
        return ceil_div(eagle_parameters(model, third=method == "eagle3") * width, tp)
    return 0


@remembered
def _model_bytes(draft: ModelSpec, quantization: QuantizationFormat, tp: int) -> int:
    return sum(row.bytes for row in device_tensors(draft, quantization, tp=tp))


@remembered
def _eagle_parameters(model: ModelSpec, third: bool) -> int:
    h = model.hidden_size
    attention = _widest_attention(model)
    q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    inputs = 2 * h if third else h
    dense = [f.intermediate for g in model.layers for f in g.ffns if isinstance(f, DenseFfn)]
    layer = inputs * (q + 2 * kv) + q * h + 3 * h * max(dense, default=EAGLE_FFN_WIDTHS * h)
    return layer + (3 if third else 2) * h * h + (EAGLE3_DRAFT_VOCABULARY * h if third else 0)


def eagle_parameters(model: ModelSpec, *, third: bool) -> int:
    """Parameters of an EAGLE head for `model`: one decoder layer of its shape, and what joins hidden states.

    EAGLE joins two (Li et al. 2024), EAGLE-3 three, with a layer that reads embedding and hidden state side by side
    and an output layer of its own (Li et al. 2025). Estimated from the model's shape: the head is not read.
    """
    return _eagle_parameters(model, third)


def _widest_attention(model: ModelSpec) -> Attention:
    found = [m for g in model.layers for m in g.mixers if isinstance(m, Attention) and not m.cross]
    if found:
        return max(found, key=lambda m: m.heads * m.head_dim)
    return Attention(heads=max(1, model.hidden_size // 128), kv_heads=8, head_dim=128)


def draft_kv_bytes_per_token(d: Deployment, stage: int) -> float:
    """KV bytes that drafting layers add per token on one device of `stage`; a prediction layer is the pool's own."""
    extras, p = d.extras, d.parallelism
    if extras is None or stage != p.pipeline - 1:
        return 0.0
    itemsize = d.kv_format.bits / 8
    if extras.features.speculative == "draft_model" and extras.draft is not None:
        per = kv_bytes_per_token(extras.draft, itemsize, tp=p.tensor)
        return per.unbounded_bytes + per.windowed_bytes
    if extras.features.speculative in ("eagle", "eagle3"):
        rows = [r.bytes_per_token for r in kv_layers(d.model, itemsize, tp=p.tensor) if r.kind in ("full", "sliding")]
        attention = _widest_attention(d.model)
        own = 2 * ceil_div(attention.kv_heads, p.tensor) * attention.head_dim * itemsize
        return max(rows, default=own)
    return 0.0


def extras_formula(d: Deployment) -> str:
    """What the weights' row adds to its formula; empty without extras."""
    if d.extras is None:
        return ""
    features, parts = d.extras.features, []
    if features.lora_adapters:
        parts.append(f"{len(features.lora_adapters)} adapters × rank {features.max_lora_rank} × (inputs + outputs)")
    if features.speculative not in (None, "ngram"):
        parts.append({"draft_model": "draft model", "mtp": "prediction layer"}.get(features.speculative, "EAGLE head"))
    return "".join(f" + {part}" for part in parts)
