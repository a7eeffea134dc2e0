"""Dense decoders with softmax attention: Llama, Qwen 2 and 3, Mistral, Phi, OLMo, Granite, GLM-4 …

Each reader states what sets its architecture apart: biases, norms, windows, tied embeddings.
Source: the models' modelling files in transformers 5.23.0 (configuration_*.py for the defaults).
"""

from __future__ import annotations

from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, context, gated, gqa, layer_kinds, simple
from planner.spec.model import Attention, Block, DenseFfn, Ffn


def _uniform(c: Config, attention: Attention, ffn: Ffn, norms: int = 2, **extra: object) -> Decoder:
    """Every layer the same, with `norms` × hidden norm parameters."""
    hidden = c.positive("hidden_size")
    n = c.positive("num_hidden_layers", "n_layer", "num_layers")
    return simple(c, [LayerPlan((attention,), (ffn,), norms * hidden)] * n, **extra)  # type: ignore[arg-type]


def window(c: Config) -> int | None:
    """`sliding_window`, when it is shorter than the context and not switched off."""
    if not c.flag("use_sliding_window", True):
        return None
    tokens = c.opt_int("sliding_window")
    return tokens if tokens and tokens < context(c) else None


def llama(c: Config) -> Decoder:
    bias = c.flag("attention_bias")
    return _uniform(c, gqa(c, qkv_bias=bias, o_bias=bias), gated(c, bias=c.flag("mlp_bias")))


def mistral(c: Config) -> Decoder:
    return _uniform(c, gqa(c, window_tokens=window(c)), gated(c))


def qwen2(c: Config) -> Decoder:
    return _uniform(c, gqa(c, qkv_bias=True), gated(c))


def mimo(c: Config) -> Decoder:
    """Qwen 2 with multi-token-prediction layers beside it (each: a layer, a 2h→h input, three norms)."""
    h, n_mtp = c.positive("hidden_size"), c.integer("num_nextn_predict_layers", default=0)
    base = qwen2(c)
    a = base.layers[0].mixers[0]
    assert isinstance(a, Attention)
    width = (a.heads + 2 * a.kv_heads) * a.head_dim
    layer = h * width + width + h * a.heads * a.head_dim + 3 * h * c.positive("intermediate_size") + 2 * h
    blocks = [Block(role="mtp", parameters=layer + 2 * h * h + 3 * h)] * n_mtp
    return base.plus(*blocks, modality="text")


def qwen3(c: Config) -> Decoder:
    bias = c.flag("attention_bias")
    return _uniform(c, gqa(c, qkv_bias=bias, o_bias=bias, qk_norm="head"), gated(c))


def phi3(c: Config) -> Decoder:
    """Fused qkv and gate_up in the checkpoint; the counts are the same as split ones."""
    return _uniform(c, gqa(c, window_tokens=window(c)), gated(c))


def phi(c: Config) -> Decoder:
    """Phi-2: parallel block with one LayerNorm, biases on every linear, plain MLP, biased head."""
    return _uniform(
        c,
        gqa(c, qkv_bias=True, o_bias=True),
        DenseFfn(intermediate=c.positive("intermediate_size"), gated=False, bias=True),
        norm_factor=2,
        lm_head_bias=True,
    )


def phi3small(c: Config) -> Decoder:
    """LayerNorms with bias, all linears biased, gated GELU of width `ff_intermediate_size`, tied."""
    return _uniform(
        c,
        gqa(c, qkv_bias=True, o_bias=True),
        gated(c, "ff_intermediate_size", bias=True),
        norms=4,
        norm_factor=2,
        tie=True,
    )


def olmo2(c: Config) -> Decoder:
    return _uniform(c, gqa(c, qk_norm="full"), gated(c))


