"""What one device multiplies, reads and remembers per token: a model's sums after sharding.

Built once per model, format and layout; knows no device and no time. Fused q, k, v and gate, up
need no special case here: sums over matrices are all that a roofline asks for.
"""

from __future__ import annotations

from typing import Final

from planner.estimate.identity import remembered
from planner.estimate.kvcache import state_bytes
from planner.estimate.tensors import kept_layers, quantized_layers, tensors
from planner.estimate.weights import WeightRules, linear_bytes, local_shape
from planner.records import dataclass
from planner.spec.model import Attention, Mixer, Mla, ModelSpec, MoeFfn
from planner.spec.quantization import QuantizationFormat

_UNREAD: Final = ("vision", "audio", "projector", "position", "per_layer_embedding", "mtp", "buffer", "other")
_RULES: Final = WeightRules(vocab_multiple=1)
_SUMMED_ONCE: Final = frozenset({"falcon"})
"""Model types whose attention and feed-forward run side by side and are reduced together. Source: vLLM
model_executor/models/falcon.py (reduce_row_parallel_results)."""
INDEXER_TOKENS: Final = 2048
"""Tokens that sparse attention keeps per query (index_topk of DeepSeek V3.2 and GLM-5)."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """Dense matrices of one device: weights and the bytes they are stored in, over all layers."""

    elements: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts of like layers. `elements` and `bytes` are one expert's, over `layers` layers.

    Already divided by the devices that share each expert's work (tensor slices or expert ranks).
    """

    experts: int
    per_token: int
    layers: int
    elements: float
    bytes: float
    width: float
    """Columns of one expert's matrices on one device: its intermediate size, sliced by tensor parallelism."""


@dataclass(frozen=True, slots=True)
class Reads:
    """Attention of like layers: KV bytes per context token and FLOPs per (query, key) pair.

    `kv_elements` counts elements rather than bytes where the cache format decides;
    `fixed_bytes` per context token come on top (sparse indexer). `window` bounds what is attended.
    """

    window: int | None
    kv_elements: float
    fixed_bytes: float
    decode_flops: float
    prefill_flops: float
    selects: int | None = None


@dataclass(frozen=True, slots=True)
class Shapes:
    """All sums of one device. `hidden` and `width` size what layers pass on and reduce."""

    quantized: Matrices
    plain: Matrices
    head: Matrices
    experts: tuple[Experts, ...]
    attention: tuple[Reads, ...]
    state_bytes: float
    state_flops_per_token: float
    n_layers: int
    moe_layers: int
    mixer_layers: int
    norms: int
    """Norms between blocks."""
    inner_norms: int
    """Norms inside mixers: of query and key heads, of latents, of a recurrent state."""
    reductions: int
    """All-reduces of one step: one per mixer and one per feed-forward, or one per layer where they are summed first."""
    hidden: int


