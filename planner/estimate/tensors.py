"""Every weight matrix of a model, by role: the one list that bytes, FLOPs and parameters come from.

q, k, v and gate, up stay apart (engines fuse them; nothing here depends on it). Knows no engine and
no quantization format. Formulas: the matrices of transformers' modelling classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from planner.estimate.identity import remembered
from planner.records import dataclass
from planner.spec.model import (
    Attention,
    DenseFfn,
    GatedDeltaNet,
    LayerGroup,
    Mamba1,
    Mamba2,
    Mla,
    ModelSpec,
    MoeFfn,
    ShortConv,
)
from planner.units import ceil_div

Shard = Literal["column", "row", "vocab", "expert", "replicated", "kv"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """`rows` output features by `cols` input features, `experts` of them stacked, in each of `layers`.

    `layers` is empty for a tensor outside the decoder layers. `shard` says how tensor parallelism
    splits it: by output (`column`), by input (`row`), by KV head (`kv`: replicated when there are
    fewer heads than devices), by vocabulary, by expert, or not at all. `head_dim` is the unit of a
    `kv` split. `quantizable`: whether 8- and 4-bit formats usually cover it. `always_loaded` is
    False for what engines skip (multi-token-prediction blocks).
    """

    role: str
    layers: tuple[int, ...]
    rows: int
    cols: int
    experts: int = 1
    quantizable: bool = True
    shard: Shard = "column"
    always_loaded: bool = True
    head_dim: int = 1

    @property
    def count(self) -> int:
        """Copies over layers."""
        return len(self.layers) or 1

    @property
    def elements(self) -> int:
        """Elements over all layers and experts."""
        return self.rows * self.cols * self.experts * self.count


@remembered
def tensors(model: ModelSpec) -> tuple[Tensor, ...]:
    """All tensors of `model`'s checkpoint, outside ones first, then layer group by layer group."""
    return (*_outer(model), *(t for group in model.layers for t in _layer(model.hidden_size, group)))


def _outer(m: ModelSpec) -> Iterator[Tensor]:
    width = m.embedding_dim or m.hidden_size
    yield Tensor("token_embd", (), m.vocab_size, width, quantizable=False, shard="vocab")
    if not m.tie_word_embeddings:
        yield Tensor("output", (), m.vocab_size, width, quantizable=False, shard="vocab")
    if m.lm_head_bias:
        yield _vector("output_bias", (), m.vocab_size, "vocab")
    if m.final_norm_parameters:
        yield _vector("norm", (), m.final_norm_parameters)
    for block in m.blocks:
        loaded = block.role not in ("mtp", "buffer")
        whole = block.parameters - block.split_parameters
        yield Tensor(block.role, (), whole, 1, quantizable=False, shard="replicated", always_loaded=loaded)
        if block.split_parameters:
            yield _vector(block.role, (), block.split_parameters, "column")


def _vector(role: str, layers: tuple[int, ...], n: int, shard: Shard = "replicated", head_dim: int = 1) -> Tensor:
    return Tensor(role, layers, n, 1, quantizable=False, shard=shard, head_dim=head_dim)


def _layer(hidden: int, group: LayerGroup) -> Iterator[Tensor]:
    at = group.layers
    for mixer in group.mixers:
        if isinstance(mixer, Attention):
            yield from _attention(hidden, at, mixer)
        elif isinstance(mixer, Mla):
            yield from _mla(hidden, at, mixer)
        elif isinstance(mixer, GatedDeltaNet):
            yield from _deltanet(hidden, at, mixer)
        elif isinstance(mixer, Mamba2):
            yield from _mamba2(hidden, at, mixer)
        elif isinstance(mixer, Mamba1):
            yield from _mamba1(hidden, at, mixer)
        else:
            yield from _short_conv(hidden, at, mixer)
    for ffn in group.ffns:
        yield from _dense(hidden, at, ffn) if isinstance(ffn, DenseFfn) else _moe(hidden, at, ffn)
    if group.norm_parameters:
        yield _vector("norm", at, group.norm_parameters)
    for name, rows, cols in group.extra_linears:
        yield Tensor(name, at, rows, cols, quantizable=False, shard="replicated")


