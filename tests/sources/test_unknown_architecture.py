"""A folder of an architecture without a reader: weights from its headers, its KV cache from what they tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import planner
from planner.errors import FormatError, UsageError
from planner.estimate.kvcache import kv_bytes_per_token
from planner.estimate.tensors import parameter_count
from planner.estimate.weights import PLAIN, weight_bytes
from planner.sources.models import resolve_model

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec


def at(catalog: Catalog, path: Path) -> ModelSpec:
    return resolve_model(catalog, str(path), offline=True)[0]


def plain_bytes(catalog: Catalog, model: ModelSpec) -> int:
    """Bytes of the checkpoint as the ledger's arithmetic has them, prediction blocks and buffers left out."""
    return weight_bytes(model, catalog.format(model.quantization), rules=PLAIN)


def _novel(workshop: Any, **changes: Any) -> dict[str, Any]:
    return {**workshop.llama_config, "model_type": "novel", "architectures": ["NovelForCausalLM"], **changes}


def _fused(tensors: dict[str, Any]) -> dict[str, Any]:
    out = {
        k: v for k, v in tensors.items() if not any(n in k for n in ("q_proj", "k_proj", "v_proj", "gate_p", "up_p"))
    }
    for i in range(2):
        out[f"model.layers.{i}.self_attn.qkv_proj.weight"] = ("BF16", (128, 64))
        out[f"model.layers.{i}.mlp.gate_up_proj.weight"] = ("BF16", (256, 64))
    return out


def _experts(tensors: dict[str, Any], stacked: bool) -> dict[str, Any]:
    out = {k: v for k, v in tensors.items() if ".mlp." not in k}
    for i in range(2):
        p = f"model.layers.{i}.mlp."
        out[f"{p}gate.weight"] = ("BF16", (8, 64))
        if stacked:
            out[f"{p}experts.gate_up_proj"] = ("BF16", (8, 64, 96))
            out[f"{p}experts.down_proj"] = ("BF16", (8, 48, 64))
        else:
            for e in range(8):
                out |= {f"{p}experts.{e}.{n}_proj.weight": ("BF16", s)
                        for n, s in (("gate", (48, 64)), ("up", (48, 64)), ("down", (64, 48)))}  # fmt: skip
        out |= {f"{p}shared_expert.{n}_proj.weight": ("BF16", s)
                for n, s in (("gate", (32, 64)), ("up", (32, 64)), ("down", (64, 32)))}  # fmt: skip
    return out


