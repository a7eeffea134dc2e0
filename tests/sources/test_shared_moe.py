"""Mixtures with keys of their own: which layers are sparse, which keys may be lists, what a pattern says."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import FormatError
from planner.sources.hf_config import parse_config
from planner.spec.base import Provenance
from planner.spec.model import Attention, ModelSpec, MoeFfn

SOURCE = Provenance(source="https://huggingface.co/org/model", date="2026-11-24", basis="spec")
SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 32768,
}
EXPERTS: dict[str, dict[str, Any]] = {
    "ernie4_5_moe": {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 64, "moe_num_shared_experts": 2},
    "hunyuan_v1_moe": {"num_experts": 8, "moe_topk": 2, "num_shared_expert": 1},
    "bailing_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "num_shared_experts": 1},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_shared_experts": 2},
    "deepseek": {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "n_shared_experts": 2},
    "granitemoe": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "arctic": {"num_local_experts": 8, "num_experts_per_tok": 2, "parallel_attn_mlp_res": True},
    "lfm2_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "num_dense_layers": 3},
}


def parse(model_type: str, **changes: Any) -> ModelSpec:
    config = {**SMALL, **EXPERTS.get(model_type, {}), "model_type": model_type, **changes}
    return parse_config(config, id="org/model", provenance=SOURCE)


def sparse(model: ModelSpec) -> list[int]:
    return sorted(i for g in model.layers for i in g.layers if any(isinstance(f, MoeFfn) for f in g.ffns))


def experts(model: ModelSpec) -> MoeFfn:
    return next(f for g in model.layers for f in g.ffns if isinstance(f, MoeFfn))


@pytest.mark.parametrize("model_type", EXPERTS)
def test_two_of_eight_experts_run(model_type: str) -> None:
    found = experts(parse(model_type))
    assert (found.experts, found.experts_per_token) == (8, 2)


@pytest.mark.parametrize(
    ("model_type", "changes", "layers"),
    [
        ("ernie4_5_moe", {}, [1, 2, 3, 4, 5, 6, 7]),
        ("ernie4_5_moe", {"moe_layer_start_index": 3, "moe_layer_end_index": 5}, [3, 4, 5]),
        ("ernie4_5_moe", {"moe_layer_interval": 2, "moe_layer_end_index": -1}, [1, 3, 5, 7]),
        ("hunyuan_v1_moe", {}, list(range(8))),
        ("bailing_moe", {"first_k_dense_replace": 4}, [4, 5, 6, 7]),
        ("dots1", {"first_k_dense_replace": 1}, [1, 2, 3, 4, 5, 6, 7]),
        ("arctic", {"moe_layer_frequency": 2}, [1, 3, 5, 7]),
        ("lfm2_moe", {"full_attn_idxs": [2, 5]}, [3, 4, 5, 6, 7]),
    ],
)
def test_the_config_says_which_layers_have_experts(model_type: str, changes: dict[str, Any], layers: list[int]) -> None:
    assert sparse(parse(model_type, **changes)) == layers


def test_hunyuan_may_list_one_number_per_layer() -> None:
    listed = {
        "num_experts": [8] * 8,
        "moe_topk": [2] * 8,
        "num_shared_expert": [1] * 8,
        "moe_intermediate_size": [64] * 8,
    }
    model = parse("hunyuan_v1_moe", **listed)
    assert experts(model) == experts(parse("hunyuan_v1_moe", moe_intermediate_size=64))


def test_hunyuan_layers_that_differ_are_refused_by_name() -> None:
    with pytest.raises(FormatError, match="moe_topk"):
        parse("hunyuan_v1_moe", moe_topk=[2, 4])


def test_a_shared_expert_is_as_wide_as_its_config_says() -> None:
    assert experts(parse("ernie4_5_moe")).shared_intermediate == 128
    assert experts(parse("hunyuan_v1_moe")).shared_intermediate == 512
    assert experts(parse("arctic")).dense_intermediate == 256


@pytest.mark.parametrize(
    ("changes", "full"),
    [
        ({"sliding_window": 4096, "sliding_window_pattern": "LLLG"}, [3, 7]),
        ({"sliding_window": 4096, "sliding_window_pattern": 2}, [1, 3, 5, 7]),
        ({"sliding_window": None, "sliding_window_pattern": "LLLG"}, list(range(8))),
        ({}, list(range(8))),
    ],
)
def test_exaone_4_attends_to_everything_where_its_pattern_has_a_g(changes: dict[str, Any], full: list[int]) -> None:
    model = parse("exaone4", **changes)
    found = [
        i
        for g in model.layers
        for i in g.layers
        for m in g.mixers
        if isinstance(m, Attention) and m.window_tokens is None
    ]
    assert sorted(found) == full


def test_chatglm_rotates_half_of_a_head_and_keeps_its_frequencies_as_a_buffer() -> None:
    model = parse("chatglm", kv_channels=64, multi_query_attention=True, multi_query_group_num=2, add_qkv_bias=True)
    assert [(t.width, t.positions) for t in model.rotary] == [(32, 32768)]
    assert [(b.role, b.parameters) for b in model.blocks] == [("buffer", 16)]
