"""GGUF files become specs whose parameters and bytes are the file's own, for each architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from planner.errors import FormatError, UsageError
from planner.estimate.tensors import active_parameters, parameter_count
from planner.sources.gguf_model import KEPT_ARRAY, compact, stop_words
from planner.sources.models import resolve_model
from planner.spec.model import Attention

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

H, FFN, VOCAB, LAYERS, HEADS, KV, D = 256, 512, 320, 2, 4, 2, 64


def at(catalog: Catalog, path: Path) -> ModelSpec:
    return resolve_model(catalog, str(path), offline=True)[0]


def metadata(arch: str, **keys: Any) -> dict[str, Any]:
    base = {
        "block_count": LAYERS, "context_length": 8192, "embedding_length": H, "feed_forward_length": FFN,
        "attention.head_count": HEADS, "attention.head_count_kv": KV, "attention.key_length": D,
        "attention.value_length": D,
    }  # fmt: skip
    named = {k.replace("__", "."): v for k, v in keys.items()}
    return {
        "general.architecture": arch, "general.file_type": 15, "general.name": "A Model",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(VOCAB)],
        **{f"{arch}.{k}": v for k, v in {**base, **named}.items() if v is not None},
    }  # fmt: skip


def tensors(*, tied: bool = False, layer: Any = None, **extra: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"token_embd.weight": ("Q4_K", (VOCAB, H)), "output_norm.weight": ("F32", (H,))}
    if not tied:
        found["output.weight"] = ("Q6_K", (VOCAB, H))
    for i in range(LAYERS):
        rows = {
            "attn_norm": (H,), "ffn_norm": (H,), "attn_q": (HEADS * D, H), "attn_k": (KV * D, H),
            "attn_v": (KV * D, H), "attn_output": (H, HEADS * D), "ffn_gate": (FFN, H), "ffn_up": (FFN, H),
            "ffn_down": (H, FFN),
        }  # fmt: skip
        rows = layer(rows) if layer else rows
        found |= {
            f"blk.{i}.{n if n.endswith('.bias') else n + '.weight'}": ("F32" if len(s) == 1 else "Q4_K", s)
            for n, s in rows.items()
        }
    return {**found, **extra}


def plus(**more: tuple[int, ...]) -> Any:
    return lambda rows: {**rows, **{k.replace("__", "."): v for k, v in more.items()}}


def without(*names: str, **more: tuple[int, ...]) -> Any:
    return lambda rows: {**{k: v for k, v in rows.items() if k not in names}, **more}


def experts(**more: tuple[int, ...]) -> Any:
    n, width = 8, 256
    return without(
        "ffn_gate", "ffn_up", "ffn_down", ffn_gate_inp=(n, H), ffn_gate_exps=(n, width, H), ffn_up_exps=(n, width, H),
        ffn_down_exps=(n, H, width), **more,
    )  # fmt: skip


MOE = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 256}
NORMS = {"post_attention_norm": (H,), "post_ffw_norm": (H,)}
BIASES = {"attn_q__bias": (HEADS * D,), "attn_k__bias": (KV * D,), "attn_v__bias": (KV * D,)}
QK = {"attn_q_norm": (D,), "attn_k_norm": (D,)}
MLA = {
    "attention__q_lora_rank": 256, "attention__kv_lora_rank": 256, "attention__key_length": 320,
    "attention__value_length": 256, "attention__key_length_mla": 96, "attention__value_length_mla": 64,
    "rope__dimension_count": 64, "attention__head_count_kv": 1, "leading_dense_block_count": 0,
    "expert_shared_count": 1,
}  # fmt: skip
ARCHITECTURES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "llama": (metadata("llama"), tensors(), "llama"),
    "qwen2": (metadata("qwen2"), tensors(layer=plus(**BIASES)), "qwen2"),
    "qwen3": (metadata("qwen3"), tensors(layer=plus(**QK), tied=True), "qwen3"),
    "gemma2": (metadata("gemma2", attention__sliding_window=4096), tensors(layer=plus(**NORMS), tied=True), "gemma2"),
    "gemma3": (
        metadata("gemma3", attention__sliding_window=1024), tensors(layer=plus(**NORMS, **QK), tied=True),
        "gemma3_text",
    ),
    "phi3": (
        metadata("phi3"),
        tensors(layer=without("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up", attn_qkv=((HEADS + 2 * KV) * D, H),
                              ffn_up=(2 * FFN, H))),
        "phi3",
    ),
    "mixtral": (
        metadata("llama", **{**MOE, "feed_forward_length": 256}), tensors(layer=experts()), "mixtral",
    ),
    "qwen3moe": (metadata("qwen3moe", **MOE), tensors(layer=experts(**QK)), "qwen3_moe"),
    "gpt-oss": (
        metadata("gpt-oss", **MOE, attention__sliding_window=128),
        tensors(layer=lambda rows: plus(
            **BIASES, attn_output__bias=(H,), attn_sinks=(HEADS,), ffn_gate_inp__bias=(8,),
            ffn_gate_exps__bias=(8, 256), ffn_up_exps__bias=(8, 256), ffn_down_exps__bias=(8, H))(experts()(rows))),
        "gpt_oss",
    ),
    "deepseek2": (
        metadata("deepseek2", **MOE, **MLA),
        tensors(layer=lambda rows: without("attn_q", "attn_k", "attn_v", "attn_output")(experts(
            attn_q_a=(256, H), attn_q_a_norm=(256,), attn_q_b=(HEADS * 96, 256), attn_kv_a_mqa=(320, H),
            attn_kv_a_norm=(256,), attn_k_b=(HEADS, 256, 32), attn_v_b=(HEADS, 64, 256), ffn_gate_shexp=(256, H),
            ffn_up_shexp=(256, H), ffn_down_shexp=(H, 256))(rows))
            | {"attn_output": (H, HEADS * 64)}),
        "deepseek_v2",
    ),
    "an unknown one": (metadata("novelarch", **MOE), tensors(layer=experts(**QK)), "novelarch"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_bytes_are_the_files(catalog: Catalog, workshop: Any, tmp_path: Path, name: str) -> None:
    keys, rows, model_type = ARCHITECTURES[name]
    if name == "deepseek2":  # attn_k_b's rows are 32 wide, less than a block: F16 as converters write them
        rows = {k: (("F16", s) if "_b." in k and len(s) == 3 else (t, s)) for k, (t, s) in rows.items()}
    data = workshop.gguf(tmp_path / "m.gguf", keys, rows)
    model = at(catalog, tmp_path / "m.gguf")
    assert model.model_type == model_type
    assert parameter_count(model) == model.parameters
    (checkpoint,) = model.checkpoints
    assert checkpoint.size_bytes == (tmp_path / "m.gguf").stat().st_size
    assert checkpoint.stored is not None and checkpoint.stored.total == data
    assert len(checkpoint.stored.layers) == model.n_layers == LAYERS
    assert (model.quantization, model.context_length, model.vocab_size) == ("gguf:Q4_K_M", 8192, VOCAB)
    assert (checkpoint.file, checkpoint.repo) == ("m.gguf", str(tmp_path / "m.gguf"))
    assert bool(model.assumptions) == (name == "an unknown one")


@pytest.mark.parametrize("template", ["{{ messages }}", None])
def test_a_chat_files_own_ends_are_its_stop_words(
    catalog: Catalog, workshop: Any, tmp_path: Path, template: str | None
) -> None:
    keys, rows, _ = ARCHITECTURES["llama"]
    ends = {"tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.eom_token_id": 10**6}
    chat = {} if template is None else {"tokenizer.chat_template": template}
    workshop.gguf(tmp_path / "m.gguf", {**keys, **ends, **chat}, rows)
    assert at(catalog, tmp_path / "m.gguf").chat_stop == (() if template is None else ("t7", "t9"))


def test_stop_words_outlive_the_vocabulary_that_is_left_out() -> None:
    read = {
        "tokenizer.ggml.tokens": [f"<{i}>" for i in range(KEPT_ARRAY + 1)],
        "tokenizer.ggml.eos_token_id": KEPT_ARRAY,
        "tokenizer.chat_template": "x",
    }
    kept = compact(read)
    assert len(str(kept)) < 200 and stop_words(kept) == stop_words(read) == (f"<{KEPT_ARRAY}>",)


def test_experts_and_windows_are_read(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    for name in ("mixtral", "gpt-oss", "gemma3"):
        keys, rows, _ = ARCHITECTURES[name]
        workshop.gguf(tmp_path / f"{name}.gguf", keys, rows)
    mixtral = at(catalog, tmp_path / "mixtral.gguf")
    assert active_parameters(mixtral) < parameter_count(mixtral) - LAYERS * 5 * 3 * 256 * H
    windows = [
        m.window_tokens
        for g in at(catalog, tmp_path / "gpt-oss.gguf").layers
        for m in g.mixers
        if isinstance(m, Attention)
    ]
    assert windows == [128, None]
    windows = [
        m.window_tokens
        for g in at(catalog, tmp_path / "gemma3.gguf").layers
        for m in g.mixers
        if isinstance(m, Attention)
    ]
    assert windows == [1024]


def test_the_parts_of_a_split_file_are_one_model(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    keys, rows, _ = ARCHITECTURES["llama"]
    listed = list(rows.items())
    sizes = [
        workshop.gguf(tmp_path / "m-00001-of-00002.gguf", {**keys, "split.count": 2, "split.no": 0}, dict(listed[:7])),
        workshop.gguf(tmp_path / "m-00002-of-00002.gguf", {"split.count": 2, "split.no": 1}, dict(listed[7:])),
    ]
    model = at(catalog, tmp_path / "m-00002-of-00002.gguf")
    checkpoint = model.checkpoints[0]
    assert checkpoint.file == "m-00001-of-00002.gguf"
    assert checkpoint.stored is not None and checkpoint.stored.total == sum(sizes)
    assert checkpoint.size_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.gguf"))
    assert at(catalog, tmp_path) == model  # the folder holds one model
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(FormatError, match=r"m-00002-of-00002\.gguf is missing \(1 of 2 parts\)"):
        at(catalog, tmp_path / "m-00001-of-00002.gguf")


def test_an_unnamed_file_type_is_read_from_the_bytes(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    keys, rows, _ = ARCHITECTURES["llama"]
    workshop.gguf(tmp_path / "m.gguf", {**keys, "general.file_type": 999}, rows)
    model = at(catalog, tmp_path / "m.gguf")
    assert model.quantization == "gguf:Q4_K_M"
    assert model.assumptions == ("the file has file type 999; read as gguf:Q4_K_M because most bytes are Q4_K",)


def test_files_that_are_no_language_model_are_refused(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    keys, rows, _ = ARCHITECTURES["llama"]
    workshop.gguf(tmp_path / "p.gguf", {**keys, "general.architecture": "clip"}, rows)
    with pytest.raises(UsageError, match=r"is a vision projector"):
        at(catalog, tmp_path / "p.gguf")
    workshop.gguf(tmp_path / "v.gguf", keys, {})
    with pytest.raises(FormatError, match="holds no tensors"):
        at(catalog, tmp_path / "v.gguf")
    workshop.gguf(tmp_path / "h.gguf", keys, {k: v for k, v in rows.items() if "blk.1" not in k})
    with pytest.raises(FormatError, match="no tensors of layer 1 of 2"):
        at(catalog, tmp_path / "h.gguf")
    workshop.gguf(tmp_path / "d.gguf", {**keys, "llama.block_count": 10**9}, rows)
    with pytest.raises(FormatError, match=r"llama\.block_count is 1,000,000,000; at most 10,000 layers"):
        at(catalog, tmp_path / "d.gguf")
    (tmp_path / "d.gguf").unlink()
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\xff" * 60)
    with pytest.raises(FormatError, match=r"x\.gguf: GGUF: version"):
        at(catalog, tmp_path / "x.gguf")
    workshop.gguf(tmp_path / "a.gguf", keys, rows)
    with pytest.raises(UsageError, match=r"holds 5 GGUF models; name one of"):
        at(catalog, tmp_path)