VARIANTS: dict[str, Any] = {
    "plain": lambda t: t,
    "fused": _fused,
    "experts": lambda t: _experts(t, stacked=False),
    "stacked experts": lambda t: _experts(t, stacked=True),
    "qk norms and biases": lambda t: {
        **t, "model.layers.0.self_attn.q_norm.weight": ("BF16", (16,)),
        "model.layers.0.self_attn.q_proj.bias": ("BF16", (64,)), "model.layers.1.self_attn.sinks": ("BF16", (4,)),
    },
    "odd matrices": lambda t: {
        **t, "model.layers.1.gadget.mix.weight": ("BF16", (7, 64)), "model.extra.weight": ("BF16", (5, 5)),
        "model.layers.0.self_attn.lora_mix.weight": ("BF16", (64, 9)),
    },
    "no output projection": lambda t: {k: v for k, v in t.items() if "o_proj" not in k},
    "a recurrent layer": lambda t: {
        **{k: v for k, v in t.items() if "layers.1.self_attn" not in k},
        "model.layers.1.linear_attn.in_proj.weight": ("BF16", (300, 64)),
    },
    "a vision tower": lambda t: {**t, "vision_tower.layers.0.attn.q_proj.weight": ("BF16", (32, 32))},
    "tied": lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_unknown_architecture_has_exact_weights(
    catalog: Catalog, workshop: Any, tmp_path: Path, variant: str
) -> None:
    data = workshop.folder(
        tmp_path / "n", _novel(workshop, num_experts_per_tok=2), VARIANTS[variant](workshop.llama_tensors())
    )
    model = at(catalog, tmp_path / "n")
    assert plain_bytes(catalog, model) == data
    assert parameter_count(model) == data // 2
    assert model.assumptions[0].startswith(
        "no reader for novel: weights are exact from the headers; KV assumed as 2 heads"
    )


def test_the_kv_cache_of_an_unknown_architecture_follows_the_config(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    workshop.folder(tmp_path / "n", _novel(workshop), workshop.llama_tensors())
    assert kv_bytes_per_token(at(catalog, tmp_path / "n")).unbounded_bytes == 2 * 2 * 2 * 16 * 2
    windowed = _novel(workshop, layer_types=["sliding_attention", "full_attention"], sliding_window=128)
    workshop.folder(tmp_path / "w", windowed, workshop.llama_tensors())
    model = at(catalog, tmp_path / "w")
    assert kv_bytes_per_token(model).window_tokens == 128
    assert "1 of them within the config's window" in model.assumptions[0]
    wrong = _novel(workshop, num_key_value_heads=4)
    workshop.folder(tmp_path / "k", wrong, workshop.llama_tensors())
    model = at(catalog, tmp_path / "k")
    assert kv_bytes_per_token(model).unbounded_bytes == 2 * 2 * 2 * 16 * 2
    assert any("says 4 KV heads, the key projection holds 2" in note for note in model.assumptions)


def _renamed(tensors: dict[str, Any], **words: str) -> dict[str, Any]:
    out = {}
    for name, row in tensors.items():
        for old, new in words.items():
            name = name.replace(old, new)  # noqa: PLW2901
        out[name] = row
    return out


def _latent(tensors: dict[str, Any]) -> dict[str, Any]:
    """4 heads of 12 + 4 and 8 for values behind a latent of 20."""
    out = {k: v for k, v in tensors.items() if "self_attn" not in k}
    for i in range(2):
        shapes = {"q_proj": (64, 64), "kv_a_proj_with_mqa": (24, 64), "kv_b_proj": (80, 20), "o_proj": (64, 32)}
        out |= {f"model.layers.{i}.self_attn.{n}.weight": ("BF16", s) for n, s in shapes.items()}
        out[f"model.layers.{i}.self_attn.kv_a_layernorm.weight"] = ("BF16", (20,))
    return out


def _conv1d(tensors: dict[str, Any]) -> dict[str, Any]:
    """Fused and transposed, as GPT-2 stores it."""
    out = {k: v for k, v in _fused(tensors).items() if "qkv_proj" not in k}
    return out | {f"model.layers.{i}.self_attn.c_attn.weight": ("BF16", (64, 128)) for i in range(2)}


HEADLESS: dict[str, tuple[dict[str, Any], Any, int]] = {
    "other words for the sizes": ({"n_embd": 64, "n_layer": 2, "n_ctx": 512}, lambda t: t, 256),
    "nothing at all": ({}, lambda t: t, 256),
    "heads of each layer": ({"num_query_heads": [4, 4], "head_dim": 16, "model_dim": 64}, lambda t: t, 256),
    "fused": ({"d_model": 64}, _fused, 256),
    "transposed": ({"n_embd": 64}, _conv1d, 256),
    "a norm as wide as a head": (
        {}, lambda t: {**t, **{f"model.layers.{i}.self_attn.q_norm.weight": ("BF16", (16,)) for i in range(2)}}, 256,
    ),
    "names of its own": (
        {"dim": 64},
        lambda t: _renamed(t, **{"model.layers": "stack.cell", "self_attn": "mix", "embed_tokens": "table"}),
        256,
    ),
    "a latent": ({}, _latent, 2 * 24 * 2),
    "a known architecture": ({"model_type": "llama", "hidden_size": 64, "n_layer": 2}, lambda t: t, 256),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADLESS)
def test_headers_suffice_where_the_config_names_no_heads(
    catalog: Catalog, workshop: Any, tmp_path: Path, case: str
) -> None:
    given, change, kv_bytes = HEADLESS[case]
    config = {"architectures": ["WeirdForCausalLM"], "model_type": "weird", **given}
    data = workshop.folder(tmp_path / "n", config, change(workshop.llama_tensors()))
    model = at(catalog, tmp_path / "n")
    assert plain_bytes(catalog, model) == data
    assert parameter_count(model) == data // 2
    assert kv_bytes_per_token(model).unbounded_bytes == kv_bytes
    assert "weights are exact from the headers; KV assumed as" in " ".join(model.assumptions)
    if case not in ("heads of each layer", "a latent"):
        assert any("the config names no heads: 64 query and 32 key rows" in note for note in model.assumptions)


def test_headers_that_do_not_tell_the_heads_are_refused_by_the_missing_key(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    odd = {**workshop.llama_tensors()}
    for i in range(2):
        odd[f"model.layers.{i}.self_attn.k_proj.weight"] = ("BF16", (7, 64))
    workshop.folder(tmp_path / "n", {"model_type": "weird"}, odd)
    with pytest.raises(FormatError, match=r"/n: config lacks num_attention_heads and head_dim, and 64 query and 7 key"):
        at(catalog, tmp_path / "n")


def test_layers_that_are_no_attention_are_shown_and_not_planned(
    catalog: Catalog, workshop: Any, tmp_path: Path
) -> None:
    words = {"q_proj": "receptance", "k_proj": "key", "v_proj": "value"}
    data = workshop.folder(tmp_path / "n", {"model_type": "weird"}, _renamed(workshop.llama_tensors(), **words))
    model = at(catalog, tmp_path / "n")
    assert plain_bytes(catalog, model) == data
    assert "no attention layer was recognised, so no KV cache is counted" in model.assumptions[0]
    with pytest.raises(UsageError, match=r"no layer of .* was recognised as attention or recurrence"):
        planner.recommend(str(tmp_path / "n"), "1xL4")


def test_experts_per_token_are_never_guessed_silently(catalog: Catalog, workshop: Any, tmp_path: Path) -> None:
    workshop.folder(tmp_path / "n", _novel(workshop), _experts(workshop.llama_tensors(), stacked=False))
    assert any("how many of 8 experts run per token; all" in note for note in at(catalog, tmp_path / "n").assumptions)
