"""Tiny checkpoints of every family: config.json as HF writes it, and seeded weights as safetensors.

The same files are read by the engine and by transformers (the oracle), so that both see the same model.
"""

from __future__ import annotations

import json
import struct
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
       "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "deepseek-v2": DEEPSEEK,
    "deepseek-v2-grouped": DEEPSEEK
    | {"q_lora_rank": None, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
       "rope_scaling": YARN | {"type": "yarn", "mscale": 0.707, "mscale_all_dim": 0.9}},
    "deepseek-v3": DEEPSEEK
    | {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "norm_topk_prob": True,
       "topk_method": "noaux_tc", "scoring_func": "sigmoid", "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3,
       "rope_scaling": YARN | {"type": "yarn", "mscale": 1.0, "mscale_all_dim": 1.0}},
}  # fmt: skip


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Uniform numbers of unit variance by splitmix64: the same for every version of numpy, as golden files need."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    with np.errstate(over="ignore"):
        x = x * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    uniform = (x >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1
    return np.asarray(uniform * 3**0.5).reshape(shape)


def random_weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor the family must have; norms near one (zero for offset norms), matrices of about unit gain."""
    model = from_hf(config)
    weights: dict[str, np.ndarray] = {}
    for i, (name, shape) in enumerate(expected_tensors(model).items()):
        value = noise(shape, 1000 * seed + i)
        if name.endswith("norm.weight"):
            value = 1.0 - model.norm_offset + 0.2 * value
        elif name.endswith(".bias"):
            value = 0.2 * value
        elif name.endswith("embed_tokens.weight"):
            value = value / model.embedding_scale
        else:
            value = value * (1.5 / shape[-1] ** 0.5)
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


def prompt(n_tokens: int = 40, seed: int = 7) -> list[int]:
    """A fixed, varied row of byte tokens."""
    return [int(t) for t in (noise((n_tokens,), seed) + 2) * 63]


GGUF_TYPES = {"F32": 0, "F16": 1, "Q8_0": 8, "BF16": 30}


def save_gguf(path: Path, config: dict[str, Any], weights: dict[str, np.ndarray], kind: str = "F32") -> Path:
    """A llama-family GGUF as llama.cpp's converter writes it: q and k rows in interleaved pairs, matrices in `kind`."""
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    metadata: dict[str, Any] = {
        "general.architecture": "llama", "llama.block_count": config["num_hidden_layers"],
        "llama.embedding_length": config["hidden_size"], "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv,
        "llama.attention.key_length": config["head_dim"], "llama.context_length": config["max_position_embeddings"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.freq_base": float(config["rope_theta"]), "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
    }  # fmt: skip
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    tensors: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        stem = name.removesuffix(".weight")
        if stem in top:
            tensors[top[stem] + ".weight"] = value
            continue
        _, _, layer, rest = stem.split(".", 3)
        if rest.endswith(("q_proj", "k_proj")):
            n = heads if rest.endswith("q_proj") else kv
            paired = value.reshape(n, 2, len(value) // n // 2, -1).swapaxes(1, 2).reshape(value.shape)
            tensors[f"blk.{layer}.{names[rest]}.weight"] = paired
        else:
            tensors[f"blk.{layer}.{names[rest]}.weight"] = value
    write_gguf(path, metadata, {n: (kind if v.ndim == 2 else "F32", v) for n, v in tensors.items()})
    return path


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """Version 3, little-endian; integers as u32, floats as f32. The types are those of GGUF_TYPES."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def entry(value: Any) -> bytes:
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + entry(value) for key, value in metadata.items())
    data = b""
    for name, (kind, value) in tensors.items():
        head += text(name) + struct.pack("<I", value.ndim)
        head += b"".join(struct.pack("<Q", n) for n in reversed(value.shape))
        head += struct.pack("<IQ", GGUF_TYPES[kind], len(data))
        raw = encode_gguf(value, kind)
        data += raw + b"\0" * (-len(raw) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def encode_gguf(value: np.ndarray, kind: str) -> bytes:
    """`value` in one of GGUF_TYPES."""
    if kind == "BF16":
        return (np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    if kind == "Q8_0":
        blocks = value.reshape(-1, 32)
        scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
        quants = np.round(blocks / np.where(scale == 0, 1, scale)).astype(np.int8)
        return np.concatenate([scale.astype("<f2").view(np.uint8), quants.view(np.uint8)], axis=1).tobytes()
    return value.astype({"F32": "<f4", "F16": "<f2"}[kind]).tobytes()
