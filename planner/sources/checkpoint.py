"""One safetensors checkpoint, local or remote: its config and headers into a ModelSpec that fits the bytes.

Known architectures go through their reader and are then reconciled with what the files hold; unknown ones are
derived from the headers. MLX's own quantization and LoRA adapters are read here. Knows no disk and no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.sources.derived import derive
from planner.sources.hf.common import Config, MissingKeyError
from planner.sources.hf_config import READERS, parse_config, to_model
from planner.sources.stored import BUFFER, HEAD, TensorFact, decoder_prefix, logical, place, stored_bytes
from planner.spec.base import Provenance
from planner.spec.model import Block, Checkpoint, ModelSpec

MAX_CONFIG_BYTES: Final = 4 << 20
MAX_RANK: Final = 512
SIDE_CONFIGS: Final = {
    "hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq",
}  # fmt: skip
_FLOATS: Final = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
_HEADS_OF_TASKS: Final = ("score.", "classifier.", "v_head.", "value_head.", "reward_head.", "regression_head.")


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object of bounded size. Raises FormatError naming `what`."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise FormatError(f"{what} is larger than {MAX_CONFIG_BYTES >> 20} MiB, which no model configuration is")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise FormatError(f"{what} is not valid JSON") from None
    if not isinstance(data, dict):
        raise FormatError(f"{what} is not a JSON object")
    return data


def with_side_config(config: dict[str, Any], read: Callable[[str], dict[str, Any] | None]) -> dict[str, Any]:
    """`config` with the quantization that older tools wrote beside it; `read` gives such a file, None without it.

    ModelOpt: hf_quant_config.json; AutoGPTQ: quantize_config.json; AutoAWQ: quant_config.json.
    """
    text = config.get("text_config")
    if config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config")):
        return config
    for name, method in SIDE_CONFIGS.items():
        given = read(name)
        if given is None:
            continue
        table = given.get("quantization") if method == "modelopt" else given
        if not isinstance(table, dict):
            raise FormatError(f"{name} has no quantization table")
        bits = {"bits": given["w_bit"]} if "w_bit" in given else {}
        return {**config, "quantization_config": {**table, **bits, "quant_method": method}}
    return config


def model_of(
    config: Mapping[str, Any],
    facts: Sequence[TensorFact],
    *,
    id: str,
    repo: str,
    provenance: Provenance,
    size_bytes: int | None,
    revision: str | None = None,
    gated: bool | None = None,
    license: str | None = None,
) -> ModelSpec:
    """The model of `config` with its weights exactly as `facts` list them; without facts, as the config says.

    `repo` is what an engine is told to load. Raises FormatError when headers and config cannot both be true,
    UnknownNameError for a quantization nobody knows.
    """
    shown, mlx = _without_mlx(config)
    c = Config(shown)
    said: list[str] = []
    if not facts:
        model = parse_config(shown, id=id, provenance=provenance)
        said.append("no safetensors header was read: weights are computed from config.json")
    else:
        own = logical(facts, _bits(c, mlx))
        model = _known(c, own, said, id=id, provenance=provenance) or _derived(c, own, id=id, provenance=provenance)
    if mlx:
        model = _mlx(model, mlx, facts)
    elif facts:
        model = _with_dtype(model, facts, said)
    stored = stored_bytes(facts, model.n_layers) if facts else None
    checkpoint = Checkpoint(
        quantization=model.quantization,
        repo=repo,
        revision=revision,
        size_bytes=size_bytes,
        gated=gated,
        group_size=model.quantization_group_size,
        stored=stored,
        provenance=provenance,
    )
    plain = model.quantization in ("bf16", "fp16", "fp32")
    return model.model_copy(
        update={
            "checkpoints": (checkpoint,),
            "revision": revision,
            "gated": gated,
            "license": license,
            "parameters": stored.elements if stored is not None and plain else None,
            "assumptions": (*model.assumptions, *said),
        }
    )


def _known(
    c: Config, facts: Sequence[TensorFact], said: list[str], *, id: str, provenance: Provenance
) -> ModelSpec | None:
    """By its architecture's reader; None for one that has none, or whose config lacks a key that the reader needs."""
    if c.text("model_type") not in READERS:
        return None
    try:
        return _reconciled(parse_config(c.data, id=id, provenance=provenance), facts, said)
    except MissingKeyError as error:
        said.append(f"{error}: the layers are read from the headers instead")
        return None


def _derived(c: Config, facts: Sequence[TensorFact], *, id: str, provenance: Provenance) -> ModelSpec:
    architecture = c.text("model_type") or "a config without model_type"
    return to_model(c, derive(c, facts, architecture), id=id, provenance=provenance)