def _attention(h: int, at: tuple[int, ...], a: Attention) -> Iterator[Tensor]:
    d, v = a.head_dim, a.v_head_dim or a.head_dim
    q_out = a.heads * d * (2 if a.gated_query else 1)
    yield Tensor("attn_q", at, q_out, h)
    if a.qkv_bias:
        yield _vector("attn_q_bias", at, q_out, "column")
    yield Tensor("attn_k", at, a.kv_heads * d, h, shard="kv", head_dim=d)
    if not a.k_eq_v:
        yield Tensor("attn_v", at, a.kv_heads * v, h, shard="kv", head_dim=v)
    if a.qkv_bias:
        yield _vector("attn_kv_bias", at, a.kv_heads * (d + v), "kv", d + v)
    yield Tensor("attn_output", at, h, a.heads * v, shard="row")
    if a.o_bias:
        yield _vector("attn_output_bias", at, h)
    if a.qk_norm == "head":
        yield _vector("norm", at, 2 * d)
    elif a.qk_norm == "full":
        yield _vector("norm", at, d * (a.heads + a.kv_heads))
    if a.sinks:
        yield _vector("attn_sinks", at, a.heads, "column")
    if a.extra_parameters:
        yield _vector("attn_other", at, a.extra_parameters)


def _mla(h: int, at: tuple[int, ...], m: Mla) -> Iterator[Tensor]:
    q_out = m.heads * (m.qk_nope_head_dim + m.qk_rope_head_dim)
    if m.q_lora_rank:
        yield Tensor("q_a", at, m.q_lora_rank, h, shard="replicated")
        yield _vector("norm", at, m.q_lora_rank)
        yield Tensor("q_b", at, q_out, m.q_lora_rank)
    else:
        yield Tensor("attn_q", at, q_out, h)
    yield Tensor("kv_a", at, m.kv_lora_rank + m.qk_rope_head_dim, h, shard="replicated")
    if m.output_groups:
        yield from _compressed(h, at, m)
        return
    yield _vector("norm", at, m.kv_lora_rank)
    yield Tensor("kv_b", at, m.heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank)
    yield Tensor("attn_output", at, h, m.heads * m.v_head_dim, shard="row")
    if m.indexer_heads:
        d = m.indexer_head_dim
        yield Tensor("indexer_q", at, m.indexer_heads * d, m.q_lora_rank or h, shard="replicated")
        yield Tensor("indexer_k", at, d, h, shard="replicated")
        yield Tensor("indexer_weights", at, m.indexer_heads, h, quantizable=False, shard="replicated")
        yield _vector("norm", at, 2 * d)
    if m.extra_parameters:
        yield _vector("attn_other", at, m.extra_parameters)


