"""Bytes of a GGUF file, tensor by tensor, as llama.cpp's quantizer would write it.

Applies the mixes of the catalog (which ggml type each tensor gets) to a model's tensors. Knows no
file and no device. Vision and audio towers are a separate mmproj file there and are not counted
here. Source of the rules: llama.cpp src/llama-quant.cpp; of the layout: ggml/include/gguf.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from planner.errors import UnknownNameError
from planner.estimate.identity import remembered
from planner.estimate.tensors import Tensor, tensors
from planner.records import dataclass
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
    out: list[GgufTensor] = []
    for t, layers, name, size in gguf_choices(model, mix, rules, types, imatrix=imatrix):
        out.extend(GgufTensor(t.role, layer, name, t.elements // t.count, size) for layer in layers or (None,))
    return tuple(out)


def gguf_choices(
    model: ModelSpec, mix: GgufMix, rules: GgufMixRules, types: Mapping[str, GgufType], *, imatrix: bool = False
) -> Iterator[tuple[Tensor, tuple[int, ...], str, int]]:
    """(tensor, layers, type, bytes in each of these layers); no layers for what stands outside them.

    Layers that get the same type come together: whole catalogs are summed from these rows.
    """
    facts = _facts(model, imatrix)
    for t in tensors(model):
        if t.role in TOWERS:
            continue
        for layers in _alike(facts.places, t.layers) if t.layers else ((),):
            name = _type(t, layers[0] if layers else None, model, mix, rules, types, facts)
            yield t, layers, name, _bytes(t, types[name])


@lru_cache(maxsize=1024)
def _alike(places: tuple[frozenset[str], ...], layers: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """`layers` by place."""
    found: dict[frozenset[str], list[int]] = {}
    for layer in layers:
        found.setdefault(places[layer], []).append(layer)
    return tuple(tuple(group) for group in found.values())


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


@remembered
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
    at.sort()
    places = _places(model.n_layers, tuple(at))
    kv_index = {layer: i for i, layer in enumerate(at)}
    return _Facts(model.n_layers, heads // kv, experts, is_70b, imatrix, model.tie_word_embeddings, kv_index, places)


@lru_cache(maxsize=1024)
def _places(n_layers: int, with_attention: tuple[int, ...]) -> tuple[frozenset[str], ...]:
    """Per layer the positional conditions that hold, over all layers and (`kv_…`) over those with attention."""
    kv_index = {layer: i for i, layer in enumerate(with_attention)}
    n_kv = len(with_attention) or 1
    return tuple(
        frozenset((*_positions(i, n_layers), *(f"kv_{name}" for name in _positions(kv_index.get(i, i), n_kv))))
        for i in range(n_layers)
    )


POSITIONS = frozenset({"more_bits", "first_eighth", "first_sixteenth", "middle", "first_2", "first_4"})
"""The conditions that ask where a layer stands."""


def _positions(i: int, n: int) -> tuple[str, ...]:
    """Those of POSITIONS that hold for layer `i` of `n`."""
    holds = {
        "more_bits": i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2,
        "first_eighth": i < n // 8,
        "first_sixteenth": i < n // 16,
        "middle": n // 8 <= i < 7 * n // 8,
        "first_2": i < 2,
        "first_4": i < 4,
    }
    return tuple(name for name, true in holds.items() if true)


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
    if condition in POSITIONS:
        counted = f"kv_{condition}" if category == "attn_v" and layer in f.kv_index else condition
        return counted in f.places[layer]
    tests = {
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
