"""A planned model scaled down until numpy runs it: the same architecture, a few small layers, weights from a seed.

Kept: layer kinds and their order, GQA ratio, MoE routing with shared experts, sliding windows and stretched RoPE
positions in proportion to the context, latent attention, biases and norms, tied or untied head. Not kept: widths and
number of layers. The quantization format is `twin_files`' business, config.json `twin_config`'s. Runs nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.engine.hf_config import FAMILIES, from_hf
from planner.engine.layout import expected_tensors
from planner.engine.rope import KINDS
from planner.errors import UsageError
from planner.spec.model import Attention, DenseFfn, Ffn, LayerGroup, Mixer, Mla, ModelSpec, MoeFfn, RopeScaling
from planner.units import round_up
from planner.validate.twin_config import CONFIGS, config_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from planner.engine.config import ModelConfig
    from planner.spec.plan import Plan
    from planner.spec.quantization import QuantizationFormat

HIDDEN, HEAD_DIM, VOCAB = 64, 16, 272
"""A byte tokenizer needs 258 entries; 272 divides by up to 16 ranks."""
CONTEXT_TOKENS = 512
KV_HEADS, MLA_HEADS, EXPERTS = 2, 4, 8
MAX_SEQUENCES = 16
STEP_TOKENS = (128, 256, 1024)
"""Tokens of one step: at least, where the plan does not say, and at most."""
LAYERS_PER_KIND = 2
MIN_WINDOW = 8
TEXT_PART = {"gemma3": "gemma3_text"}
"""Multimodal types whose text part the engine has under another name."""
MAX_LAYERS = 4 * LAYERS_PER_KIND


@dataclass(frozen=True, slots=True)
class Scale:
    """How small: the hidden size, what every width is a multiple of, and whether the layers must be the first ones."""

    hidden: int = HIDDEN
    multiple: int = 16
    first_layers: bool = False

    @classmethod
    def of(cls, form: QuantizationFormat | None) -> Scale:
        """What `form` can hold: K types of GGUF come in blocks of 256, and its files fix the order of layers."""
        if form is not None and form.kind == "gguf":
            return cls(256, 256, first_layers=True)
        return cls(multiple=32 if form is not None and form.kind == "mxfp4" else 16)


@dataclass(frozen=True, slots=True)
class Twin:
    """`spec` is what the ledger reads, `config` what the engine reads (a config.json); both of the same small model."""

    spec: ModelSpec
    config: dict[str, Any]
    max_num_seqs: int
    block_size: int
    tensor_parallel: int
    notes: tuple[str, ...] = ()
    step_tokens: int = STEP_TOKENS[1]

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


def make_twin(plan: Plan, form: QuantizationFormat | None = None) -> Twin:
    """The twin of `plan`'s model, of a size that `form` can hold.

    Raises UsageError when the engine has no such architecture.
    """
    model, limits = plan.resolved.model, plan.best.limits
    notes = ["the text part alone"] if model.blocks and any(b.role in ("vision", "audio") for b in model.blocks) else []
    kind = TEXT_PART.get(model.model_type, model.model_type)
    if kind not in CONFIGS or kind not in FAMILIES:
        have = ", ".join(name for name in FAMILIES if name in CONFIGS)
        raise UsageError(f"the validation engine has no {model.model_type}; it has {have}")
    scale = Scale.of(form)
    groups = _few_layers(model, scale)
    scaled = tuple(_scaled(model, group, limits.max_model_len, scale) for group in groups)
    spec = model.model_copy(
        update={
            "model_type": kind, "hidden_size": scale.hidden, "vocab_size": VOCAB, "context_length": CONTEXT_TOKENS,
            "layers": scaled, "blocks": (), "rotary": (), "rope_scaling": _rope(model),
            "final_norm_parameters": _norms(model, model.final_norm_parameters, scale), "embedding_dim": None,
            "parameters": None, "quantization": "bf16" if model.dtype == "fp32" else model.dtype,
            "quantization_group_size": None, "unquantized": (), "fp8_roles": (), "also_quantized": (),
        }
    )  # fmt: skip
    if spec.rope_scaling is not None:
        notes.append(f"{spec.rope_scaling.kind} RoPE, factor {spec.rope_scaling.factor:g}")
    config = config_of(spec)
    from_hf(config)
    tensor = 2 if plan.best.parallelism.tensor > 1 else 1
    sequences = min(limits.max_num_seqs, MAX_SEQUENCES)
    return Twin(spec, config, sequences, limits.block_size or 16, tensor, tuple(notes), _step_tokens(plan))


def _step_tokens(plan: Plan) -> int:
    """The plan's tokens of a step in proportion to the context, as the twin's context is to the plan's."""
    least, usual, most = STEP_TOKENS
    limits = plan.best.limits
    if limits.max_num_batched_tokens is None:
        return usual
    return min(most, max(least, round(limits.max_num_batched_tokens / limits.max_model_len * CONTEXT_TOKENS)))


