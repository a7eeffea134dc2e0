"""A planned model scaled down until numpy runs it: the same architecture, a few small layers, weights from a seed.

Kept: layer kinds and their order, GQA ratio, MoE routing with shared experts, sliding windows in proportion to the
context, latent attention, biases and norms, tied or untied head. Not kept: widths, number of layers, quantization
(the engine computes in fp32), and what a ModelSpec does not hold (RoPE scaling). Runs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.engine.hf_config import FAMILIES, from_hf
from planner.engine.layout import expected_tensors
from planner.errors import UsageError
from planner.spec.model import Attention, DenseFfn, Ffn, LayerGroup, Mixer, Mla, ModelSpec, MoeFfn
from planner.units import round_up

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from planner.engine.config import ModelConfig
    from planner.spec.plan import Plan

HIDDEN, HEAD_DIM, VOCAB = 64, 16, 272
"""A byte tokenizer needs 258 entries; 272 divides by up to 16 ranks."""
CONTEXT_TOKENS = 512
KV_HEADS, MLA_HEADS, EXPERTS = 2, 4, 8
MAX_SEQUENCES = 16
LAYERS_PER_KIND = 2
MIN_WINDOW = 8
TEXT_PART = {"gemma3": "gemma3_text"}
"""Multimodal types whose text part the engine has under another name."""
_NAMES = {"gemma3_text": "Gemma3ForCausalLM"}


@dataclass(frozen=True, slots=True)
class Twin:
    """`spec` is what the ledger reads, `config` what the engine reads (a config.json); both of the same small model."""

    spec: ModelSpec
    config: dict[str, Any]
    max_num_seqs: int
    block_size: int
    tensor_parallel: int
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What it is, on one line."""
        spec = self.spec
        kinds = [f"{len(g.layers)} × {_kind(g)}" for g in spec.layers]
        notes = f"; {'; '.join(self.notes)}" if self.notes else ""
        return f"{spec.model_type}, hidden {spec.hidden_size}, {', '.join(kinds)}{notes}"

    @property
    def engine_config(self) -> ModelConfig:
        """The engine's own reading of `config`."""
        return from_hf(self.config)


def make_twin(plan: Plan) -> Twin:
    """The twin of `plan`'s model. Raises UsageError when the engine has no such architecture."""
    model, limits = plan.resolved.model, plan.best.limits
    notes = ["the text part alone"] if model.blocks and any(b.role in ("vision", "audio") for b in model.blocks) else []
    kind = TEXT_PART.get(model.model_type, model.model_type)
    if kind not in _FAMILIES or kind not in FAMILIES:
        have = ", ".join(name for name in FAMILIES if name in _FAMILIES)
        raise UsageError(f"the validation engine has no {model.model_type}; it has {have}")
    groups = _few_layers(model)
    scaled = tuple(_scaled(model, group, limits.max_model_len) for group in groups)
    spec = model.model_copy(
        update={
            "model_type": kind, "hidden_size": HIDDEN, "vocab_size": VOCAB, "context_length": CONTEXT_TOKENS,
            "layers": scaled, "blocks": (), "final_norm_parameters": _norms(model, model.final_norm_parameters),
            "embedding_dim": None, "parameters": None,
        }
    )  # fmt: skip
    config = _common(spec) | _FAMILIES[kind](spec)
    from_hf(config)
    tensor = 2 if plan.best.parallelism.tensor > 1 else 1
    sequences = min(limits.max_num_seqs, MAX_SEQUENCES)
    return Twin(spec, config, sequences, limits.block_size or 16, tensor, tuple(notes))


