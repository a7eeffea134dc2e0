"""A decoder whose architecture nobody wrote a reader for, derived from headers and configuration.

Weights are exact: every tensor of the headers ends up in the result, as attention, feed-forward, norm or a
plain matrix. What a token leaves in the KV cache cannot be seen in a header; it is derived from the config's
heads and said as an assumption. Knows no architecture by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final

from planner.errors import FormatError
from planner.sources.derived_attention import attends, attention
from planner.sources.hf.common import Config, Decoder, LayerPlan, layer_kinds
from planner.sources.stored import BUFFER, HEAD, TensorFact, decoder_prefix, place
from planner.spec.model import Attention, Block, DenseFfn, Ffn, Mixer, MoeFfn

MAX_LAYERS: Final = 1024
_ALIASES: Final = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim", "model_dim", "embed_dim", "hidden_dim", "emb_dim"),
    "num_hidden_layers": (
        "num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_transformer_layers", "num_decoder_layers",
        "depth",
    ),
    "num_attention_heads": (
        "num_attention_heads", "n_head", "num_heads", "n_heads", "num_query_heads", "n_q_heads", "attention_heads",
    ),
    "num_key_value_heads": (
        "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num", "kv_heads",
        "kv_n_heads", "num_query_groups", "n_kv_head",
    ),
    "max_position_embeddings": (
        "max_position_embeddings", "max_sequence_length", "n_positions", "max_seq_len", "seq_length", "n_ctx",
        "max_context_length", "context_length", "block_size", "max_seq_length",
    ),
}  # fmt: skip
_PER_TOKEN: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "top_k_experts", "moe_k")
_LEAVES: Final = {
    "q": ("q_proj", "wq", "query", "q", "query_proj", "to_q"),
    "k": ("k_proj", "wk", "key", "k", "key_proj", "to_k"),
    "v": ("v_proj", "wv", "value", "v", "value_proj", "to_v"),
    "qkv": ("qkv_proj", "query_key_value", "Wqkv", "wqkv", "c_attn", "qkv", "W_pack", "att_proj"),
    "o": ("o_proj", "wo", "out_proj", "dense", "c_proj", "attn_out"),
    "gate": ("gate_proj", "w1", "w_gate"),
    "up": ("up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h", "w_up"),
    "gate_up": ("gate_up_proj", "w13"),
    "down": ("down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h", "w_down"),
    "router": ("gate", "router", "wg", "gate_inp"),
}  # fmt: skip
_ATTENTION_LEAVES: Final = frozenset(leaf for role in ("q", "k", "v", "qkv") for leaf in _LEAVES[role]) | {
    "o_proj", "wo", "attn_out", "out_proj",
}  # fmt: skip
_ATTENTION_SCOPE: Final = re.compile(r"attn|attention")
_EXPERT: Final = re.compile(r"(?:^|\.)experts?\.(?:(\d+)\.)?")


@dataclass(slots=True)
class _Layer:
    """One layer's tensors by role: shapes; `rest` are those without one."""

    attention: dict[str, tuple[int, ...]] = field(default_factory=dict)
    attention_elements: int = 0
    dense: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shared: dict[str, tuple[int, ...]] = field(default_factory=dict)
    experts: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    router: tuple[int, ...] | None = None
    vectors: int = 0
    rest: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def derive(config: Config, facts: Sequence[TensorFact], architecture: str) -> Decoder:
    """The decoder that `facts` (logical tensors) add up to, with its assumptions in words.

    Raises FormatError when neither headers nor config tell the hidden size, layers or heads.
    """
    c = _normalised(config)
    prefix = decoder_prefix(facts)
    if prefix is None:
        raise FormatError(f"{architecture}: the headers hold no decoder layers")
    layers, outside = _sorted(facts, prefix, c.opt_int("num_hidden_layers"))
    n = len(layers)
    said: list[str] = []
    held = _embedding(facts, prefix, c.opt_int("hidden_size"), architecture, said)
    hidden = c.opt_int("hidden_size") or held.shape[1]
    embedding = held.shape if held.shape[1] == hidden or held.shape[0] != hidden else held.shape[::-1]
    c = c.with_defaults(hidden_size=hidden)
    kinds = layer_kinds(c, n)
    attending = [i for i, layer in enumerate(layers) if layer.attention]
    plans = [_plan(c, layer, kinds[i], hidden, said) for i, layer in enumerate(layers)]
    mixer = next((m for plan in plans for m in plan.mixers), None)
    said.insert(0, _kv_note(architecture, mixer, len(attending), n, kinds))
    said.append(f"whether an engine loads {architecture} is not known here: look it up in its list of models")
    tied = not any(HEAD.search(f.name) for f in facts if place(f.name, prefix).kind == "output")
    blocks, final_norm, head_bias = _outside(outside, held, tied)
    context = c.opt_int("max_position_embeddings")
    if context is None:
        context = 4096
        said.append("the config names no longest context; 4,096 tokens assumed")
    return Decoder(
        hidden_size=hidden,
        vocab_size=embedding[0],
        tie_word_embeddings=tied,
        context_length=context,
        layers=tuple(plans),
        final_norm_parameters=final_norm,
        blocks=blocks,
        embedding_dim=embedding[1] if embedding[1] != hidden else None,
        lm_head_bias=head_bias,
        modality="vision" if any(b.role == "vision" for b in blocks) else "text",
        assumptions=tuple(dict.fromkeys(said)),
    )


