"""Decoders of 2020 to 2024: GPT-2, GPT-J, GPT-NeoX, OPT, BLOOM, MPT, StarCoder, Baichuan, ChatGLM, StableLM …

They differ from Llama in where positions come from (learned tables, ALiBi, partial rotary), in biases and
LayerNorms with bias, and in keys named after GPT-2. Source: the models' modelling files in transformers
5.23.0, for those with remote code (Baichuan, ChatGLM, InternLM, DeciLM) in their repositories.
"""

from __future__ import annotations

from dataclasses import replace

from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, gated, gqa, simple
from planner.sources.hf.rotary import tables
from planner.spec.model import Attention, Block, DenseFfn


def _renamed(c: Config, **keys: tuple[str, ...]) -> Config:
    """`c` with today's names for the keys that the architecture spells otherwise."""
    found = {new: c.opt_int(*old) for new, old in keys.items()}
    return c.with_defaults(**{new: value for new, value in found.items() if value is not None})


def _plain(
    c: Config, attention: Attention, *, inner: int, bias: bool, norms: int, biased_norms: bool = True, **extra: object
) -> Decoder:
    """Equal layers with an MLP that has no gate; `norms` LayerNorms a layer, each with a bias or not."""
    factor = 2 if biased_norms else 1
    ffn = DenseFfn(intermediate=inner, gated=False, bias=bias)
    plan = LayerPlan((attention,), (ffn,), norms * factor * c.positive("hidden_size"))
    return simple(c, [plan] * c.positive("num_hidden_layers"), norm_factor=factor, **extra)  # type: ignore[arg-type]


def _gpt2_names(c: Config) -> Config:
    return _renamed(
        c,
        hidden_size=("hidden_size", "n_embd", "n_embed", "d_model"),
        num_hidden_layers=("num_hidden_layers", "n_layer", "n_layers"),
        num_attention_heads=("num_attention_heads", "n_head", "n_heads"),
        max_position_embeddings=("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"),
    )


def gptj(c: Config) -> Decoder:
    """Parallel block with one LayerNorm; projections without, MLP and head with biases."""
    c = _gpt2_names(c)
    inner = c.integer("n_inner", default=4 * c.positive("hidden_size"))
    return _plain(c, gqa(c), inner=inner, bias=True, norms=1, lm_head_bias=True)


def gpt_neox(c: Config) -> Decoder:
    attention = gqa(c, qkv_bias=True, o_bias=True)
    return _plain(c, attention, inner=c.positive("intermediate_size"), bias=True, norms=2)


def opt(c: Config) -> Decoder:
    """Learned positions, two more than the context. Without projections of the embedding (OPT-350M has them)."""
    hidden = c.positive("hidden_size")
    positions = Block(role="position", parameters=(c.positive("max_position_embeddings") + 2) * hidden)
    return _plain(
        c,
        gqa(c, qkv_bias=True, o_bias=True),
        inner=c.positive("ffn_dim"),
        bias=True,
        norms=2,
        tie=True,
        blocks=(positions,),
    )


def bloom(c: Config) -> Decoder:
    """ALiBi, and a LayerNorm after the embedding."""
    c = _gpt2_names(c).with_defaults(max_position_embeddings=2048)
    hidden = c.positive("hidden_size")
    norm = Block(role="other", parameters=2 * hidden)
    attention = gqa(c, qkv_bias=True, o_bias=True)
    return _plain(c, attention, inner=4 * hidden, bias=True, norms=2, tie=True, blocks=(norm,))


def mpt(c: Config) -> Decoder:
    """ALiBi; no biases anywhere, LayerNorms included."""
    c = _gpt2_names(c)
    inner = c.positive("hidden_size") * c.integer("expansion_ratio", default=4)
    return _plain(c, gqa(c), inner=inner, bias=False, norms=2, biased_norms=False, tie=True)


def gpt_bigcode(c: Config) -> Decoder:
    """StarCoder: GPT-2 with learned positions and one KV head."""
    c = _gpt2_names(c)
    hidden, heads = c.positive("hidden_size"), c.positive("num_attention_heads")
    positions = Block(role="position", parameters=c.positive("max_position_embeddings") * hidden)
    attention = Attention(
        heads=heads,
        kv_heads=1 if c.flag("multi_query", True) else heads,
        head_dim=hidden // heads,
        qkv_bias=True,
        o_bias=True,
    )
    inner = c.integer("n_inner", default=4 * hidden)
    return _plain(c, attention, inner=inner, bias=True, norms=2, tie=True, blocks=(positions,))


