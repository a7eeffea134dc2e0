"""Bytes of a GGUF file, tensor by tensor, as llama.cpp's quantizer would write it.

Applies the mixes of the catalog (which ggml type each tensor gets) to a model's tensors. Knows no
file and no device. Vision and audio towers are a separate mmproj file there and are not counted
here. Source of the rules: llama.cpp src/llama-quant.cpp; of the layout: ggml/include/gguf.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.errors import UnknownNameError
from planner.estimate.tensors import Tensor, tensors
from planner.spec.gguf import GgufMix, GgufMixRules, MixRule
from planner.spec.model import Attention, Mla, ModelSpec, MoeFfn
from planner.spec.quantization import GgufType
from planner.units import ceil_div

FUSED_QKV = frozenset({"phi3", "phi3_v", "falcon", "dbrx", "phi3small", "molmo", "glm4v"})
"""Architectures whose GGUF has one attn_qkv tensor, which the mixes treat as attn_v."""
F32_ROLES = frozenset(
    {"norm", "router", "router_bias", "conv", "conv_bias", "ssm_scalars", "attn_sinks", "ffn_exps_bias", "shared_gate"}
)
TOWERS = ("vision", "audio", "projector", "mtp", "buffer")
ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file; `layer` is None outside the layers. `bytes` without alignment."""

    role: str
    layer: int | None
    type: str
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rules' conditions ask about the model."""

    n_layers: int
    gqa: int
    experts: int
    is_70b: bool
    imatrix: bool
    tied: bool
    kv_index: dict[int, int]
    """Layer → its number among those with attention."""
    places: tuple[frozenset[str], ...]
    """Per layer, which positional conditions hold: layers of one place get the same types."""


def gguf_tensor_types(
    model: ModelSpec,
    mix: GgufMix,
    rules: GgufMixRules,
    types: Mapping[str, GgufType],
    *,
    imatrix: bool = False,
) -> tuple[GgufTensor, ...]:
    """Every tensor with the ggml type that `mix` gives it, and its bytes.

    `imatrix`: quantized with an importance matrix, which changes a few choices. Raises
    UnknownNameError when the mix names a type that `types` lacks.
    """
    facts = _facts(model, imatrix)
    out: list[GgufTensor] = []
    for t in tensors(model):
        if t.role in TOWERS:
            continue
        elements = t.elements // t.count
        chosen: dict[object, tuple[str, int]] = {}
        for layer in t.layers or (None,):
            place = None if layer is None else facts.places[layer]
            if place not in chosen:
                name = _type(t, layer, model, mix, rules, types, facts)
                chosen[place] = name, _bytes(t, types[name])
            name, size = chosen[place]
            out.append(GgufTensor(t.role, layer, name, elements, size))
    return tuple(out)


def gguf_file_bytes(
    model: ModelSpec,
    mix: GgufMix,
    rules: GgufMixRules,
    types: Mapping[str, GgufType],
    *,
    imatrix: bool = False,
) -> int:
    """Size of the file: tensors, aligned, and the metadata estimate."""
    rows = gguf_tensor_types(model, mix, rules, types, imatrix=imatrix)
    data = sum(ceil_div(row.bytes, ALIGNMENT) * ALIGNMENT for row in rows)
    return data + metadata_bytes(model, len(rows))


def metadata_bytes(model: ModelSpec, n_tensors: int) -> int:
    """Header, tokenizer and tensor table, estimated.

    Tokenizer bytes per vocabulary entry: 22 for SentencePiece-sized vocabularies, 61 for Llama 3
    (280k merges), 39 for other byte-level ones; measured on published files, good to 2 MB.
    """
    per_entry = 22 if model.vocab_size <= 65536 else 61 if model.vocab_size in (128256, 128264) else 39
    return model.vocab_size * per_entry + 70 * n_tensors + 4096