def _normalised(config: Config) -> Config:
    """The text table with the usual names of keys."""
    c = config.sub("text_config") if config.sub("text_config").data else config
    found: dict[str, object] = {}
    for name, names in _ALIASES.items():  # lists (heads of each layer) are the shapes' to tell
        whole = [n for n in names if c.data.get(n) is not None and not isinstance(c.data[n], list)]
        found[name] = c.opt_int(*whole) if whole else None
    others = {name: value for name, value in c.data.items() if name not in found}
    return Config({**others, **{name: value for name, value in found.items() if value is not None}}, c.path)


def _embedding(
    facts: Sequence[TensorFact], prefix: str, hidden: int | None, architecture: str, said: list[str]
) -> TensorFact:
    """The token embedding: by its name, else the largest matrix outside the layers that is as wide as the model."""
    outside = [f for f in facts if len(f.shape) == 2 and place(f.name, prefix).kind in ("embedding", "other", "output")]
    named = next((f for f in outside if place(f.name, prefix).kind == "embedding"), None)
    if named is not None:
        return named
    inside = (f.shape[0] for f in facts if len(f.shape) == 1 and f.name.startswith(prefix))
    width = hidden or max(Counter(inside).items(), key=lambda item: item[1], default=(0, 0))[0]
    wide = [f for f in outside if width in f.shape and not HEAD.search(f.name)] or [
        f for f in outside if width in f.shape
    ]
    if not wide:
        raise FormatError(f"{architecture}: the headers hold no token embedding, and the config lacks hidden_size")
    found = max(wide, key=lambda f: (f.elements, f.name))
    said.append(f"{found.name[:80]} is read as the token embedding: the largest matrix outside the layers")
    return found


def _sorted(
    facts: Sequence[TensorFact], prefix: str, n_config: int | None
) -> tuple[list[_Layer], list[tuple[str, TensorFact]]]:
    """Tensors by layer, and (kind of place, fact) of those outside."""
    inside: dict[int, list[tuple[str, TensorFact]]] = {}
    outside: list[tuple[str, TensorFact]] = []
    for fact in facts:
        where = place(fact.name, prefix)
        if where.layer is not None and (n_config is None or where.layer < n_config):
            inside.setdefault(where.layer, []).append((where.rest, fact))
        else:
            outside.append((where.kind, fact))
    n = n_config or max(inside, default=-1) + 1
    missing = [i for i in range(min(n, MAX_LAYERS + 1)) if i not in inside]
    if n > MAX_LAYERS or missing:
        what = f"no tensors of layer {missing[0]}" if missing else f"{n} layers, more than {MAX_LAYERS}"
        raise FormatError(f"the headers hold {what} (incomplete download?)")
    return [_roles(inside[i]) for i in range(n)], outside