@remembered
def shapes(
    model: ModelSpec,
    quant: QuantizationFormat,
    tp: int,
    expert_devices: int,
    unquantized: tuple[str, ...] | None,
    group_size: int | None,
) -> Shapes:
    """Sums over `model`'s matrices on one of `tp` devices; experts over `expert_devices`.

    `unquantized` and `group_size` are the checkpoint's where it says so, else the model's own.
    Positional arguments only (results are remembered).
    """
    own = quant.id == model.quantization
    if unquantized is not None:
        kept = kept_layers(model.model_copy(update={"unquantized": unquantized}))
    else:
        kept = kept_layers(model) if own else {}
    group = group_size or (model.quantization_group_size if own else None) or quant.group_size
    float_bytes = quant.weight_bits / 8 if quant.kind == "float" else 2.0
    gguf_bytes = _gguf_bytes_per_element(model, quant) if quant.kind == "gguf" else None

    routed = {i: f for g in model.layers for f in g.ffns if isinstance(f, MoeFfn) for i in g.layers}
    quantized, plain, head = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    experts: dict[tuple[int, int, int, int], list[float]] = {}
    for t in tensors(model):
        if not t.always_loaded or t.role in _UNREAD or t.cols == 1:
            continue
        if t.role == "token_embd" and not model.tie_word_embeddings:
            continue
        rows, cols, _ = local_shape(t, tp if t.shard != "expert" else 1, 1, _RULES)
        n = quantized_layers(t, kept) if quant.kind not in ("float", "gguf") else 0
        per = rows * cols
        if gguf_bytes is not None:
            packed, rest = per * gguf_bytes.get(t.role, 2.0), 0.0
            n = t.count
        else:
            packed, rest = (linear_bytes(quant, rows, cols, 1, group) if n else 0.0), per * float_bytes
        size = n * packed + (t.count - n) * rest
        if t.shard == "expert":
            moe = routed[t.layers[0]]
            key = (moe.experts, min(moe.experts_per_token, moe.experts), len(t.layers), moe.intermediate)
            sums = experts.setdefault(key, [0.0, 0.0])
            sums[0] += per * t.count / expert_devices
            sums[1] += size / expert_devices
            continue
        into = head if t.role in ("token_embd", "output") else quantized if n else plain
        into[0] += per * t.count
        into[1] += size
    at_most = 1 if model.model_type in _SUMMED_ONCE else 2
    normed = sum(len(g.layers) for g in model.layers if g.norm_parameters)
    norms = sum(len(g.layers) * round(g.norm_parameters / model.hidden_size) for g in model.layers)
    return Shapes(
        quantized=Matrices(*quantized),
        plain=Matrices(*plain),
        head=Matrices(*head),
        experts=tuple(
            Experts(e, k, n, s[0], s[1], width / (tp if expert_devices == tp else 1))
            for (e, k, n, width), s in experts.items()
        ),
        attention=_attention(model, tp),
        state_bytes=float(sum(state_bytes(m, tp) * n for m, n in _mixers(model))),
        state_flops_per_token=float(sum(4 * state_bytes(m, tp) * n for m, n in _mixers(model))),
        n_layers=model.n_layers,
        moe_layers=len(routed),
        mixer_layers=sum(n for m, n in _mixers(model) if not isinstance(m, Attention | Mla)),
        norms=norms,
        inner_norms=sum(t.count for t in tensors(model) if t.role == "norm" and t.layers) - normed,
        reductions=sum(len(g.layers) * min(at_most, bool(g.mixers) + bool(g.ffns)) for g in model.layers),
        hidden=model.hidden_size,
    )


def _gguf_bytes_per_element(model: ModelSpec, quant: QuantizationFormat) -> dict[str, float]:
    """Mean stored bytes of one weight, by role, in the file that `quant` makes of `model`."""
    from planner.estimate.gguf_tables import tensor_rows

    n_bytes: dict[str, float] = {}
    for role, layers, size in tensor_rows(model, quant):
        n_bytes[role] = n_bytes.get(role, 0.0) + size * (len(layers) or 1)
    elements: dict[str, int] = {}
    for t in tensors(model):
        elements[t.role] = elements.get(t.role, 0) + t.elements
    return {role: size / elements[role] for role, size in n_bytes.items() if elements.get(role)}


def _mixers(model: ModelSpec) -> list[tuple[Mixer, int]]:
    return [(m, len(g.layers)) for g in model.layers for m in g.mixers]


def _attention(model: ModelSpec, tp: int) -> tuple[Reads, ...]:
    found: dict[tuple[int | None, int | None], list[float]] = {}
    for mixer, n in _mixers(model):
        if isinstance(mixer, Attention):
            if mixer.cross:
                continue
            d, v = mixer.head_dim, mixer.v_head_dim or mixer.head_dim
            heads, kv_heads = mixer.heads / tp, max(1.0, mixer.kv_heads / tp)
            row = [kv_heads * (d + v), 0.0, 2 * heads * (d + v), 2 * heads * (d + v)]
            key: tuple[int | None, int | None] = (mixer.window_tokens, None)
        elif isinstance(mixer, Mla):
            latent, heads = mixer.kv_lora_rank + mixer.qk_rope_head_dim, mixer.heads / tp
            expanded = mixer.qk_nope_head_dim + mixer.qk_rope_head_dim + mixer.v_head_dim
            indexer = float(mixer.indexer_head_dim + 4) if mixer.indexer_heads else 0.0
            row = [latent, indexer, 2 * heads * (latent + mixer.kv_lora_rank), 2 * heads * expanded]
            key = (None, INDEXER_TOKENS if mixer.indexer_heads else None)
            if mixer.output_groups:  # the window as it is, what lies before it thinned out
                sums = found.setdefault((mixer.window_tokens, None), [0.0] * 4)
                for i, value in enumerate([latent, 0.0, 4 * heads * latent, 4 * heads * latent]):
                    sums[i] += value * n
                if not mixer.compress_every:
                    continue
                thin = [latent, indexer, 4 * heads * latent, 4 * heads * latent]
                row = [value / mixer.compress_every for value in thin]
        else:
            continue
        sums = found.setdefault(key, [0.0] * 4)
        for i, value in enumerate(row):
            sums[i] += value * n
    return tuple(
        Reads(window, kv, fixed, dec, pre, selects) for (window, selects), (kv, fixed, dec, pre) in found.items()
    )