def _llama_like(c: Config, attention: Attention) -> Decoder:
    plan = LayerPlan((attention,), (gated(c),), 2 * c.positive("hidden_size"))
    return simple(c, [plan] * c.positive("num_hidden_layers"))


def baichuan(c: Config) -> Decoder:
    """Llama's shapes, Aquila's too; the 13B of Baichuan has ALiBi."""
    c = _renamed(c, max_position_embeddings=("max_position_embeddings", "model_max_length"))
    return _llama_like(c, gqa(c))


def internlm(c: Config) -> Decoder:
    """InternLM 2 and 3: Llama's shapes, biases where the config says so."""
    qkv = c.flag("qkv_bias") or c.flag("bias")
    return _llama_like(c, gqa(c, qkv_bias=qkv, o_bias=c.flag("bias")))


def deci(c: Config) -> Decoder:
    """DeciLM: KV heads differ by layer; engines repeat them up to the most of any layer, and so do we."""
    per_layer = [int(str(n)) for n in c.sequence("num_key_value_heads_per_layer") or ()]
    return _llama_like(c.with_defaults(**({"num_key_value_heads": max(per_layer)} if per_layer else {})), gqa(c))


def gpt2(c: Config) -> Decoder:
    """Learned positions, biases everywhere, a tied head."""
    c = _gpt2_names(c)
    hidden = c.positive("hidden_size")
    positions = Block(role="position", parameters=c.positive("max_position_embeddings") * hidden)
    inner = c.integer("n_inner", default=4 * hidden)
    attention = gqa(c, qkv_bias=True, o_bias=True)
    return _plain(c, attention, inner=inner, bias=True, norms=2, tie=True, blocks=(positions,))


def chatglm(c: Config) -> Decoder:
    """GLM-4 and ChatGLM3 under their first names: half of a head rotated, a biased qkv; frequencies are stored."""
    heads = c.positive("num_attention_heads")
    head_dim = c.positive("kv_channels", default=c.positive("hidden_size") // heads)
    grouped = c.positive("multi_query_group_num", default=heads) if c.flag("multi_query_attention") else heads
    c = _renamed(
        c,
        num_hidden_layers=("num_hidden_layers", "num_layers"),
        vocab_size=("vocab_size", "padded_vocab_size"),
        intermediate_size=("intermediate_size", "ffn_hidden_size"),
        max_position_embeddings=("max_position_embeddings", "seq_length"),
    ).with_defaults(num_key_value_heads=grouped, head_dim=head_dim, partial_rotary_factor=0.5)
    qkv = c.flag("add_qkv_bias") or c.flag("add_bias_linear")
    frequencies = Block(role="buffer", parameters=head_dim // 4)
    decoder = replace(_llama_like(c, gqa(c, qkv_bias=qkv)), blocks=(frequencies,))
    return replace(decoder, rotary=tables(c, decoder))


def stablelm(c: Config) -> Decoder:
    """A quarter of a head rotated; LayerNorms with bias, one a layer in the 12B, where queries and keys have norms."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    parallel, per_head = c.flag("use_parallel_residual"), c.flag("qk_layernorm")
    attention = gqa(c, qkv_bias=c.flag("use_qkv_bias"))
    qk = (attention.heads + attention.kv_heads) * attention.head_dim if per_head else 0
    attention = attention.model_copy(update={"extra_parameters": qk})
    norms = 2 * h if parallel else 4 * h
    c = c.with_defaults(partial_rotary_factor=0.25)
    decoder = simple(c, [LayerPlan((attention,), (gated(c),), norms)] * n, norm_factor=2)
    return replace(decoder, rotary=tables(c, decoder))


def seed_oss(c: Config) -> Decoder:
    return _llama_like(c, gqa(c, qkv_bias=c.flag("attention_bias", True), o_bias=c.flag("attention_out_bias")))


READERS: dict[str, Reader] = {
    "gptj": gptj,
    "gpt_neox": gpt_neox,
    "opt": opt,
    "bloom": bloom,
    "mpt": mpt,
    "gpt_bigcode": gpt_bigcode,
    "baichuan": baichuan,
    "aquila": baichuan,
    "internlm2": internlm,
    "internlm3": internlm,
    "deci": deci,
    "seed_oss": seed_oss,
    "gpt2": gpt2,
    "chatglm": chatglm,
    "stablelm": stablelm,
}