def olmo3(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    plans = []
    for kind in layer_kinds(c, n, pattern=4):
        tokens = c.opt_int("sliding_window") if kind == "sliding_attention" else None
        plans.append(LayerPlan((gqa(c, qk_norm="full", window_tokens=tokens),), (gated(c),), 2 * h))
    return simple(c, plans)


def granite(c: Config) -> Decoder:
    return _uniform(c, gqa(c), gated(c), tie=False)


def smollm3(c: Config) -> Decoder:
    return _uniform(c, gqa(c), gated(c), tie=True)


def starcoder2(c: Config) -> Decoder:
    bias = c.flag("use_bias", True)
    return _uniform(
        c,
        gqa(c, qkv_bias=bias, o_bias=bias, window_tokens=window(c)),
        DenseFfn(intermediate=c.positive("intermediate_size"), gated=False, bias=bias),
        norms=4,
        norm_factor=2,
        tie=True,
    )


def nemotron(c: Config) -> Decoder:
    """LayerNorm1p with bias and a squared-ReLU MLP without a gate."""
    return _uniform(
        c, gqa(c), DenseFfn(intermediate=c.positive("intermediate_size"), gated=False), norms=4, norm_factor=2
    )


def falcon(c: Config) -> Decoder:
    """Falcon: parallel block; the new architecture has two LayerNorms and grouped KV heads."""
    new = c.flag("new_decoder_architecture")
    heads = c.positive("num_attention_heads", "n_head")
    kv = c.positive("num_kv_heads", "n_head_kv", default=heads) if new else 1 if c.flag("multi_query", True) else heads
    h, bias = c.positive("hidden_size"), c.flag("bias")
    attention = Attention(heads=heads, kv_heads=kv, head_dim=h // heads, qkv_bias=bias, o_bias=bias)
    ffn = DenseFfn(intermediate=c.integer("ffn_hidden_size", default=4 * h), gated=False, bias=bias)
    n_norms = (
        2 if new and c.integer("num_ln_in_parallel_attn", default=2) == 2 else 1 if c.flag("parallel_attn", True) else 2
    )
    return _uniform(
        c.with_defaults(max_position_embeddings=2048), attention, ffn, norms=2 * n_norms, norm_factor=2, tie=True
    )


def glm(c: Config) -> Decoder:
    return _uniform(c.with_defaults(head_dim=128), gqa(c, qkv_bias=c.flag("attention_bias", True)), gated(c))


def glm4(c: Config) -> Decoder:
    """As GLM with post-norms: four norms per layer."""
    return _uniform(c, gqa(c, qkv_bias=c.flag("attention_bias", True)), gated(c), norms=4)


def cohere(c: Config) -> Decoder:
    """Command R: parallel block with one weight-only LayerNorm; embeddings tied."""
    qk = "full" if c.flag("use_qk_norm") else "none"
    return _uniform(c, gqa(c, qk_norm=qk), gated(c), norms=1, tie=True)


def cohere2(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    plans = []
    for kind in layer_kinds(c, n, c.integer("sliding_window_pattern", default=4)):
        tokens = c.opt_int("sliding_window") if kind == "sliding_attention" else None
        plans.append(LayerPlan((gqa(c, window_tokens=tokens),), (gated(c),), h))
    return simple(c, plans, tie=True)


def exaone(c: Config) -> Decoder:
    return _uniform(c.with_defaults(num_hidden_layers=c.integer("num_layers", "num_hidden_layers")), gqa(c), gated(c))


def exaone4(c: Config) -> Decoder:
    """Norms after attention and MLP; `sliding_window_pattern` is a row of L and G, a period, or nothing."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    raw = c.data.get("sliding_window_pattern")
    period = len(raw) if isinstance(raw, str) else c.opt_int("sliding_window_pattern")
    tokens = window(c)
    plans = []
    for kind in layer_kinds(c, n, pattern=period if tokens else None):
        limit = tokens if kind == "sliding_attention" else None
        plans.append(LayerPlan((gqa(c, qk_norm="head", window_tokens=limit),), (gated(c),), 2 * h))
    return simple(c, plans)


def hunyuan_dense(c: Config) -> Decoder:
    """Norms on queries and keys, a tied head."""
    bias = c.flag("attention_bias")
    qk = "head" if c.flag("use_qk_norm", True) else "none"
    return _uniform(c, gqa(c, qkv_bias=bias, o_bias=bias, qk_norm=qk), gated(c), tie=True)


def ernie4_5(c: Config) -> Decoder:
    bias = c.flag("use_bias")
    return _uniform(c, gqa(c, qkv_bias=bias, o_bias=bias), gated(c, bias=bias), tie=True)


def arcee(c: Config) -> Decoder:
    """Llama with a squared-ReLU MLP that has no gate."""
    ffn = DenseFfn(intermediate=c.positive("intermediate_size"), gated=False, bias=c.flag("mlp_bias"))
    bias = c.flag("attention_bias")
    return _uniform(c, gqa(c, qkv_bias=bias, o_bias=bias), ffn)


def apertus(c: Config) -> Decoder:
    """No gate; the activation (xIELU) has two trained numbers a layer."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    bias = c.flag("attention_bias")
    attention = gqa(c, qkv_bias=bias, o_bias=bias, qk_norm="head")
    ffn = DenseFfn(intermediate=c.positive("intermediate_size"), gated=False, bias=c.flag("mlp_bias"))
    return simple(c, [LayerPlan((attention,), (ffn,), 2 * h + 2)] * n)


def olmo(c: Config) -> Decoder:
    """LayerNorms without parameters, the last one too."""
    return _uniform(c, gqa(c), gated(c), norms=0, norm_factor=0)


def minicpm(c: Config) -> Decoder:
    return _uniform(c, gqa(c), gated(c), tie=True)


def gemma(c: Config) -> Decoder:
    return _uniform(c, gqa(c), gated(c), tie=True)


READERS: dict[str, Reader] = {
    "llama": llama,
    "mistral": mistral,
    "ministral3": mistral,
    "qwen2": qwen2,
    "mimo": mimo,
    "qwen3": qwen3,
    "phi": phi,
    "phi3": phi3,
    "phi3small": phi3small,
    "olmo2": olmo2,
    "olmo3": olmo3,
    "granite": granite,
    "smollm3": smollm3,
    "starcoder2": starcoder2,
    "nemotron": nemotron,
    "falcon": falcon,
    "glm": glm,
    "glm4": glm4,
    "cohere": cohere,
    "cohere2": cohere2,
    "exaone": exaone,
    "exaone4": exaone4,
    "hunyuan_v1_dense": hunyuan_dense,
    "ernie4_5": ernie4_5,
    "arcee": arcee,
    "apertus": apertus,
    "olmo": olmo,
    "minicpm": minicpm,
    "gemma": gemma,
}
