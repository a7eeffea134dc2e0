"""Which tensors a model must have: HF names and shapes, for every family. The check of names lives in `weights`.

Knows names; knows nothing of files or numbers.
"""

from __future__ import annotations

from planner.engine.config import Layer, Mla, ModelConfig, Moe

Shapes = dict[str, tuple[int, ...]]


def expected_tensors(config: ModelConfig) -> Shapes:
    """Name → shape of every tensor of the model, as HF checkpoints name them."""
    d = config.hidden_size
    shapes: Shapes = {"model.embed_tokens.weight": (config.vocab_size, d), "model.norm.weight": (d,)}
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab_size, d)
    for i, layer in enumerate(config.layers):
        prefix = f"model.layers.{i}."
        shapes |= _norms(prefix, config)
        attention = prefix + "self_attn."
        shapes |= _mla(attention, config, config.mla) if config.mla else _attention(attention, config)
        shapes |= _mlp(prefix, config, layer)
    return shapes


def _norms(prefix: str, config: ModelConfig) -> Shapes:
    names = ["input_layernorm", "post_attention_layernorm"]
    if config.sandwich_norms:
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return {f"{prefix}{name}.weight": (config.hidden_size,) for name in names}


def _attention(prefix: str, config: ModelConfig) -> Shapes:
    d, dim = config.hidden_size, config.head_dim
    q, kv = config.heads * dim, config.kv_heads * dim
    shapes: Shapes = {}
    for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
        shapes[f"{prefix}{name}.weight"] = (rows, d)
        if config.qkv_bias:
            shapes[f"{prefix}{name}.bias"] = (rows,)
    shapes[f"{prefix}o_proj.weight"] = (d, q)
    if config.output_bias:
        shapes[f"{prefix}o_proj.bias"] = (d,)
    if config.qk_norm:
        shapes |= {f"{prefix}{name}.weight": (dim,) for name in ("q_norm", "k_norm")}
    return shapes


def _mla(prefix: str, config: ModelConfig, mla: Mla) -> Shapes:
    d, q = config.hidden_size, config.heads * (mla.nope_dim + mla.rope_dim)
    shapes: Shapes = {
        f"{prefix}kv_a_proj_with_mqa.weight": (mla.kv_rank + mla.rope_dim, d),
        f"{prefix}kv_a_layernorm.weight": (mla.kv_rank,),
        f"{prefix}kv_b_proj.weight": (config.heads * (mla.nope_dim + mla.value_dim), mla.kv_rank),
        f"{prefix}o_proj.weight": (d, config.heads * mla.value_dim),
    }
    if mla.q_rank is None:
        shapes[f"{prefix}q_proj.weight"] = (q, d)
    else:
        shapes[f"{prefix}q_a_proj.weight"] = (mla.q_rank, d)
        shapes[f"{prefix}q_a_layernorm.weight"] = (mla.q_rank,)
        shapes[f"{prefix}q_b_proj.weight"] = (q, mla.q_rank)
    return shapes


def _mlp(prefix: str, config: ModelConfig, layer: Layer) -> Shapes:
    d, moe = config.hidden_size, config.moe
    if not layer.routed or moe is None:
        shapes = _gated(prefix + "mlp.", d, config.intermediate_size)
        if config.mlp_bias:
            shapes |= {name.replace(".weight", ".bias"): shape[:1] for name, shape in shapes.items()}
        return shapes
    block = moe_prefix(prefix, moe)
    shapes = {f"{block}gate.weight": (moe.experts, d)}
    if moe.sigmoid:
        shapes[f"{block}gate.e_score_correction_bias"] = (moe.experts,)
    for e in range(moe.experts):
        for ours, theirs in expert_names(moe).items():
            shape = (d, moe.intermediate_size) if ours == "down_proj" else (moe.intermediate_size, d)
            shapes[f"{block}experts.{e}.{theirs}.weight"] = shape
    if moe.shared_intermediate_size:
        shapes |= _gated(block + shared_name(moe), d, moe.shared_intermediate_size)
    if moe.shared_gate:
        shapes[f"{block}shared_expert_gate.weight"] = (1, d)
    return shapes


def _gated(prefix: str, d: int, width: int) -> Shapes:
    return {
        f"{prefix}gate_proj.weight": (width, d),
        f"{prefix}up_proj.weight": (width, d),
        f"{prefix}down_proj.weight": (d, width),
    }


def moe_prefix(prefix: str, moe: Moe) -> str:
    """Where the experts of the layer `prefix` are."""
    return prefix + ("block_sparse_moe." if moe.naming == "mixtral" else "mlp.")


def expert_names(moe: Moe) -> dict[str, str]:
    """Our name → the checkpoint's, for the three matrices of an expert."""
    if moe.naming == "mixtral":
        return {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    return {name: name for name in ("gate_proj", "up_proj", "down_proj")}


def shared_name(moe: Moe) -> str:
    """The shared expert's prefix inside the block."""
    return "shared_experts." if moe.naming == "deepseek" else "shared_expert."
