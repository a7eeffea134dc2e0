"""A Hugging Face config.json into a `ModelSpec`, by its model_type.

The readers are one file per group of architectures in `planner.sources.hf`. A model_type that no
reader knows is an error that names it: there is no default branch. Knows nothing of where a config
came from.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.errors import FormatError, UnknownNameError
from planner.sources.hf import (
    classic,
    deepseek,
    dense,
    gemma,
    hybrid,
    moe,
    quantization,
    recent,
    rotary,
    shared_moe,
    special,
    vision,
)
from planner.sources.hf.common import Config, Decoder, Reader, group_layers
from planner.spec.base import Provenance
from planner.spec.model import ModelSpec, RopeScaling

READERS: dict[str, Reader] = {
    **dense.READERS,
    **classic.READERS,
    **moe.READERS,
    **shared_moe.READERS,
    **gemma.READERS,
    **deepseek.READERS,
    **hybrid.READERS,
    **vision.READERS,
    **special.READERS,
    **recent.READERS,
}
"""model_type → reader."""

_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def known_architectures() -> tuple[str, ...]:
    """Every model_type that can be read, sorted."""
    return tuple(sorted(READERS))


def parse_config(config: Mapping[str, object], *, id: str, provenance: Provenance, **overrides: object) -> ModelSpec:
    """The model that `config` (a parsed config.json) describes.

    `id` is the Hub id or name of the checkpoint, `provenance` where the config came from;
    `overrides` set fields of the result. Raises UnknownNameError (kind "architecture") for a
    model_type without a reader, FormatError for a config with a missing or impossible value.
    """
    c = Config(config)
    model_type = c.text("model_type")
    reader = READERS.get(model_type)
    if reader is None:
        if not model_type:
            raise FormatError(f"config of {id} lacks model_type")
        raise UnknownNameError("architecture", model_type, READERS, hint=f"cannot compute {id}")
    return to_model(c, reader(c), id=id, provenance=provenance, **overrides)


def to_model(c: Config, decoder: Decoder, *, id: str, provenance: Provenance, **overrides: object) -> ModelSpec:
    """The model of a decoder that somebody read from `c`: its quantization, dtype and names with it."""
    model_type = c.text("model_type")
    quantized = quantization.read(c, decoder)
    architectures = c.sequence("architectures") or ()
    dtype = _dtype(c)
    fields: dict[str, object] = {
        "id": id,
        "family": model_type,
        "architecture": str(architectures[0]) if architectures else model_type,
        "model_type": model_type,
        "hidden_size": decoder.hidden_size,
        "vocab_size": decoder.vocab_size,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        "context_length": decoder.context_length,
        "layers": group_layers(decoder.layers),
        "blocks": decoder.blocks,
        "rotary": decoder.rotary or rotary.tables(c, decoder),
        "rope_scaling": _rope_scaling(c),
        "final_norm_parameters": decoder.final_norm_parameters,
        "embedding_dim": decoder.embedding_dim,
        "lm_head_bias": decoder.lm_head_bias,
        "dtype": dtype,
        "quantization": quantized.format if quantized else dtype,
        "quantization_group_size": quantized.group_size if quantized else None,
        "unquantized": quantized.unquantized if quantized else (),
        "fp8_roles": quantized.fp8_roles if quantized else (),
        "also_quantized": quantized.also_quantized if quantized else (),
        "modality": decoder.modality,
        "assumptions": decoder.assumptions,
        "provenance": provenance,
    }
    return ModelSpec.model_validate({**fields, **overrides})


_STRETCH_KEYS = (
    "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
    "attention_factor",
)  # fmt: skip


def _rope_scaling(c: Config) -> RopeScaling | None:
    """`rope_scaling` or `rope_parameters`, of the text part; None for positions as trained."""
    for table in (c, c.sub("text_config")):
        for name in ("rope_parameters", "rope_scaling"):
            given = table.data.get(name)
            if isinstance(given, Mapping) and isinstance(given.get("full_attention"), Mapping):
                given = given["full_attention"]
            kind = (given.get("rope_type") or given.get("type")) if isinstance(given, Mapping) else None
            if isinstance(given, Mapping) and isinstance(kind, str) and kind != "default":
                numbers = {key: given[key] for key in _STRETCH_KEYS if type(given.get(key)) in (int, float)}
                original = given.get("original_max_position_embeddings")
                length = original if type(original) is int and 0 < original < 1 << 48 else None
                return RopeScaling.model_validate({"kind": kind, "original_context_length": length, **numbers})
    return None


def _dtype(c: Config) -> str:
    """Stored dtype; a checkpoint in fp32 is served in bf16 by every engine's default."""
    text = c.sub("text_config")
    name = c.text("dtype") or c.text("torch_dtype") or text.text("dtype") or text.text("torch_dtype") or "bfloat16"
    short = _DTYPES.get(name)
    if short is None:
        raise FormatError(f"config key dtype is {name!r}; known: {', '.join(_DTYPES)}")
    return short
