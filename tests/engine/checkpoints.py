"""Tiny checkpoints of every family: config.json as HF writes it, and seeded weights as safetensors.

The same files are read by the engine and by transformers (the oracle), so that both see the same model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from planner.engine.hf_config import from_hf
from planner.engine.layout import expected_tensors

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 48,
    "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 256, "eos_token_id": 257, "hidden_act": "silu", "torch_dtype": "float32",
}  # fmt: skip
GEMMA = LLAMA | {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 4, "sliding_window": 8,
    "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 24,
    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
}  # fmt: skip
DEEPSEEK = LLAMA | {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "num_key_value_heads": 4,
    "kv_lora_rank": 24, "q_lora_rank": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10,
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "first_k_dense_replace": 1, "routed_scaling_factor": 1.5, "topk_method": "greedy", "norm_topk_prob": False,
    "n_group": 1, "topk_group": 1,
}  # fmt: skip
del DEEPSEEK["head_dim"]
QWEN_MOE = LLAMA | {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 40, "norm_topk_prob": False,
    "decoder_sparse_step": 1, "mlp_only_layers": [1],
}  # fmt: skip
YARN = {"factor": 4.0, "original_max_position_embeddings": 128, "beta_fast": 32, "beta_slow": 1}
CASES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama-biases": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "llama-tied": LLAMA | {"tie_word_embeddings": True},
    "llama-linear": LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama-llama3": LLAMA
    | {"rope_theta": 500000.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}},
    "llama-yarn": LLAMA | {"rope_scaling": YARN | {"rope_type": "yarn"}},
    "mistral": LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 12},
    "mixtral": LLAMA
    | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4,
       "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2-window": LLAMA
    | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": True,
       "sliding_window": 10, "max_window_layers": 1},
    "qwen3": LLAMA
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 24, "attention_bias": False},
    "qwen2-moe": QWEN_MOE,
    "qwen3-moe": QWEN_MOE
    | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "norm_topk_prob": True, "head_dim": 16,
       "attention_bias": False},
    "gemma2": GEMMA,
    "gemma3": {k: v for k, v in GEMMA.items() if "softcapping" not in k}
    | {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "sliding_window_pattern": 3,
       "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "deepseek-v2": DEEPSEEK,
    "deepseek-v2-grouped": DEEPSEEK
    | {"q_lora_rank": None, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
       "rope_scaling": YARN | {"type": "yarn", "mscale": 0.707, "mscale_all_dim": 0.9}},
}  # fmt: skip


def random_weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor the family must have; norms near one (zero for offset norms), matrices of unit gain."""
    rng = np.random.default_rng(seed)
    model = from_hf(config)
    weights: dict[str, np.ndarray] = {}
    for name, shape in expected_tensors(model).items():
        if name.endswith("norm.weight"):
            value = 1.0 - model.norm_offset + 0.2 * rng.standard_normal(shape)
        elif name.endswith(".bias"):
            value = 0.2 * rng.standard_normal(shape)
        elif name.endswith("embed_tokens.weight"):
            value = rng.standard_normal(shape) / model.embedding_scale
        else:
            value = rng.standard_normal(shape) * (1.5 / shape[-1] ** 0.5)
        weights[name] = value.astype(np.float32)
    return weights


def save_safetensors(path: Path, tensors: dict[str, np.ndarray], dtypes: dict[str, str] | None = None) -> None:
    """Write the format as its README describes it; `dtypes` names those that numpy has no name for."""
    names = {"float32": "F32", "float16": "F16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16"}
    header: dict[str, Any] = {}
    offset = 0
    for name, value in tensors.items():
        dtype = (dtypes or {}).get(name, names[value.dtype.name])
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).tobytes())


def save_checkpoint(directory: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> Path:
    """config.json and model.safetensors in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    save_safetensors(directory / "model.safetensors", weights)
    return directory


def prompt(n_tokens: int = 40, vocab_size: int = 256) -> list[int]:
    """A fixed, varied row of tokens."""
    return [int(t) for t in np.random.default_rng(7).integers(0, vocab_size, n_tokens)]