def _facts(model: ModelSpec, imatrix: bool) -> _Facts:
    heads, kv, experts = 1, 1, 0
    at: list[int] = []
    for group in model.layers:
        for mixer in group.mixers:
            if isinstance(mixer, Attention):
                heads, kv = max(heads, mixer.heads), max(kv, mixer.kv_heads)
                at.extend(group.layers)
            elif isinstance(mixer, Mla):
                heads, kv = max(heads, mixer.heads), max(kv, mixer.heads)
                at.extend(group.layers)
        for ffn in group.ffns:
            if isinstance(ffn, MoeFfn):
                experts = max(experts, ffn.experts)
    is_70b = model.model_type in ("llama", "qwen2") and model.n_layers == 80 and kv < heads
    kv_index = {layer: i for i, layer in enumerate(sorted(at))}
    places = tuple(
        frozenset(
            {name for name, holds in _positions(i, model.n_layers).items() if holds}
            | {f"kv_{name}" for name, holds in _positions(kv_index.get(i, i), len(kv_index) or 1).items() if holds}
        )
        for i in range(model.n_layers)
    )
    return _Facts(model.n_layers, heads // kv, experts, is_70b, imatrix, model.tie_word_embeddings, kv_index, places)


def _positions(i: int, n: int) -> dict[str, bool]:
    """The conditions that ask where layer `i` of `n` stands."""
    return {
        "more_bits": i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2,
        "first_eighth": i < n // 8,
        "first_sixteenth": i < n // 16,
        "middle": n // 8 <= i < 7 * n // 8,
        "first_2": i < 2,
        "first_4": i < 4,
    }


def _type(
    t: Tensor,
    layer: int | None,
    model: ModelSpec,
    mix: GgufMix,
    rules: GgufMixRules,
    types: Mapping[str, GgufType],
    facts: _Facts,
) -> str:
    if t.cols == 1 and t.role != "per_layer_embedding":
        return "F32"
    if t.role in F32_ROLES:
        return "F32"
    if mix.base in ("F32", "F16", "BF16"):
        return mix.base
    if t.role in ("laurel", "other"):
        return "F16"
    if t.role == "output" or (t.role == "token_embd" and facts.tied):
        chosen = mix.output or mix.base
        if t.cols % _known(types, mix.base).block_elements:
            chosen = rules.output_when_row_not_divisible
        elif model.model_type == "falcon":
            chosen = "Q8_0"
    elif t.role in ("token_embd", "per_layer_embedding"):
        chosen = mix.token_embd or mix.base
        if t.role == "per_layer_embedding" and facts.tied:
            return mix.output or mix.base
    else:
        chosen = _by_rules(_category(t.role, model), layer or 0, t, mix, rules, facts)
    if t.cols % _known(types, chosen).block_elements:
        chosen = rules.fallback.get(chosen, rules.fallback_last)
        if t.cols % _known(types, chosen).block_elements:
            chosen = rules.fallback_last
    return chosen


def _known(types: Mapping[str, GgufType], name: str) -> GgufType:
    if name not in types:
        raise UnknownNameError("ggml type", name, types)
    return types[name]


def _category(role: str, model: ModelSpec) -> str:
    """The mixes' name for a role: experts and shared experts count as their dense kin."""
    if role in ("attn_q", "attn_k", "attn_v") and model.model_type in FUSED_QKV:
        return "attn_v"
    if role == "kv_b":
        return "attn_v"
    for kind in ("ffn_gate", "ffn_up", "ffn_down"):
        if role.startswith(kind):
            return kind
    return role


def _by_rules(category: str, layer: int, t: Tensor, mix: GgufMix, rules: GgufMixRules, facts: _Facts) -> str:
    chosen = mix.base
    for rule in mix.rules:
        if rule.tensor == category and all(_holds(c, layer, t, category, facts) for c in rule.when):
            chosen = rule.type
            break
    if mix.adjusts:
        for rule in rules.adjust:
            if _adjusts(rule, category, layer, t, facts, chosen):
                chosen = rule.type
    return chosen


def _adjusts(rule: MixRule, category: str, layer: int, t: Tensor, facts: _Facts, chosen: str) -> bool:
    if rule.tensor != category or (rule.from_types and chosen not in rule.from_types):
        return False
    return all(_holds(c, layer, t, category, facts) for c in rule.when)


def _holds(condition: str, layer: int, t: Tensor, category: str, f: _Facts) -> bool:
    """One condition of the mixes. Attention counts layers that have attention, the rest all layers."""
    n = f.n_layers
    i = layer
    if category == "attn_v" and layer in f.kv_index:
        i, n = f.kv_index[layer], len(f.kv_index)
    tests = {
        **_positions(i, n),
        "gqa_4": f.gqa >= 4,
        "gqa_4_or_moe_4": f.gqa >= 4 or f.experts >= 4,
        "experts_8": f.experts == 8,
        "not_experts_8": f.experts != 8,
        "imatrix": f.imatrix,
        "no_imatrix": not f.imatrix,
        "experts": t.experts > 1,
        "llama_70b": f.is_70b,
    }
    return tests[condition]


def _bytes(t: Tensor, kind: GgufType) -> int:
    """Bytes of one layer's tensor in blocks of its rows."""
    elements = t.elements // t.count
    return ceil_div(elements, kind.block_elements) * kind.block_bytes