def _compressed(h: int, at: tuple[int, ...], m: Mla) -> Iterator[Tensor]:
    """The rest of DeepSeek V4's attention: grouped output, sinks, compressor, and indexer (its windows overlap)."""
    latent, every = m.kv_lora_rank + m.qk_rope_head_dim, m.compress_every or 0
    yield _vector("norm", at, latent)
    yield Tensor("attn_output_a", at, m.output_groups * m.output_rank, m.heads * m.v_head_dim // m.output_groups)
    yield Tensor("attn_output", at, h, m.output_groups * m.output_rank, shard="row")
    yield _vector("attn_sinks", at, m.heads, "column")
    if not every:
        return
    width = latent * (2 if m.indexer_heads else 1)
    yield Tensor("compressor", at, 2 * width, h, quantizable=False, shard="replicated")
    yield _vector("compressor_vectors", at, every * width + latent)
    if m.indexer_heads:
        d = m.indexer_head_dim
        yield Tensor("indexer_q", at, m.indexer_heads * d, m.q_lora_rank or h, shard="replicated")
        yield Tensor("indexer_compressor", at, 4 * d, h, quantizable=False, shard="replicated")
        yield Tensor("indexer_weights", at, m.indexer_heads, h, quantizable=False, shard="replicated")
        yield _vector("indexer_vectors", at, 2 * every * d + d)


def _deltanet(h: int, at: tuple[int, ...], g: GatedDeltaNet) -> Iterator[Tensor]:
    k, v = g.k_heads * g.k_head_dim, g.v_heads * g.v_head_dim
    yield Tensor("ssm_in", at, 2 * k + 2 * v, h)
    if g.fixed_decay:
        yield _vector("norm", at, v, "column")
        yield Tensor("ssm_out", at, h, v, shard="row")
        return
    yield Tensor("ssm_gates", at, 2 * g.v_heads, h, quantizable=False)
    yield Tensor("conv", at, 2 * k + v, g.conv_kernel, quantizable=False)
    yield _vector("ssm_scalars", at, 2 * g.v_heads, "column")
    yield _vector("norm", at, g.v_head_dim)
    yield Tensor("ssm_out", at, h, v, shard="row")


def _mamba2(h: int, at: tuple[int, ...], m: Mamba2) -> Iterator[Tensor]:
    channels = m.d_inner + 2 * m.groups * m.state_dim
    rows = m.d_inner + channels + m.heads
    yield Tensor("ssm_in", at, rows, h)
    yield Tensor("conv", at, channels, m.conv_kernel, quantizable=False)
    if m.conv_bias:
        yield _vector("conv_bias", at, channels, "column")
    yield _vector("ssm_scalars", at, 3 * m.heads, "column")
    if m.norm:
        yield _vector("norm", at, m.d_inner, "column")
    yield Tensor("ssm_out", at, h, m.d_inner, shard="row")
    if m.proj_bias:
        yield _vector("ssm_in_bias", at, rows, "column")
        yield _vector("ssm_out_bias", at, h)


def _mamba1(h: int, at: tuple[int, ...], m: Mamba1) -> Iterator[Tensor]:
    low = m.dt_rank + 2 * m.state_dim
    yield Tensor("ssm_in", at, 2 * m.d_inner, h)
    yield Tensor("conv", at, m.d_inner, m.conv_kernel, quantizable=False)
    if m.conv_bias:
        yield _vector("conv_bias", at, m.d_inner, "column")
    yield Tensor("ssm_x", at, low, m.d_inner, shard="row")
    yield Tensor("ssm_dt", at, m.d_inner, m.dt_rank)
    yield _vector("ssm_scalars", at, m.d_inner * (m.state_dim + 2), "column")
    yield Tensor("ssm_out", at, h, m.d_inner, shard="row")
    if m.inner_norms:
        yield _vector("norm", at, low)
    if m.proj_bias:
        yield _vector("ssm_in_bias", at, 2 * m.d_inner, "column")
        yield _vector("ssm_out_bias", at, h)


def _short_conv(h: int, at: tuple[int, ...], s: ShortConv) -> Iterator[Tensor]:
    yield Tensor("ssm_in", at, 3 * s.dim, h)
    yield Tensor("conv", at, s.dim, s.kernel, quantizable=False)
    yield Tensor("ssm_out", at, h, s.dim, shard="row")
    if s.bias:
        yield _vector("conv_bias", at, 4 * s.dim + h, "column")


def _dense(h: int, at: tuple[int, ...], f: DenseFfn) -> Iterator[Tensor]:
    if f.gated:
        yield Tensor("ffn_gate", at, f.intermediate, h)
    yield Tensor("ffn_up", at, f.intermediate, h)
    yield Tensor("ffn_down", at, h, f.intermediate, shard="row")
    if f.bias:
        yield _vector("ffn_up_bias", at, f.intermediate * (2 if f.gated else 1), "column")
        yield _vector("ffn_down_bias", at, h)


def _moe(h: int, at: tuple[int, ...], f: MoeFfn) -> Iterator[Tensor]:
    width, n = f.input_dim or h, f.experts
    yield Tensor("router", at, n, h, quantizable=False, shard="replicated")
    if f.router_bias:
        yield _vector("router_bias", at, n)
    if f.input_dim:
        yield Tensor("latent_in", at, width, h, shard="replicated")
        yield Tensor("latent_out", at, h, width, shard="replicated")
    if f.gated:
        yield Tensor("ffn_gate_exps", at, f.intermediate, width, n, shard="expert")
    yield Tensor("ffn_up_exps", at, f.intermediate, width, n, shard="expert")
    yield Tensor("ffn_down_exps", at, width, f.intermediate, n, shard="expert")
    if f.expert_bias:
        up = f.intermediate * (2 if f.gated else 1)
        yield Tensor("ffn_exps_bias", at, up + width, 1, n, quantizable=False, shard="expert")
    if f.shared_intermediate:
        if f.gated:
            yield Tensor("ffn_gate_shexp", at, f.shared_intermediate, h)
        yield Tensor("ffn_up_shexp", at, f.shared_intermediate, h)
        yield Tensor("ffn_down_shexp", at, h, f.shared_intermediate, shard="row")
        if f.shared_gate:
            yield Tensor("shared_gate", at, 1, h, quantizable=False, shard="replicated")
    if f.dense_intermediate:
        yield from _dense(h, at, DenseFfn(intermediate=f.dense_intermediate))
    if f.extra_parameters:
        yield _vector("moe_other", at, f.extra_parameters)


FP8_FORMATS = ("fp8", "fp8-dynamic", "fp8-block")


def kept_layers(model: ModelSpec) -> dict[str, frozenset[int] | None]:
    """Roles that the checkpoint's quantization leaves alone: the layers, None for all of them."""
    return role_layers(model.unquantized)


def role_layers(selectors: tuple[str, ...]) -> dict[str, frozenset[int] | None]:
    """`role` and `role[0-2,5]` texts as role → layers, None for all of them."""
    kept: dict[str, frozenset[int] | None] = {}
    for text in selectors:
        role, _, rest = text.partition("[")
        kept[role] = frozenset(_indices(rest.rstrip("]"))) if rest else None
    return kept


def _indices(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def quantized_layers(tensor: Tensor, kept: dict[str, frozenset[int] | None]) -> int:
    """How many of the tensor's layers a checkpoint that keeps `kept` quantizes."""
    if not tensor.quantizable:
        return 0
    if tensor.role not in kept:
        return tensor.count
    layers = kept[tensor.role]
    return 0 if layers is None else tensor.count - len(layers.intersection(tensor.layers))


@remembered
def parameter_count(model: ModelSpec) -> int:
    """Elements that the checkpoint stores: parameters, prediction blocks, buffers, FP8 scales.

    A safetensors total counts the same, except that it counts packed 4-bit weights by the byte and
    may repeat a tied embedding. A prediction block's matrices are those of the last layer.
    """
    total = sum(t.elements for t in tensors(model))
    if model.quantization in FP8_FORMATS:
        kept = kept_layers(model)
        n_mtp = sum(block.role == "mtp" for block in model.blocks)
        last = model.n_layers - 1
        for t in tensors(model):
            like_last = n_mtp if last in t.layers and quantized_layers(t, kept) else 0
            total += _fp8_scales(t, model.quantization) * (quantized_layers(t, kept) + like_last)
    return total


def _fp8_scales(t: Tensor, quantization: str) -> int:
    """Scales of one layer's `t`: per 128 × 128 block, per output channel, or weight and input."""
    if quantization == "fp8-block":
        return t.experts * ceil_div(t.rows, 128) * ceil_div(t.cols, 128)
    return t.experts * (t.rows if quantization == "fp8-dynamic" else 2)


@remembered
def loaded_parameters(model: ModelSpec) -> int:
    """Parameters that an engine loads: without prediction blocks and buffers."""
    return sum(t.elements for t in tensors(model) if t.always_loaded)


def prediction_parameters(model: ModelSpec) -> int:
    """Parameters of multi-token-prediction blocks: stored, loaded only for speculative decoding."""
    return sum(block.parameters for block in model.blocks if block.role == "mtp")


@remembered
def active_parameters(model: ModelSpec) -> int:
    """Parameters that one text token's forward pass multiplies with.

    Of the routed experts those a token is sent to; no tower, no prediction block; the embedding
    only where it doubles as the output head.
    """
    routed = {i: f for g in model.layers for f in g.ffns if isinstance(f, MoeFfn) for i in g.layers}
    total = 0
    for t in tensors(model):
        if not t.always_loaded or t.role in ("vision", "audio", "projector", "per_layer_embedding"):
            continue
        if t.role == "token_embd" and not model.tie_word_embeddings:
            continue
        if t.experts > 1:
            moe = routed[t.layers[0]]
            total += t.elements // t.experts * min(moe.experts_per_token, moe.experts)
        else:
            total += t.elements
    return total