def _attention_scopes(tensors: Sequence[tuple[str, TensorFact]]) -> set[str]:
    """Modules that hold queries, keys and values, whatever they are called."""
    leaves: dict[str, set[str]] = {}
    for rest, _ in tensors:
        scope, _, leaf = rest.removesuffix(".weight").removesuffix(".bias").rpartition(".")
        leaves.setdefault(scope, set()).update(role for role in ("q", "k", "v", "qkv") if leaf in _LEAVES[role])
    return {scope for scope, roles in leaves.items() if "qkv" in roles or {"q", "k", "v"} <= roles}


def _roles(tensors: Sequence[tuple[str, TensorFact]]) -> _Layer:
    layer = _Layer()
    scopes = _attention_scopes(tensors)
    for rest, fact in tensors:
        path, _, kind = rest.rpartition(".")
        scope, _, leaf = path.rpartition(".") if kind in ("weight", "bias") else (path, "", kind)
        expert = _EXPERT.search(rest)
        shape = fact.shape
        if expert and "shared" not in rest:
            role = next((r for r in ("gate", "up", "gate_up", "down") if leaf in _LEAVES[r]), "")
            if role and kind != "bias" and len(shape) >= 2:
                layer.experts.setdefault(role, []).append(shape)
                continue
        elif _ATTENTION_SCOPE.search(scope) or (scope in scopes and (scope or leaf in _ATTENTION_LEAVES)):
            layer.attention_elements += fact.elements
            role = next((r for r in ("q", "k", "v", "qkv", "o") if leaf in _LEAVES[r]), leaf)
            layer.attention[role + (".bias" if kind == "bias" else "")] = shape
            continue
        elif len(shape) == 2 and kind != "bias":
            role = next((r for r in ("gate", "up", "gate_up", "down") if leaf in _LEAVES[r]), "")
            if role:
                (layer.shared if "shared" in scope else layer.dense)[role] = shape
                continue
            if leaf in _LEAVES["router"] and layer.router is None and "shared" not in leaf:
                layer.router = shape
                continue
        if len(shape) < 2:
            layer.vectors += fact.elements
        else:
            layer.rest.append((leaf, shape))
    return layer


def _plan(c: Config, layer: _Layer, kind: str, hidden: int, said: list[str]) -> LayerPlan:
    norms, extra = layer.vectors, [(name, shape[0], prod(shape[1:])) for name, shape in layer.rest]
    mixers: tuple[Mixer, ...] = ()
    if attends(layer.attention):
        window = c.opt_int("sliding_window") if kind in ("sliding_attention", "sliding", "local") else None
        mixers = (attention(c, layer.attention, layer.attention_elements, hidden, window, said),)
    elif layer.attention:
        extra.append(("mixer", layer.attention_elements, 1))
        said.append("layers without query and key projections keep a recurrent state that is not counted")
    ffns: list[Ffn] = []
    if layer.experts:
        moe, left = _experts(c, layer, hidden, said)
        ffns.append(moe)
        extra += left
    else:
        extra += [("shared", shape[0], shape[1]) for shape in layer.shared.values()]
        if layer.router is not None:
            extra.append(("router", layer.router[0], prod(layer.router[1:])))
    dense = _dense(layer.dense, hidden)
    if dense is not None:
        ffns.append(dense)
    else:
        extra += [(name, shape[0], shape[1]) for name, shape in layer.dense.items()]
    return LayerPlan(mixers, tuple(ffns), norms, tuple(extra))


def _dense(shapes: dict[str, tuple[int, ...]], hidden: int) -> DenseFfn | None:
    """A feed-forward when the shapes are those of one, gate and up fused or not."""
    down = shapes.get("down")
    if down is None or down[0] != hidden:
        return None
    width = down[1]
    names = set(shapes)
    if names == {"gate_up", "down"} and shapes["gate_up"] == (2 * width, hidden):
        return DenseFfn(intermediate=width)
    if names == {"gate", "up", "down"} and shapes["gate"] == shapes["up"] == (width, hidden):
        return DenseFfn(intermediate=width)
    if names == {"up", "down"} and shapes["up"] == (width, hidden):
        return DenseFfn(intermediate=width, gated=False)
    return None


