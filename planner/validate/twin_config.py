"""The config.json of a twin: the scaled-down ModelSpec in the words of each family. Scales nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.errors import UsageError
from planner.spec.model import Attention, DenseFfn, Mla, ModelSpec, MoeFfn, RopeScaling

_NAMES = {"gemma3_text": "Gemma3ForCausalLM"}
NORM_EPS = 1e-5


def config_of(spec: ModelSpec) -> dict[str, Any]:
    """Raises UsageError for a mixture of layers that no config.json of the family can say."""
    return _common(spec) | CONFIGS[spec.model_type](spec)


def _common(spec: ModelSpec) -> dict[str, Any]:
    mixer = spec.layers[0].mixers[0]
    dense = [f.intermediate for g in spec.layers for f in g.ffns if isinstance(f, DenseFfn)]
    routed = [f.intermediate for g in spec.layers for f in g.ffns if isinstance(f, MoeFfn)]
    config: dict[str, Any] = {
        "architectures": [_NAMES.get(spec.model_type, spec.architecture)], "model_type": spec.model_type,
        "vocab_size": spec.vocab_size, "hidden_size": spec.hidden_size, "intermediate_size": (dense or routed)[0],
        "num_hidden_layers": spec.n_layers, "max_position_embeddings": spec.context_length, "rms_norm_eps": NORM_EPS,
        "tie_word_embeddings": spec.tie_word_embeddings, "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    if spec.rope_scaling is not None:
        config["rope_scaling"] = _scaling(spec.rope_scaling)
    if isinstance(mixer, Attention):
        config |= {
            "num_attention_heads": mixer.heads, "num_key_value_heads": mixer.kv_heads, "head_dim": mixer.head_dim,
        }  # fmt: skip
    return config


def _scaling(rope: RopeScaling) -> dict[str, Any]:
    given = rope.model_dump(exclude_none=True)
    told = {"rope_type": given.pop("kind")}
    if "original_context_length" in given:
        told["original_max_position_embeddings"] = given.pop("original_context_length")
    return told | given


def _attention(spec: ModelSpec) -> Attention:
    mixers = {m.model_copy(update={"window_tokens": None}) for g in spec.layers for m in g.mixers}
    first = next(iter(mixers))
    if len(mixers) > 1 or not isinstance(first, Attention):
        raise UsageError(f"layers of {spec.id} differ in more than their window")
    return first


def _windows(spec: ModelSpec) -> dict[str, Any]:
    """`layer_types` and `sliding_window`, in every family's own spelling of them."""
    by_layer = {i: g.mixers[0] for g in spec.layers for i in g.layers}
    sizes = {m.window_tokens for m in by_layer.values() if isinstance(m, Attention) and m.window_tokens}
    if not sizes:
        return {"sliding_window": None, "layer_types": ["full_attention"] * spec.n_layers}
    if len(sizes) > 1:
        raise UsageError(f"windows of {sorted(sizes)} tokens in one model are not implemented")
    types = [
        "sliding_attention" if isinstance(m := by_layer[i], Attention) and m.window_tokens else "full_attention"
        for i in range(spec.n_layers)
    ]
    return {"sliding_window": sizes.pop(), "use_sliding_window": True, "layer_types": types}


def _moe(spec: ModelSpec) -> MoeFfn:
    found = {f for g in spec.layers for f in g.ffns if isinstance(f, MoeFfn)}
    if len(found) != 1:
        raise UsageError(f"{len(found)} kinds of experts in one model are not implemented")
    return found.pop()


def _dense_layers(spec: ModelSpec) -> list[int]:
    return sorted(i for g in spec.layers for i in g.layers if isinstance(g.ffns[0], DenseFfn))


def _llama(spec: ModelSpec) -> dict[str, Any]:
    ffn = spec.layers[0].ffns[0]
    return {"attention_bias": _attention(spec).qkv_bias, "mlp_bias": isinstance(ffn, DenseFfn) and ffn.bias}


def _qwen(spec: ModelSpec) -> dict[str, Any]:
    mixer = _attention(spec)
    return _windows(spec) | {"qkv_bias": mixer.qkv_bias, "attention_bias": mixer.qkv_bias}


def _mixtral(spec: ModelSpec) -> dict[str, Any]:
    moe = _moe(spec)
    return _windows(spec) | {"num_local_experts": moe.experts, "num_experts_per_tok": moe.experts_per_token}


def _qwen_moe(spec: ModelSpec) -> dict[str, Any]:
    moe = _moe(spec)
    return _qwen(spec) | {
        "num_experts": moe.experts, "num_experts_per_tok": moe.experts_per_token,
        "norm_topk_prob": spec.model_type == "qwen3_moe", "moe_intermediate_size": moe.intermediate,
        "shared_expert_intermediate_size": moe.shared_intermediate, "decoder_sparse_step": 1,
        "mlp_only_layers": _dense_layers(spec),
    }  # fmt: skip


def _gemma(spec: ModelSpec) -> dict[str, Any]:
    scalar = _attention(spec).head_dim
    config = _windows(spec) | {"query_pre_attn_scalar": scalar, "hidden_activation": "gelu_pytorch_tanh"}
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0} if spec.model_type == "gemma2" else {}
    return config | caps


def _deepseek_v2(spec: ModelSpec) -> dict[str, Any]:
    moe, mixer, dense = _moe(spec), spec.layers[0].mixers[0], _dense_layers(spec)
    assert isinstance(mixer, Mla)
    return {
        "num_attention_heads": mixer.heads, "num_key_value_heads": mixer.heads, "q_lora_rank": mixer.q_lora_rank,
        "kv_lora_rank": mixer.kv_lora_rank, "qk_nope_head_dim": mixer.qk_nope_head_dim,
        "qk_rope_head_dim": mixer.qk_rope_head_dim, "v_head_dim": mixer.v_head_dim, "n_routed_experts": moe.experts,
        "n_shared_experts": moe.shared_intermediate // moe.intermediate, "num_experts_per_tok": moe.experts_per_token,
        "moe_intermediate_size": moe.intermediate, "first_k_dense_replace": len(dense), "moe_layer_freq": 1,
        "topk_method": "greedy", "norm_topk_prob": False, "routed_scaling_factor": 1.0,
    }  # fmt: skip


def _deepseek_v3(spec: ModelSpec) -> dict[str, Any]:
    """Half of DeepSeek's groups are open to a token (4 of 8), Kimi has one; a ModelSpec does not hold them."""
    groups = 1 if spec.model_type == "kimi_k2" else max(2, _moe(spec).experts // 2)
    return _deepseek_v2(spec) | {
        "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": 2.5,
        "n_group": groups, "topk_group": max(1, groups // 2),
    }  # fmt: skip


CONFIGS: dict[str, Callable[[ModelSpec], dict[str, Any]]] = {
    "llama": _llama, "mistral": _windows, "mixtral": _mixtral, "qwen2": _qwen, "qwen3": _qwen, "qwen2_moe": _qwen_moe,
    "qwen3_moe": _qwen_moe, "gemma2": _gemma, "gemma3_text": _gemma, "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3, "kimi_k2": _deepseek_v3,
}  # fmt: skip