def _rope(model: ModelSpec) -> RopeScaling | None:
    """The same rule; the length of the training keeps its share of the context."""
    rope = model.rope_scaling
    if rope is None:
        return None
    if rope.kind not in KINDS:
        raise UsageError(f"the validation engine has no {rope.kind} RoPE; it has {', '.join(KINDS)}")
    original = rope.original_context_length
    if original is not None:
        original = max(MIN_WINDOW, round(original / model.context_length * CONTEXT_TOKENS))
    return rope.model_copy(update={"original_context_length": original})


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


def _few_layers(model: ModelSpec, scale: Scale) -> list[LayerGroup]:
    """The first layers of every kind, renumbered in the order in which they stand in the model."""
    taken = sorted((i, g) for g, group in enumerate(model.layers) for i in sorted(group.layers)[:LAYERS_PER_KIND])
    if len(taken) > MAX_LAYERS:
        raise UsageError(f"a twin of {model.id} would need {len(model.layers)} kinds of layers; 4 are supported")
    n_first = max(LAYERS_PER_KIND, 1 + max(min(group.layers) for group in model.layers))
    if scale.first_layers and n_first <= MAX_LAYERS:
        taken = sorted((i, g) for g, group in enumerate(model.layers) for i in group.layers if i < n_first)
    places: dict[int, list[int]] = {}
    for new, (_, group_number) in enumerate(taken):
        places.setdefault(group_number, []).append(new)
    return [model.layers[g].model_copy(update={"layers": tuple(at)}) for g, at in sorted(places.items())]


def _scaled(model: ModelSpec, group: LayerGroup, planned_context: int, scale: Scale) -> LayerGroup:
    if len(group.mixers) != 1 or len(group.ffns) != 1 or group.extra_linears:
        raise UsageError(
            f"layers of {len(group.mixers)} mixers and {len(group.ffns)} feed-forwards are not implemented"
        )
    return group.model_copy(
        update={
            "mixers": (_mixer(model, group.mixers[0], planned_context, scale),),
            "ffns": (_ffn(model, group.ffns[0], scale),),
            "norm_parameters": _norms(model, group.norm_parameters, scale),
        }
    )


def _mixer(model: ModelSpec, mixer: Mixer, planned_context: int, scale: Scale) -> Mixer:
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
    if isinstance(mixer, Mla) and not mixer.output_groups:
        q_rank = None if mixer.q_lora_rank is None else _width(model, mixer.q_lora_rank, scale)
        return mixer.model_copy(
            update={
                "heads": MLA_HEADS, "q_lora_rank": q_rank,
                "kv_lora_rank": _width(model, mixer.kv_lora_rank, scale), "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
                "v_head_dim": 16,
            }
        )  # fmt: skip
    raise UsageError(f"{mixer.kind} layers are not implemented by the engine")


def _ffn(model: ModelSpec, ffn: Ffn, scale: Scale) -> Ffn:
    if isinstance(ffn, DenseFfn):
        return ffn.model_copy(update={"intermediate": _width(model, ffn.intermediate, scale)})
    experts = min(ffn.experts, EXPERTS)
    width = _width(model, ffn.intermediate, scale)
    return ffn.model_copy(
        update={
            "experts": experts, "experts_per_token": max(1, min(ffn.experts_per_token, experts // 2)),
            "intermediate": width, "shared_intermediate": width * round(ffn.shared_intermediate / ffn.intermediate),
        }
    )  # fmt: skip


def _width(model: ModelSpec, width: int, scale: Scale) -> int:
    """`width` in proportion to the hidden size, a multiple of the scale's."""
    wanted = max(1, round(scale.hidden * width / model.hidden_size))
    return min(8 * HIDDEN, round_up(wanted, scale.multiple))


def _norms(model: ModelSpec, parameters: int, scale: Scale) -> int:
    """Norm parameters of the twin; they are whole vectors of the hidden size."""
    vectors, rest = divmod(parameters, model.hidden_size)
    if rest:
        raise UsageError(f"norms of {parameters:,} parameters are no multiple of the hidden size {model.hidden_size:,}")
    return vectors * scale.hidden


def _kind(group: LayerGroup) -> str:
    mixer, ffn = group.mixers[0], group.ffns[0]
    if isinstance(mixer, Attention):
        window = f" window {mixer.window_tokens}" if mixer.window_tokens else ""
        told = f"attention {mixer.heads}:{mixer.kv_heads}{window}"
    else:
        told = mixer.kind.upper() if mixer.kind == "mla" else mixer.kind
    return told + (f" + {ffn.experts_per_token} of {ffn.experts} experts" if isinstance(ffn, MoeFfn) else "")