def seeded_weights(config: ModelConfig, seed: str) -> dict[str, npt.NDArray[np.float32]]:
    """Every tensor of `config`, float32, the same for the same `seed`: norms near one, matrices of about unit gain."""
    import numpy as np

    digest = hashlib.sha256(seed.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in expected_tensors(config).items():
        value = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            value = np.float32(1 - config.norm_offset) + np.float32(0.1) * value
        elif name.endswith(".bias"):
            value *= np.float32(0.1)
        elif name.endswith("embed_tokens.weight"):
            value /= np.float32(config.embedding_scale)
        else:
            value *= np.float32(1.2 / shape[-1] ** 0.5)
        weights[name] = np.ascontiguousarray(value, dtype=np.float32)
    return weights


# --- layers ---------------------------------------------------------------------------------------


def _few_layers(model: ModelSpec) -> list[LayerGroup]:
    """The first layers of every kind, renumbered in the order in which they stand in the model."""
    taken = sorted((i, g) for g, group in enumerate(model.layers) for i in sorted(group.layers)[:LAYERS_PER_KIND])
    if len(taken) > 4 * LAYERS_PER_KIND:
        raise UsageError(f"a twin of {model.id} would need {len(model.layers)} kinds of layers; 4 are supported")
    places: dict[int, list[int]] = {}
    for new, (_, group_number) in enumerate(taken):
        places.setdefault(group_number, []).append(new)
    return [model.layers[g].model_copy(update={"layers": tuple(at)}) for g, at in sorted(places.items())]


def _scaled(model: ModelSpec, group: LayerGroup, planned_context: int) -> LayerGroup:
    if len(group.mixers) != 1 or len(group.ffns) != 1 or group.extra_linears:
        raise UsageError(
            f"layers of {len(group.mixers)} mixers and {len(group.ffns)} feed-forwards are not implemented"
        )
    return group.model_copy(
        update={
            "mixers": (_mixer(model, group.mixers[0], planned_context),),
            "ffns": (_ffn(model, group.ffns[0]),),
            "norm_parameters": _norms(model, group.norm_parameters),
        }
    )


def _mixer(model: ModelSpec, mixer: Mixer, planned_context: int) -> Mixer:
    if isinstance(mixer, Attention):
        if mixer.heads % mixer.kv_heads:
            raise UsageError(f"{mixer.heads} heads over {mixer.kv_heads} KV heads are not implemented")
        kv_heads = min(mixer.kv_heads, KV_HEADS)
        window = mixer.window_tokens
        if window is not None:
            share = window / planned_context
            window = max(MIN_WINDOW, round(share * CONTEXT_TOKENS)) if share < 1 else CONTEXT_TOKENS
        return mixer.model_copy(
            update={
                "heads": kv_heads * (mixer.heads // mixer.kv_heads), "kv_heads": kv_heads, "head_dim": HEAD_DIM,
                "v_head_dim": None, "window_tokens": window,
            }
        )  # fmt: skip
    if isinstance(mixer, Mla):
        q_rank = None if mixer.q_lora_rank is None else _width(model, mixer.q_lora_rank)
        return mixer.model_copy(
            update={
                "heads": MLA_HEADS, "q_lora_rank": q_rank,
                "kv_lora_rank": _width(model, mixer.kv_lora_rank), "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
                "v_head_dim": 16,
            }
        )  # fmt: skip
    raise UsageError(f"{mixer.kind} layers are not implemented by the engine")


def _ffn(model: ModelSpec, ffn: Ffn) -> Ffn:
    if isinstance(ffn, DenseFfn):
        return ffn.model_copy(update={"intermediate": _width(model, ffn.intermediate)})
    experts = min(ffn.experts, EXPERTS)
    width = _width(model, ffn.intermediate)
    return ffn.model_copy(
        update={
            "experts": experts, "experts_per_token": max(1, min(ffn.experts_per_token, experts // 2)),
            "intermediate": width, "shared_intermediate": width * round(ffn.shared_intermediate / ffn.intermediate),
        }
    )  # fmt: skip


def _width(model: ModelSpec, width: int) -> int:
    """`width` in proportion to the hidden size, a multiple of 16."""
    return min(8 * HIDDEN, round_up(max(1, round(HIDDEN * width / model.hidden_size)), 16))


def _norms(model: ModelSpec, parameters: int) -> int:
    """Norm parameters of the twin; they are whole vectors of the hidden size."""
    vectors, rest = divmod(parameters, model.hidden_size)
    if rest:
        raise UsageError(f"norms of {parameters:,} parameters are no multiple of the hidden size {model.hidden_size:,}")
    return vectors * HIDDEN


def _kind(group: LayerGroup) -> str:
    mixer, ffn = group.mixers[0], group.ffns[0]
    if isinstance(mixer, Attention):
        window = f" window {mixer.window_tokens}" if mixer.window_tokens else ""
        told = f"attention {mixer.heads}:{mixer.kv_heads}{window}"
    else:
        told = mixer.kind.upper() if mixer.kind == "mla" else mixer.kind
    return told + (f" + {ffn.experts_per_token} of {ffn.experts} experts" if isinstance(ffn, MoeFfn) else "")


# --- config.json ----------------------------------------------------------------------------------


def _common(spec: ModelSpec) -> dict[str, Any]:
    mixer = spec.layers[0].mixers[0]
    dense = [f.intermediate for g in spec.layers for f in g.ffns if isinstance(f, DenseFfn)]
    routed = [f.intermediate for g in spec.layers for f in g.ffns if isinstance(f, MoeFfn)]
    config: dict[str, Any] = {
        "architectures": [_NAMES.get(spec.model_type, spec.architecture)], "model_type": spec.model_type,
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": (dense or routed)[0],
        "num_hidden_layers": spec.n_layers, "max_position_embeddings": CONTEXT_TOKENS, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": spec.tie_word_embeddings, "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    if isinstance(mixer, Attention):
        config |= {
            "num_attention_heads": mixer.heads, "num_key_value_heads": mixer.kv_heads, "head_dim": mixer.head_dim,
        }  # fmt: skip
    return config


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
        "num_experts": moe.experts, "num_experts_per_tok": moe.experts_per_token, "norm_topk_prob": True,
        "moe_intermediate_size": moe.intermediate, "shared_expert_intermediate_size": moe.shared_intermediate,
        "decoder_sparse_step": 1, "mlp_only_layers": _dense_layers(spec),
    }  # fmt: skip


def _gemma(spec: ModelSpec) -> dict[str, Any]:
    config = _windows(spec) | {"query_pre_attn_scalar": HEAD_DIM, "hidden_activation": "gelu_pytorch_tanh"}
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


_FAMILIES: dict[str, Callable[[ModelSpec], dict[str, Any]]] = {
    "llama": _llama, "mistral": _windows, "mixtral": _mixtral, "qwen2": _qwen, "qwen3": _qwen, "qwen2_moe": _qwen_moe,
    "qwen3_moe": _qwen_moe, "gemma2": _gemma, "gemma3_text": _gemma, "deepseek_v2": _deepseek_v2,
}  # fmt: skip
