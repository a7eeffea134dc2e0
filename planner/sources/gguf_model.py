"""A GGUF file's metadata and tensor table into a ModelSpec.

Metadata becomes the config keys of the same architecture in transformers, so that one reader serves both;
an architecture without such a reader is derived from the tensors. Key names: gguf-py/gguf/constants.py of
ggml-org/llama.cpp. Knows no file; bytes are the tensor table's, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.sources.derived import derive
from planner.sources.hf.common import Config, MissingKeyError, check_count
from planner.sources.hf_config import READERS, parse_config, to_model
from planner.sources.stored import TensorFact, stored_bytes
from planner.spec.base import Provenance
from planner.spec.model import Checkpoint, ModelSpec

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

KEPT_ARRAY: Final = 4096
"""Longer arrays (vocabularies, merges) are kept as their length."""
_TOKENS: Final = "tokenizer.ggml.tokens"
MODEL_TYPES: Final = {
    "llama": "llama", "mistral3": "mistral", "qwen2": "qwen2", "qwen2moe": "qwen2_moe", "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "phi2": "phi",
    "phi3": "phi3", "deepseek2": "deepseek_v2", "gpt-oss": "gpt_oss", "glm4": "glm4", "glm4moe": "glm4_moe",
    "command-r": "cohere", "cohere2": "cohere2", "olmo2": "olmo2", "olmoe": "olmoe", "granite": "granite",
    "starcoder2": "starcoder2", "falcon": "falcon", "smollm3": "smollm3", "nemotron": "nemotron", "minicpm": "minicpm",
}  # fmt: skip
"""general.architecture → model_type of transformers."""
_HF_LEAVES: Final = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "attn_sinks": "self_attn.sinks", "attn_q_a": "self_attn.q_a_proj",
    "attn_q_b": "self_attn.q_b_proj", "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_b": "self_attn.kv_b_proj", "attn_k_b": "self_attn.kv_k_b", "attn_v_b": "self_attn.kv_v_b",
    "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_exps": "mlp.experts.gate_proj", "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj", "ffn_gate_inp": "mlp.router",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}  # fmt: skip


def compact(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata` with long arrays as their length (`{"length": n}`), the vocabulary's with its stop words beside."""
    short: dict[str, Any] = {
        key: {"length": len(value)} if isinstance(value, list) and len(value) > KEPT_ARRAY else value
        for key, value in metadata.items()
    }
    if isinstance(short.get(_TOKENS), dict):
        short[_TOKENS]["stop"] = list(stop_words(metadata))
    return short


