"""A small model as a GGUF file, as llama.cpp's converter and quantizer would write it.

Tensors under their GGUF names, q and k of the llama family in interleaved pairs, experts stacked, Gemma's norms with
the one added. Which type each tensor gets is given. The inverse of `engine.gguf_config` and `engine.gguf_weights`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.engine.config import ModelConfig
from planner.engine.gguf_config import ARCHITECTURES
from planner.engine.rope import halves_from_pairs
from planner.errors import UsageError
from planner.formats.quantize import quantize_gguf
from planner.formats.writing import GgufData, write_gguf

Array = npt.NDArray[np.float32]
TypeOf = Callable[[str, int | None], str]
BUFFERS = ("rope_freqs.weight",)
_ARCHITECTURE = {kind: arch for arch, kind in ARCHITECTURES.items()} | {"mistral": "llama", "mixtral": "llama"}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LEAVES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
_EXPERT = {
    "gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
    "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps",
}  # fmt: skip
_ROLES = {"ffn_gate_inp": "router", "ffn_gate_inp_shexp": "shared_gate"}


def write_gguf_of(
    config: ModelConfig, weights: Mapping[str, Array], types: TypeOf, path: Path, extra: Mapping[str, Any] | None = None
) -> Path:
    """The file at `path`; matrices get the type that `types` gives their role and layer, vectors F32.

    `extra` is further metadata (a tokenizer, a chat template). Raises UsageError for a family that the engine does not
    read from GGUF.
    """
    if config.family not in _ARCHITECTURE or config.mla:
        have = ", ".join(_ARCHITECTURE)
        raise UsageError(f"the validation engine reads no GGUF of {config.family}; it reads {have}")
    arch = _ARCHITECTURE[config.family]
    tensors: dict[str, GgufData] = {}
    for (stem, layer, kind), value in _renamed(config, arch, weights).items():
        chosen = types(_ROLES.get(stem, stem), layer) if value.ndim > 1 else "F32"
        name = f"{stem}.{kind}" if layer is None else f"blk.{layer}.{stem}.{kind}"
        tensors[name] = GgufData(chosen, value.shape, quantize_gguf(value, chosen))
    rope = config.layers[-1].rope
    if rope.kind == "llama3":
        factors = np.asarray(replace(rope, kind="default").frequencies() / rope.frequencies(), np.float32)
        tensors[BUFFERS[0]] = GgufData("F32", factors.shape, quantize_gguf(factors, "F32"))
    write_gguf(path, _metadata(config, arch) | dict(extra or {}), tensors)
    return path


def _renamed(config: ModelConfig, arch: str, weights: Mapping[str, Array]) -> dict[tuple[str, int | None, str], Array]:
    """(GGUF stem, layer, weight or bias) → values, experts stacked."""
    found: dict[tuple[str, int | None, str], Array] = {}
    experts: dict[tuple[str, int], list[Array]] = {}
    for name, given in weights.items():
        stem, _, kind = name.rpartition(".")
        value = given + np.float32(config.norm_offset) if stem.endswith("norm") and config.norm_offset else given
        if stem in _TOP:
            found[_TOP[stem], None, kind] = value
            continue
        _, _, number, leaf = stem.split(".", 3)
        layer = int(number)
        if match := re.fullmatch(r".+\.experts\.\d+\.(\w+)", leaf):
            experts.setdefault((_EXPERT[match[1]], layer), []).append(value)
            continue
        if arch == "llama" and leaf in ("self_attn.q_proj", "self_attn.k_proj"):
            value = _paired(value, config.head_dim)
        if leaf == "mlp.shared_expert_gate":
            value = value.reshape(-1)
        found[_norms(config).get(leaf) or _LEAVES[leaf], layer, kind] = value
    return found | {(stem, layer, "weight"): np.stack(values) for (stem, layer), values in experts.items()}


def _norms(config: ModelConfig) -> dict[str, str]:
    if not config.sandwich_norms:
        return {"post_attention_layernorm": "ffn_norm"}
    return {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }


def _paired(value: Array, dim: int) -> Array:
    """Rows of each head from halves to interleaved pairs."""
    heads = value.reshape(-1, dim, *value.shape[1:])
    paired = np.empty_like(heads)
    paired[:, halves_from_pairs(dim)] = heads
    return paired.reshape(value.shape)


def _metadata(config: ModelConfig, arch: str) -> dict[str, Any]:
    rope = config.layers[-1].rope
    values: dict[str, Any] = {
        "block_count": len(config.layers), "context_length": config.max_position,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads, "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim, "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps, "rope.freq_base": rope.theta,
        "rope.dimension_count": config.head_dim,
    }  # fmt: skip
    windows = {layer.window for layer in config.layers if layer.window}
    if windows and arch != "llama":
        values["attention.sliding_window"] = max(windows)
    moe = config.moe
    if moe is not None:
        values |= {"expert_count": moe.experts, "expert_used_count": moe.per_token}
        values["expert_feed_forward_length"] = moe.intermediate_size
        if moe.shared_intermediate_size:
            values["expert_shared_feed_forward_length"] = moe.shared_intermediate_size
    if rope.kind in ("linear", "yarn"):
        values |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.factor}
        values["rope.scaling.original_context_length"] = rope.original_max_position
    return {
        "general.architecture": arch, **{f"{arch}.{key}": value for key, value in values.items()},
        "tokenizer.ggml.model": "none", "tokenizer.ggml.bos_token_id": config.bos_token_id or 0,
        "tokenizer.ggml.eos_token_id": config.eos_token_ids[0],
    }  # fmt: skip
