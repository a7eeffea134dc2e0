"""Step, MiniMax and Molmo: counts of transformers' classes and published totals, exactly; what a token keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from planner.errors import FormatError
from planner.estimate.kvcache import kv_bytes_per_token
from planner.estimate.tensors import active_parameters, parameter_count
from planner.sources.hf_config import parse_config
from planner.spec.base import Provenance

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

TEXT_01: dict[str, Any] = {
    "model_type": "minimax_text_01", "max_position_embeddings": 10_240_000, "hidden_size": 6144,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 9216, "num_local_experts": 32, "num_experts_per_tok": 2, "vocab_size": 200_064,
    "tie_word_embeddings": False, "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10,
}  # fmt: skip
ROUTER_BIASES = {"step-3.7-flash": 42 * 288, "minimax-m3": 57 * 128}
"""Buffers of the classes, stored in the checkpoint."""


def read(config: dict[str, Any]) -> ModelSpec:
    return parse_config(config, id="x/y", provenance=Provenance(source="a test", date="2026-11-24", basis="spec"))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("molmo-7b", 8_021_025_280),  # published
        ("step-3.7-flash", 195_316_538_624 + 128_896 * 4096),  # Step3p7TextModel and a head
        ("minimax-m3", 426_174_565_632),  # MiniMaxM3VLForCausalLM, the text model
    ],
)
def test_the_count_is_that_of_the_class(catalog: Catalog, name: str, count: int) -> None:
    assert parameter_count(catalog.model(name)) == count + ROUTER_BIASES.get(name, 0)


def test_minimax_text_01_counts_as_published_and_keeps_a_state_in_seven_of_eight_layers() -> None:
    model = read(TEXT_01)
    assert parameter_count(model) == 456_089_655_296
    assert 45e9 < active_parameters(model) < 48e9
    kept = kv_bytes_per_token(model)
    assert kept.unbounded_bytes == 10 * 2 * 8 * 128 * 2
    assert kept.state_bytes == 70 * 64 * 128 * 128 * 4
    assert kv_bytes_per_token(model, tp=8).state_bytes == kept.state_bytes // 8
    with pytest.raises(FormatError, match="attn_type_list has 3 entries for 80 layers"):
        read({**TEXT_01, "attn_type_list": [0, 0, 1]})


def test_step_with_its_tower_counts_as_the_whole_class(catalog: Catalog) -> None:
    text = {
        "model_type": "step3p5", "num_hidden_layers": 45, "hidden_size": 4096, "num_attention_heads": 64,
        "num_attention_groups": 8, "head_dim": 128, "vocab_size": 128_896, "max_position_embeddings": 65536,
        "intermediate_size": 11264, "sliding_window": 512, "moe_num_experts": 288, "moe_top_k": 8,
        "moe_intermediate_size": 1280, "share_expert_dim": 1280, "tie_word_embeddings": False,
        "moe_layers_enum": ",".join(map(str, range(3, 45))),
        "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 12,
    }  # fmt: skip
    alone = catalog.model("step-3.7-flash")
    assert parameter_count(read(text)) == parameter_count(alone)
    whole = read({"model_type": "step3p7", "text_config": text, "vision_config": {"hidden_size": 1536}})
    assert parameter_count(whole) == parameter_count(alone) + 1_981_014_784
    more = read({**text, "attention_other_setting": {"num_attention_heads": 96}})
    per_head = 4096 * 128 * 2 + 4096
    assert parameter_count(more) == parameter_count(alone) + 33 * 32 * per_head
    with pytest.raises(FormatError, match="moe_layers_enum"):
        read({**text, "moe_layers_enum": "3,x"})


def test_the_index_keys_of_minimax_m3_are_in_the_cache(catalog: Catalog) -> None:
    model = catalog.model("minimax-m3")
    assert kv_bytes_per_token(model).unbounded_bytes == 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2
    assert kv_bytes_per_token(model, 1).unbounded_bytes == 60 * 2 * 4 * 128 + 57 * 128


@pytest.mark.parametrize(
    ("name", "count", "buffers"),
    [("deepseek-v4-flash", 284_332_230_231, 2_337_280), ("deepseek-v4-pro", 1_572_997_179_491, 2_349_312)],
)
def test_deepseek_v4_counts_as_its_class_and_its_base_as_published(
    catalog: Catalog, name: str, count: int, buffers: int
) -> None:
    model, base = catalog.model(name), catalog.model(f"{name}-base")
    beside = sum(b.parameters for b in model.blocks if b.role == "mtp")
    assert parameter_count(model) - beside == count + buffers
    streams = 2 * (model.hidden_size // 128) ** 2  # scales of the prediction layer's two projections
    indexer = model.layers[-1].mixers[0].model_dump()
    scales = streams - 64 * indexer["q_lora_rank"] // 128  # counted as in the last layer, which has an indexer
    assert base.parameters == parameter_count(base) + scales


def test_deepseek_v4_keeps_a_window_and_a_fraction_of_what_lies_before(catalog: Catalog) -> None:
    model = catalog.model("deepseek-v4-flash")
    kept = kv_bytes_per_token(model)
    assert (kept.windowed_bytes, kept.window_tokens) == (43 * 512 * 2, 128)
    assert kept.unbounded_bytes == 21 * (512 * 2 + 132) / 4 + 20 * 512 * 2 / 128
    assert kv_bytes_per_token(model, tp=8) == kept, "one latent serves all heads"
    assert (model.quantization, catalog.model("deepseek-v4-flash-base").quantization) == ("mxfp4", "fp8-block")
    assert {"q_b", "attn_output_a", "ffn_up_shexp"} <= set(model.fp8_roles)


def test_deepseek_v4_with_nvfp4_experts_keeps_its_other_linears_in_fp8(catalog: Catalog) -> None:
    table = {"quant_method": "fp8", "weight_block_size": [128, 128], "moe_quant_algo": "NVFP4", "group_size": 16}
    config = {
        "model_type": "deepseek_v4", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
        "head_dim": 64, "qk_rope_head_dim": 16, "q_lora_rank": 64, "o_groups": 2, "o_lora_rank": 32,
        "sliding_window": 128,
        "index_n_heads": 2, "index_head_dim": 32, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 4096, "compress_ratios": [0, 4],
        "expert_dtype": "fp4", "quantization_config": table,
    }  # fmt: skip
    model = read(config)
    assert (model.quantization, model.fp8_roles) == ("nvfp4", catalog.model("deepseek-v4-flash").fp8_roles)
    with pytest.raises(FormatError, match="compress_ratios has 1 entries for 2 layers"):
        read({**config, "compress_ratios": [0]})


def test_grok_1_has_a_little_more_than_its_314_billion(catalog: Catalog) -> None:
    model = catalog.model("grok-1")
    layer = 2 * 6144 * 6144 + 2 * 1024 * 6144 + 8 * 3 * 6144 * 32768 + 8 * 6144 + 4 * 6144
    assert parameter_count(model) == 64 * layer + 131_072 * 6144 + 6144 == 315_684_820_992
    assert 80e9 < active_parameters(model) < 90e9