def stop_words(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that end a turn of a file with a chat template: its end-of-text, -turn and -message tokens."""
    tokens = metadata.get(_TOKENS)
    if not isinstance(metadata.get("tokenizer.chat_template"), str):
        return ()
    if isinstance(tokens, dict):
        kept = tokens.get("stop")
        return tuple(word for word in kept if isinstance(word, str)) if isinstance(kept, list) else ()
    if not isinstance(tokens, list):
        return ()
    numbers = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    words = [tokens[n] for n in numbers if type(n) is int and 0 <= n < len(tokens)]
    return tuple(dict.fromkeys(w for w in words if isinstance(w, str) and w.strip() and w.isprintable()))


def model_of_gguf(
    catalog: Catalog,
    metadata: Mapping[str, Any],
    facts: Sequence[TensorFact],
    *,
    id: str,
    checkpoint: Mapping[str, Any],
    provenance: Provenance,
    size_bytes: int,
) -> ModelSpec:
    """The model of one GGUF (all its parts). `checkpoint` has repo, file, ollama_tag, revision or gated.

    Raises FormatError for metadata that cannot be true, UsageError for a file that is no language model.
    """
    arch = metadata.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise FormatError(f"{id[:80]}: GGUF metadata lacks general.architecture")
    if arch in ("clip", "mmproj"):
        raise UsageError(f"{id[:80]!a} is a vision projector (mmproj); give the language model's file")
    if not facts:
        raise FormatError(f"{id[:80]}: the GGUF file holds no tensors (a vocabulary?)")
    config = config_of(metadata, facts, arch)
    said: list[str] = []
    c = Config(config)
    model: ModelSpec | None = None
    if config["model_type"] in READERS:
        try:
            model = parse_config(config, id=id, provenance=provenance)
        except MissingKeyError as error:
            said.append(f"the metadata is short of a key ({error}): the layers are read from the tensors instead")
    if model is None:
        model = to_model(c, derive(c, _hf_names(facts), arch), id=id, provenance=provenance)
    quantization = _quantization(catalog, metadata, facts, said)
    prefix = "blk."
    blocks = {
        int(f.name.split(".")[1]) for f in facts if f.name.startswith(prefix) and f.name.split(".")[1].isdecimal()
    }
    missing = sorted(set(range(model.n_layers)) - blocks)
    if missing:
        raise FormatError(f"{id[:80]}: no tensors of layer {missing[0]} of {model.n_layers} (a part is missing?)")
    stored = stored_bytes(facts, model.n_layers)
    name = metadata.get("general.name")
    return model.model_copy(
        update={
            "quantization": quantization,
            "dtype": "fp16" if quantization == "gguf:F16" else model.dtype,
            "license": metadata.get("general.license") if isinstance(metadata.get("general.license"), str) else None,
            "parameters": stored.elements,
            "parameters_note": f"the file calls itself {name[:80]}" if isinstance(name, str) else "",
            "revision": checkpoint.get("revision"),
            "gated": checkpoint.get("gated"),
            "chat_stop": stop_words(metadata),
            "checkpoints": (
                Checkpoint(
                    quantization=quantization, size_bytes=size_bytes, stored=stored, provenance=provenance, **checkpoint
                ),
            ),
            "assumptions": (*model.assumptions, *said),
        }
    )


def config_of(metadata: Mapping[str, Any], facts: Sequence[TensorFact], arch: str) -> dict[str, Any]:
    """The config.json keys that `metadata` and the tensor table amount to."""
    shapes = {fact.name: fact.shape for fact in facts}

    def key(name: str) -> Any:
        return metadata.get(f"{arch}.{name}")

    embedding = shapes.get("token_embd.weight")
    if embedding is None or len(embedding) != 2:
        raise FormatError(f"GGUF of architecture {arch[:40]}: no token_embd.weight")
    heads, kv = key("attention.head_count"), key("attention.head_count_kv")
    for counted in ("block_count", "nextn_predict_layers", "expert_count"):
        value = key(counted)
        if isinstance(value, int | float):
            check_count(f"{arch[:40]}.{counted}", value)
    config: dict[str, Any] = {
        "model_type": MODEL_TYPES.get(arch, arch),
        "hidden_size": key("embedding_length"),
        "num_hidden_layers": _less(key("block_count"), key("nextn_predict_layers")),
        "num_attention_heads": _one(heads),
        "num_key_value_heads": _one(kv),
        "head_dim": key("attention.key_length"),
        "intermediate_size": _one(key("feed_forward_length")),
        "max_position_embeddings": key("context_length"),
        "vocab_size": embedding[0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "sliding_window": key("attention.sliding_window"),
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "num_experts": key("expert_count"),
        "num_experts_per_tok": key("expert_used_count"),
        "moe_intermediate_size": key("expert_feed_forward_length"),
        "shared_expert_intermediate_size": key("expert_shared_feed_forward_length"),
        "n_shared_experts": key("expert_shared_count"),
        "first_k_dense_replace": key("leading_dense_block_count"),
        "dtype": "float16" if any(fact.dtype == "F16" for fact in facts) else "bfloat16",
    }
    if arch == "llama" and key("expert_count"):
        config["model_type"] = "mixtral"
    if arch == "deepseek2":
        rope = key("rope.dimension_count")
        config |= {
            "model_type": "deepseek_v3" if any("exp_probs_b" in name for name in shapes) else "deepseek_v2",
            "q_lora_rank": key("attention.q_lora_rank"),
            "kv_lora_rank": key("attention.kv_lora_rank"),
            "qk_rope_head_dim": rope,
            "qk_nope_head_dim": _less(key("attention.key_length_mla") or key("attention.key_length"), rope),
            "v_head_dim": key("attention.value_length_mla") or key("attention.value_length"),
        }
    if arch == "glm4moe":
        config["use_qk_norm"] = "blk.0.attn_q_norm.weight" in shapes
    if _varies(heads) or _varies(kv):
        config["model_type"] = f"{arch} with unlike layers"
    return {name: value for name, value in config.items() if value is not None}


def _varies(value: Any) -> bool:
    return isinstance(value, list) and len(set(value) - {0}) > 1


def _one(value: Any) -> Any:
    """A per-layer array as its largest entry (zeros are layers without the part)."""
    if isinstance(value, list):
        numbers = [n for n in value if isinstance(n, int)]
        return max(numbers, default=None)
    return value


def _less(value: Any, minus: Any) -> Any:
    return value - minus if isinstance(value, int) and isinstance(minus, int) else value


def _hf_names(facts: Sequence[TensorFact]) -> tuple[TensorFact, ...]:
    """Facts with a layer's tensors named as transformers would, so that one derivation reads both."""
    renamed = []
    for fact in facts:
        parts = fact.name.split(".")
        if parts[0] == "blk" and len(parts) >= 4 and parts[2] in _HF_LEAVES:
            fact = fact._replace(name=f"blk.{parts[1]}.{_HF_LEAVES[parts[2]]}.{parts[-1]}")  # noqa: PLW2901
        renamed.append(fact)
    return tuple(renamed)


def _quantization(catalog: Catalog, metadata: Mapping[str, Any], facts: Sequence[TensorFact], said: list[str]) -> str:
    """The file type's format: by its number, else by the type that holds most bytes."""
    mixes = {row["number"]: row["file_type"] for row in catalog.document("quantization")["mixes"]}
    formats = {f.gguf_file_type: f.id for f in catalog.formats() if f.gguf_file_type}
    number = metadata.get("general.file_type")
    # 1024 is the flag "guessed from the tensors" of llama.cpp's llama_ftype
    file_type = mixes.get(number % 1024) if isinstance(number, int) else None
    if file_type in formats:
        return formats[file_type]
    sizes: dict[str, int] = {}
    for fact in facts:
        sizes[fact.dtype] = sizes.get(fact.dtype, 0) + fact.n_bytes
    dominant = max(sizes, key=lambda dtype: (sizes[dtype], dtype))
    for candidate in (dominant, f"{dominant}_M", f"{dominant}_S", f"{dominant}_MOE"):
        if candidate in formats:
            why = "names no file type" if number is None else f"has file type {number}"
            said.append(f"the file {why}; read as {formats[candidate]} because most bytes are {dominant}")
            return formats[candidate]
    raise UnknownNameError("GGUF type", dominant, [f for f in formats if f])
