"""`config.json` of a HF checkpoint to a ModelConfig. What is not implemented is refused by name.

Reads the current layout (`rope_parameters`, `layer_types`) and the older ones (`rope_theta`, `rope_scaling`,
`sliding_window_pattern`). Knows nothing of weights, except which quantization the config declares (`weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.engine.config import Layer, Mla, ModelConfig, Moe
from planner.engine.rope import KINDS, Rope, yarn_mscale
from planner.errors import FormatError, PlannerError, UnknownNameError, UsageError

Json = Mapping[str, Any]


def from_hf(config: Json) -> ModelConfig:
    """The ModelConfig of a parsed `config.json`. Raises UnknownNameError for a model type without a family here,
    UsageError for a variant that is not implemented, FormatError for a missing or impossible field.
    """
    if isinstance(config.get("text_config"), dict) and config.get("model_type") == "gemma3":
        raise UsageError("gemma3 with a vision tower is not implemented; use the text checkpoint (gemma3_text)")
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES:
        raise UnknownNameError("model type", kind, FAMILIES, "the engine implements " + ", ".join(FAMILIES))
    try:
        return FAMILIES[kind](config)
    except PlannerError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise FormatError(f"config.json: a field has an impossible value ({str(error)[:80]})") from None


def _int(config: Json, name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise FormatError(f"config.json: {name} must be a whole number, got {value!r:.40}")
    return value


def _base(config: Json, **changes: Any) -> ModelConfig:
    """What every family shares, with the family's `changes`."""
    heads, hidden = _int(config, "num_attention_heads"), _int(config, "hidden_size")
    head_dim = changes.pop("head_dim", None) or _int(config, "head_dim", hidden // max(heads, 1))
    activation = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    names = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh"}
    if activation not in names:
        raise UsageError(f"activation {activation!r} is not implemented; implemented: {', '.join(sorted(names))}")
    if float(config.get("partial_rotary_factor") or 1) != 1:
        raise UsageError("partial rotary embeddings (partial_rotary_factor < 1) are not implemented")
    eos = config.get("eos_token_id")
    n_layers = _int(config, "num_hidden_layers")
    if n_layers > 4096:
        raise FormatError(f"config.json: num_hidden_layers = {n_layers} is impossible")
    values: dict[str, Any] = {
        "family": config["model_type"],
        "vocab_size": _int(config, "vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": _int(config, "intermediate_size"),
        "heads": heads,
        "kv_heads": _int(config, "num_key_value_heads", heads),
        "head_dim": head_dim,
        "layers": (Layer(rope(config, head_dim)),) * n_layers,
        "max_position": _int(config, "max_position_embeddings", 2048),
        "norm_eps": float(config.get("rms_norm_eps") or 1e-6),
        "attention_scale": head_dim**-0.5,
        "activation": names[activation],
        "tied": bool(config.get("tie_word_embeddings", False)),
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_ids": tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
    }
    return ModelConfig(**(values | changes))


def rope(config: Json, dim: int, entry: Json | None = None, theta: float | None = None) -> Rope:
    """Positions of `dim` elements, from `entry` or the config's own `rope_parameters` / `rope_scaling`."""
    flat = config.get("rope_parameters") or config.get("rope_scaling") or {}
    given: Json = flat if entry is None else entry
    if any(isinstance(value, dict) for value in given.values()):
        given = {}  # one entry per layer type; the family asks for each
    kind = str(given.get("rope_type") or given.get("type") or "default")
    if kind not in KINDS:
        raise UsageError(f"RoPE type {kind!r} is not implemented; implemented: {', '.join(KINDS)}")
    if float(given.get("partial_rotary_factor") or 1) != 1:
        raise UsageError("partial rotary embeddings (partial_rotary_factor < 1) are not implemented")
    if given.get("truncate") is False:
        raise UsageError("yarn without truncation (truncate: false) is not implemented")
    base = theta or given.get("rope_theta") or config.get("rope_theta") or 10_000.0
    original = given.get("original_max_position_embeddings") or config.get("max_position_embeddings") or 0
    factor = given.get("factor")
    if factor is None:
        factor = (config.get("max_position_embeddings") or original) / original if kind == "yarn" else 1.0
    try:
        return Rope(
            dim=dim,
            theta=float(base),
            kind=kind,
            factor=float(factor),
            original_max_position=int(original),
            low_freq_factor=float(given.get("low_freq_factor", 1.0)),
            high_freq_factor=float(given.get("high_freq_factor", 4.0)),
            beta_fast=float(given.get("beta_fast") or 32),
            beta_slow=float(given.get("beta_slow") or 1),
            attention_factor=given.get("attention_factor"),
            mscale=float(given.get("mscale") or 0),
            mscale_all_dim=float(given.get("mscale_all_dim") or 0),
        )
    except (TypeError, ValueError) as error:
        raise FormatError(f"config.json: rope parameters cannot be read ({error})") from None


def _windowed(base: ModelConfig, config: Json, local: Callable[[int], bool]) -> tuple[Layer, ...]:
    """Layers with the config's window where `layer_types`, else `local`, says so."""
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    if kinds is not None and (
        len(kinds) != len(base.layers) or not set(kinds) <= {"full_attention", "sliding_attention"}
    ):
        raise UsageError(f"layer_types {sorted(set(map(str, kinds)))} are not implemented, or not one per layer")
    slides = [k == "sliding_attention" for k in kinds] if kinds else [local(i) for i in range(len(base.layers))]
    return tuple(replace(layer, window=window if s else None) for layer, s in zip(base.layers, slides, strict=True))


def _llama(config: Json) -> ModelConfig:
    bias = bool(config.get("attention_bias", False))
    return _base(config, qkv_bias=bias, output_bias=bias, mlp_bias=bool(config.get("mlp_bias", False)))


def _mistral(config: Json) -> ModelConfig:
    base = _base(config)
    return replace(base, layers=_windowed(base, config, lambda _: True))


def _mixtral(config: Json) -> ModelConfig:
    base = _mistral(config)
    moe = Moe(
        experts=_int(config, "num_local_experts"),
        per_token=_int(config, "num_experts_per_tok"),
        intermediate_size=base.intermediate_size,
        naming="mixtral",
    )
    return replace(base, moe=moe, layers=tuple(replace(layer, routed=True) for layer in base.layers))


def _qwen2(config: Json) -> ModelConfig:
    base = _base(config, qkv_bias=bool(config.get("qkv_bias", True)))
    return replace(base, layers=_qwen_layers(base, config))


def _qwen3(config: Json) -> ModelConfig:
    bias = bool(config.get("attention_bias", False))
    base = _base(config, qk_norm=True, qkv_bias=bias, output_bias=bias, head_dim=_int(config, "head_dim", 128))
    return replace(base, layers=_qwen_layers(base, config))


def _qwen_layers(base: ModelConfig, config: Json) -> tuple[Layer, ...]:
    if not config.get("use_sliding_window", False):
        return base.layers
    first = _int(config, "max_window_layers", len(base.layers))
    return _windowed(base, config, lambda i: i >= first)


def _qwen_moe(config: Json, dense: Callable[[Json], ModelConfig]) -> ModelConfig:
    base = dense(config)
    shared = _int(config, "shared_expert_intermediate_size", 0) if base.family == "qwen2_moe" else 0
    moe = Moe(
        experts=_int(config, "num_experts"),
        per_token=_int(config, "num_experts_per_tok"),
        intermediate_size=_int(config, "moe_intermediate_size"),
        naming="qwen",
        normalize=bool(config.get("norm_topk_prob", False)),
        shared_intermediate_size=shared,
        shared_gate=shared > 0,
    )
    step, dense_only = _int(config, "decoder_sparse_step", 1), config.get("mlp_only_layers") or []
    routed = [i not in dense_only and moe.experts > 0 and (i + 1) % step == 0 for i in range(len(base.layers))]
    return replace(
        base, moe=moe, layers=tuple(replace(layer, routed=r) for layer, r in zip(base.layers, routed, strict=True))
    )


def _gemma(config: Json, **changes: Any) -> ModelConfig:
    if config.get("use_bidirectional_attention"):
        raise UsageError("bidirectional attention is not implemented")
    scalar = _int(config, "query_pre_attn_scalar", 256)
    defaults = {"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
    return _base(
        defaults | {k: v for k, v in config.items() if v is not None},
        sandwich_norms=True,
        norm_offset=1.0,
        embedding_scale=_int(config, "hidden_size") ** 0.5,
        attention_scale=scalar**-0.5,
        head_dim=_int(config, "head_dim", 256),
        attention_softcap=config.get("attn_logit_softcapping"),
        final_softcap=config.get("final_logit_softcapping"),
        **changes,
    )


def _gemma2(config: Json) -> ModelConfig:
    base = _gemma(config)
    return replace(base, layers=_windowed(base, config, lambda i: (i + 1) % 2 == 1))


def _gemma3(config: Json) -> ModelConfig:
    base = _gemma(config, qk_norm=True)
    every = _int(config, "sliding_window_pattern", 6)
    layers = _windowed(base, config, lambda i: (i + 1) % every != 0)
    per_type = config.get("rope_parameters") or {}
    if "full_attention" in per_type:
        globally = rope(config, base.head_dim, per_type["full_attention"])
        locally = rope(config, base.head_dim, per_type.get("sliding_attention") or {"rope_theta": 10_000.0})
    else:
        globally = rope(config, base.head_dim, theta=float(config.get("rope_theta") or 1e6))
        locally = rope(config, base.head_dim, {}, theta=float(config.get("rope_local_base_freq") or 1e4))
    return replace(base, layers=tuple(replace(layer, rope=locally if layer.window else globally) for layer in layers))


def _deepseek(config: Json) -> tuple[ModelConfig, Moe]:
    """What DeepSeek V2 and V3 share; the routing's rule is the caller's."""
    family = config["model_type"]
    mla = Mla(
        kv_rank=_int(config, "kv_lora_rank"),
        q_rank=None if config.get("q_lora_rank") is None else _int(config, "q_lora_rank"),
        nope_dim=_int(config, "qk_nope_head_dim"),
        rope_dim=_int(config, "qk_rope_head_dim"),
        value_dim=_int(config, "v_head_dim"),
    )
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise UsageError(f"{family} with attention_bias or mlp_bias is not implemented")
    positions = rope(config, mla.rope_dim)
    scale = (mla.nope_dim + mla.rope_dim) ** -0.5
    if positions.kind == "yarn" and positions.mscale_all_dim:
        scale *= yarn_mscale(positions.factor, positions.mscale_all_dim) ** 2
    width = _int(config, "moe_intermediate_size")
    moe = Moe(
        experts=_int(config, "n_routed_experts"),
        per_token=_int(config, "num_experts_per_tok"),
        intermediate_size=width,
        naming="deepseek",
        scale=float(config.get("routed_scaling_factor") or 1.0),
        shared_intermediate_size=width * _int(config, "n_shared_experts", 0),
    )
    dense, every = _int(config, "first_k_dense_replace", 0), _int(config, "moe_layer_freq", 1)
    n_layers = _int(config, "num_hidden_layers")
    base = _base(
        config,
        mla=mla,
        moe=moe,
        attention_scale=scale,
        head_dim=mla.rope_dim,
        kv_heads=_int(config, "num_attention_heads"),
        layers=tuple(Layer(positions, routed=i >= dense and i % every == 0) for i in range(n_layers)),
    )
    return base, moe


def _deepseek_v2(config: Json) -> ModelConfig:
    base, moe = _deepseek(config)
    method = config.get("topk_method") or "greedy"
    if method not in ("greedy", "group_limited_greedy"):
        raise UsageError(f"expert routing {method!r} is not implemented; implemented: greedy, group_limited_greedy")
    if config.get("norm_topk_prob"):
        raise UsageError("deepseek_v2 with norm_topk_prob is not implemented")
    limited = method == "group_limited_greedy"
    groups, per_token = (_int(config, name, 0) if limited else 0 for name in ("n_group", "topk_group"))
    return replace(base, moe=replace(moe, normalize=False, groups=groups, groups_per_token=per_token))


def _deepseek_v3(config: Json) -> ModelConfig:
    base, moe = _deepseek(config)
    if config.get("rope_interleave") is False:
        raise UsageError("deepseek_v3 with rope_interleave: false is not implemented")
    for name, only in (("topk_method", "noaux_tc"), ("scoring_func", "sigmoid")):
        if config.get(name, only) != only:
            raise UsageError(f"deepseek_v3 with {name} {config[name]!r} is not implemented; implemented: {only}")
    groups, per_token = _int(config, "n_group", 8), _int(config, "topk_group", 4)
    normalize = config.get("norm_topk_prob") is not False
    return replace(base, moe=replace(moe, sigmoid=True, normalize=normalize, groups=groups, groups_per_token=per_token))


FAMILIES: dict[str, Callable[[Json], ModelConfig]] = {
    "llama": _llama,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen2_moe": lambda config: _qwen_moe(config, _qwen2),
    "qwen3_moe": lambda config: _qwen_moe(config, _qwen3),
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "kimi_k2": _deepseek_v3,
}