def _experts(c: Config, layer: _Layer, hidden: int, said: list[str]) -> tuple[MoeFfn, list[tuple[str, int, int]]]:
    """The experts as one feed-forward whose elements are exactly those of the headers."""
    down = layer.experts.get("down") or next(iter(layer.experts.values()))
    stacked = len(down[0]) == 3
    count = down[0][0] if stacked else len(down)
    gated = "gate" in layer.experts or "gate_up" in layer.experts
    total = sum(prod(shape) for shapes in layer.experts.values() for shape in shapes)
    width = total // (count * hidden * (3 if gated else 2))
    per_token = c.opt_int(*_PER_TOKEN)
    if per_token is None:
        per_token = count
        said.append(f"the config does not say how many of {count} experts run per token; all of them assumed")
    shared = _dense(layer.shared, hidden)
    counted = count * width * hidden * (3 if gated else 2) + count * hidden
    router = prod(layer.router) if layer.router is not None else 0
    left = [] if shared is not None else [("shared", s[0], s[1]) for s in layer.shared.values()]
    moe = MoeFfn(
        experts=count,
        experts_per_token=min(per_token, count),
        intermediate=width,
        gated=gated,
        shared_intermediate=shared.intermediate if shared is not None and shared.gated == gated else 0,
        extra_parameters=total + router - counted,
    )
    if shared is not None and not moe.shared_intermediate:
        left = [("shared", s[0], s[1]) for s in layer.shared.values()]
    return moe, left


def _outside(
    outside: Sequence[tuple[str, TensorFact]], held: TensorFact, tied: bool
) -> tuple[tuple[Block, ...], int, bool]:
    """Blocks beside the layers, elements of the last norm, and whether the head has a bias."""
    towers = {"vision": 0, "audio": 0}
    norm = other = mtp = buffers = 0
    seen_embedding = seen_head = head_bias = False
    embedding = held.shape
    for kind, fact in outside:
        if BUFFER.search(fact.name):
            buffers += fact.elements
        elif fact.name == held.name and not seen_embedding:
            seen_embedding = True
        elif kind == "output" and HEAD.search(fact.name) and not seen_head and not tied and fact.shape == embedding:
            seen_head = True
        elif kind == "output" and fact.name.endswith("bias") and fact.shape == embedding[:1]:
            head_bias = True
        elif kind == "output" and len(fact.shape) == 1:
            norm += fact.elements
        elif kind == "tower":
            towers["audio" if "audio" in fact.name or "speech" in fact.name else "vision"] += fact.elements
        elif kind == "layer" or "mtp" in fact.name:
            mtp += fact.elements
        else:
            other += fact.elements
    blocks = [Block(role="vision", parameters=towers["vision"])] if towers["vision"] else []
    blocks += [Block(role="audio", parameters=towers["audio"])] if towers["audio"] else []
    blocks += [Block(role="mtp", parameters=mtp)] if mtp else []
    blocks += [Block(role="buffer", parameters=buffers)] if buffers else []
    blocks += [Block(role="other", parameters=other)] if other else []
    return tuple(blocks), norm, head_bias


def _kv_note(architecture: str, mixer: Mixer | None, attending: int, n: int, kinds: list[str]) -> str:
    start = f"no reader for {architecture}: weights are exact from the headers; "
    if mixer is None:
        return start + "no attention layer was recognised, so no KV cache is counted"
    where = f"{attending} of {n} layers" if attending != n else f"all {n} layers"
    windowed = sum("sliding" in kind for kind in kinds)
    span = f"{windowed} of them within the config's window" if windowed else "each over the whole context"
    if isinstance(mixer, Attention):
        return start + f"KV assumed as {mixer.kv_heads} heads × {mixer.head_dim} for K and V in {where}, {span}"
    return start + f"KV assumed as one latent per token in {where}, as DeepSeek's attention keeps it"
