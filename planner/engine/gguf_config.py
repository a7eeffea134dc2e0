"""GGUF metadata to a ModelConfig, by translating it to the keys of `config.json` that `hf_config` reads.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Knows nothing of tensors' data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.engine.config import ModelConfig
from planner.engine.hf_config import from_hf
from planner.errors import FormatError, UnknownNameError, UsageError
from planner.formats.arrays import Floats
from planner.formats.gguf import GgufHeader

# general.architecture → model_type. "llama" is also what Mistral and Mixtral are converted to.
ARCHITECTURES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe",
    "gemma2": "gemma2", "gemma3": "gemma3_text",
}  # fmt: skip


def from_gguf(header: GgufHeader) -> ModelConfig:
    """Raises UnknownNameError for an architecture without a family here, FormatError for missing keys."""
    architecture = header.text("general.architecture") or ""
    if architecture not in ARCHITECTURES:
        known = tuple(ARCHITECTURES)
        raise UnknownNameError("GGUF architecture", architecture, known, "the engine implements " + ", ".join(known))
    get = _Keys(header, architecture)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise FormatError("GGUF: token_embd.weight is missing or not a matrix")
    heads, hidden = get.integer("attention.head_count"), get.integer("embedding_length")
    eos = header.metadata.get("tokenizer.ggml.eos_token_id")
    config: dict[str, Any] = {
        "model_type": ARCHITECTURES[architecture],
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": get.integer("feed_forward_length", 0),
        "num_hidden_layers": get.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get.integer("attention.head_count_kv", heads),
        "head_dim": get.integer("attention.key_length", hidden // max(heads, 1)),
        "max_position_embeddings": get.integer("context_length"),
        "rms_norm_eps": get.number("attention.layer_norm_rms_epsilon", 1e-5),
        "rope_theta": get.number("rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "bos_token_id": header.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": eos if isinstance(eos, int) else None,
        "rope_scaling": _scaling(get),
    }
    experts = get.integer("expert_count", 0)
    if architecture == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
        if experts:
            config |= {"model_type": "mixtral", "num_local_experts": experts}
    if experts:
        config |= {
            "num_experts": experts,
            "num_experts_per_tok": get.integer("expert_used_count"),
            "moe_intermediate_size": get.integer("expert_feed_forward_length", config["intermediate_size"]),
            "shared_expert_intermediate_size": get.integer("expert_shared_feed_forward_length", 0),
            "norm_topk_prob": architecture == "qwen3moe",
        }
    if architecture.startswith("gemma"):
        config |= _gemma(get, architecture, config)
    return from_hf(config)


def _gemma(get: _Keys, architecture: str, config: dict[str, Any]) -> dict[str, Any]:
    """What the converter leaves out is fixed by size in llama.cpp: the 27B variants scale by hidden / heads."""
    big = config["num_hidden_layers"] == (46 if architecture == "gemma2" else 62)
    extra: dict[str, Any] = {
        "sliding_window": get.integer("attention.sliding_window", 4096),
        "query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"] if big else config["head_dim"],
    }
    if architecture == "gemma2":
        extra["attn_logit_softcapping"] = get.number("attn_logit_softcapping", 50.0)
        extra["final_logit_softcapping"] = get.number("final_logit_softcapping", 30.0)
    return extra


def _scaling(get: _Keys) -> dict[str, Any] | None:
    kind = get.header.text(f"{get.architecture}.rope.scaling.type")
    if kind in (None, "none"):
        return None
    if kind not in ("linear", "yarn"):
        raise UsageError(f"GGUF RoPE scaling {kind!r} is not implemented; implemented: linear, yarn")
    length = get.integer("rope.scaling.original_context_length", get.integer("context_length"))
    return {
        "rope_type": kind,
        "factor": get.number("rope.scaling.factor", 1.0),
        "original_max_position_embeddings": length,
    }


def with_rope_factors(config: ModelConfig, factors: Floats) -> ModelConfig:
    """`config` with the file's divisors per frequency (its llama3 rule, worked out by the converter)."""
    if factors.shape != (config.head_dim // 2,) or not (factors > 0).all():
        raise FormatError(f"GGUF: rope_freqs.weight must be {config.head_dim // 2} positive numbers")
    divisors = tuple(float(f) for f in factors)
    return replace(
        config, layers=tuple(replace(layer, rope=replace(layer.rope, factors=divisors)) for layer in config.layers)
    )


class _Keys:
    """Typed access to `<architecture>.<key>`."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self.header, self.architecture = header, architecture

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if type(value) is not int or not 0 <= value < 1 << 40:
            raise FormatError(f"GGUF: {self.architecture}.{key} must be a whole number, got {value!r:.40}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FormatError(f"GGUF: {self.architecture}.{key} must be a number, got {value!r:.40}")
        return float(value)

    def _value(self, key: str, default: float | None) -> object:
        value = self.header.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            return value[0]  # one entry per layer
        return value