def _without_mlx(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config without MLX's table (which converters also write as quantization_config), and that table."""
    mlx = config.get("quantization")
    if not isinstance(mlx, dict) or "bits" not in mlx or "group_size" not in mlx:
        return dict(config), {}
    return {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}, mlx


def _bits(c: Config, mlx: Mapping[str, Any]) -> int:
    """Bits of a packed value."""
    bits = mlx.get("bits")
    if bits is None:
        q = c.sub("quantization_config")
        groups = q.sub("config_groups")
        bits = q.opt_int("bits") or next(
            (groups.sub(name).sub("weights").opt_int("num_bits") for name in groups.data), None
        )
    bits = 4 if bits is None else bits
    if bits not in (2, 3, 4, 5, 6, 8):
        raise UnknownNameError("quantization", f"{bits} bits", ("4 bits", "8 bits"))
    return int(bits)


def _mlx(model: ModelSpec, table: Mapping[str, Any], facts: Sequence[TensorFact]) -> ModelSpec:
    """MLX packs every linear and mostly the embedding too: groups of inputs with a scale and a bias."""
    group = table["group_size"]
    if not isinstance(group, int) or isinstance(group, bool) or not 1 <= group <= 4096:
        raise FormatError(f"config key quantization.group_size is {group!r:.40}, not a group size")
    prefix = decoder_prefix(facts)
    also = set()
    for fact in facts:
        if fact.name.endswith(".scales"):
            where = place(fact.name, prefix)
            if where.kind == "embedding":
                also.add("token_embd")
            elif where.kind == "output":
                also.add("output")
            elif where.rest.endswith(("mlp.gate.scales", "block_sparse_moe.gate.scales", "router.scales")):
                also.add("router")
    mixed = sorted({v["bits"] for v in table.values() if isinstance(v, dict) and isinstance(v.get("bits"), int)})
    said = (f"MLX quantizes some layers to {', '.join(map(str, mixed))} bits",) if mixed else ()
    return model.model_copy(
        update={
            "quantization": "mxfp4" if table.get("mode") == "mxfp4" else f"mlx-int{table['bits']}",
            "quantization_group_size": group,
            "also_quantized": tuple(sorted(also)),
            "assumptions": (*model.assumptions, *said),
        }
    )


def _with_dtype(model: ModelSpec, facts: Sequence[TensorFact], said: list[str]) -> ModelSpec:
    """Unquantized weights have the dtype that most bytes have, whatever the config says."""
    if model.quantization not in _FLOATS.values():
        return model
    sizes: dict[str, int] = {}
    for fact in facts:
        sizes[fact.dtype] = sizes.get(fact.dtype, 0) + fact.n_bytes
    dominant = max(sizes, key=lambda dtype: (sizes[dtype], dtype))
    dtype = _FLOATS.get(dominant)
    if dtype is None:
        raise FormatError(f"the weights are mostly {dominant}, and config.json names no quantization")
    if dtype == model.dtype:
        return model
    said.append(f"config.json says {model.dtype}, the files hold {dtype}: the latter used")
    return model.model_copy(update={"dtype": dtype, "quantization": dtype})


def _reconciled(model: ModelSpec, facts: Sequence[TensorFact], said: list[str]) -> ModelSpec:
    """`model` with vocabulary, head and extra tensors as the files have them."""
    prefix = decoder_prefix(facts)
    if prefix is None:
        raise FormatError("the safetensors headers hold no decoder layers")
    layers: set[int] = set()
    extra = buffers = 0
    embedding: tuple[int, ...] | None = None
    head: TensorFact | None = None
    for fact in facts:
        where = place(fact.name, prefix)
        if where.layer is not None:
            layers.add(where.layer)
            buffers += fact.elements if BUFFER.search(fact.name) else 0
        elif where.kind == "embedding" and len(fact.shape) == 2 and "per_layer" not in fact.name:
            embedding = embedding or fact.shape
        elif where.kind == "output" and HEAD.search(fact.name):
            head = fact
        elif BUFFER.search(fact.name):
            buffers += fact.elements
        elif fact.name.startswith(_HEADS_OF_TASKS):
            extra += fact.elements
    missing = sorted(set(range(model.n_layers)) - layers)
    if missing:
        raise FormatError(
            f"the headers hold no tensors of layer {missing[0]} of {model.n_layers} (incomplete download?)"
        )
    changes: dict[str, object] = {}
    blocks: list[Block] = []
    if embedding is not None and embedding[0] != model.vocab_size:
        said.append(
            f"config.json says {model.vocab_size:,} tokens, the embedding holds {embedding[0]:,}: the latter used"
        )
        changes["vocab_size"] = embedding[0]
    if head is None and not model.tie_word_embeddings:
        changes["tie_word_embeddings"] = True
        said.append("no head is stored: the embedding serves as one")
    elif head is not None and model.tie_word_embeddings:
        blocks.append(Block(role="buffer", parameters=head.elements))
        said.append("the head is stored although it is tied to the embedding; engines load one of them")
    if buffers and not any(block.role == "buffer" for block in model.blocks):
        blocks.append(Block(role="buffer", parameters=buffers))
    if extra:
        blocks.append(Block(role="other", parameters=extra))
        said.append(f"a task head of {extra:,} parameters is stored beside the language model")
    return model.model_copy(update={**changes, "blocks": (*model.blocks, *blocks)})


def adapter_base(config: Mapping[str, Any]) -> str:
    """The base model that a LoRA adapter's adapter_config.json names. Raises FormatError without one."""
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip() or len(base) > 200:
        raise FormatError("adapter_config.json names no base model (base_model_name_or_path)")
    return base


def adapted(config: Mapping[str, Any], name: str, resolve: Callable[[str], ModelSpec]) -> ModelSpec:
    """The base model of the adapter `name`. Raises UsageError that names both when nobody has it."""
    base = adapter_base(config)
    try:
        return resolve(base)
    except UsageError as error:
        raise UsageError(f"{name} is an adapter of {base!a}, which is not found: {error}") from None


def with_adapter(base: ModelSpec, config: Mapping[str, Any], facts: Sequence[TensorFact], name: str) -> ModelSpec:
    """`base`, which knows the adapter, and a note on it: its kind, rank and exact bytes."""
    rank = config.get("r")
    size = sum(fact.n_bytes for fact in facts)
    note = (
        f"{name} is a {str(config.get('peft_type', 'LORA'))[:20]} adapter of {base.id}"
        f"{f', rank {rank}' if isinstance(rank, int) else ''}, {size:,} bytes; the base model is planned"
    )
    return base.model_copy(
        update={
            "assumptions": (*base.assumptions, note),
            "adapter": name,
            "adapter_rank": rank if isinstance(rank, int) and 0 < rank <= MAX_RANK else None,
        }
    )
