"""Configs become specs by their model_type, and wrong ones say what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.estimate.tensors import parameter_count
from planner.sources.hf.common import MAX_LAYERS, Config
from planner.sources.hf_config import known_architectures, parse_config
from planner.spec.base import Provenance

SOURCE = Provenance(source="https://huggingface.co/org/model", date="2026-11-24", basis="spec")
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


def parse(**changes: Any) -> Any:
    return parse_config({**LLAMA, **changes}, id="org/model", provenance=SOURCE)


def test_llama_3_8b_has_the_published_parameters() -> None:
    model = parse()
    assert parameter_count(model) == 8_030_261_248
    assert (model.context_length, model.quantization, model.n_layers) == (8192, "bf16", 32)


def test_an_unknown_architecture_is_named_with_the_nearest_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown architecture 'lama'; nearest: .*llama") as caught:
        parse(model_type="lama")
    assert caught.value.kind == "architecture"


def test_a_config_without_model_type_is_refused() -> None:
    with pytest.raises(FormatError, match="lacks model_type"):
        parse(model_type="")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(FormatError, match=key):
        parse_config({k: v for k, v in LLAMA.items() if k != key}, id="m", provenance=SOURCE)


@pytest.mark.parametrize("value", ["many", -1, 0, 1.5, True, 1 << 60, [32]])
def test_an_impossible_number_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="num_hidden_layers"):
        parse(num_hidden_layers=value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers is 1,000,000,000; at most 10,000 layers"),
        ({"model_type": "mimo", "num_nextn_predict_layers": 10_001}, r"num_nextn_predict_layers is 10,001; at most"),
        (
            {"model_type": "mixtral", "num_local_experts": 10**6, "num_experts_per_tok": 2},
            r"num_local_experts is 1,000,000; at most 100,000 experts",
        ),
    ],
)
def test_a_count_beyond_sense_is_refused_before_a_list_is_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        parse(**changes)


@pytest.mark.parametrize("key", ["n_layer", "n_layers", "num_layers", "vision.depth", "vt_num_hidden_layers"])
def test_every_spelling_of_a_layer_count_is_bounded(key: str) -> None:
    *path, name = key.split(".")
    config = Config({name: MAX_LAYERS + 1}, "".join(f"{p}." for p in path))
    with pytest.raises(FormatError, match=f"{key} is 10,001; at most 10,000 layers"):
        config.positive(name)
    assert Config({name: MAX_LAYERS}).positive(name) == MAX_LAYERS


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(FormatError, match="do not divide"):
        parse(num_key_value_heads=5)


@pytest.mark.parametrize(
    ("quantization", "expected", "group"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block", None),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", None),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8-dynamic", None),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4", 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq-int8", 0),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4", 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8", None),
        ({"quant_method": "mxfp4"}, "mxfp4", 32),
        ({"quant_method": "eetq"}, "eetq", None),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"},
            "gptq-int4",
            128,
        ),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 64, "packing_format": "auto_round:auto_awq"},
            "awq",
            64,
        ),
        ({"quant_method": "auto-round", "bits": 8, "group_size": -1}, "gptq-int8", 0),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}, "input_tensors": {"is_dynamic": False}},
            },
            "fp8",
            None,
        ),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4", 32),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int8"}, "input_tensors": {"a": 1}}},
            "int8-w8a8",
            None,
        ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 16),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", None),
    ],
)
def test_a_checkpoints_own_quantization_is_read(quantization: object, expected: str, group: int | None) -> None:
    model = parse(quantization_config=quantization)
    assert (model.quantization, model.quantization_group_size) == (expected, group)


@pytest.mark.parametrize(
    ("weights", "activations", "expected"),
    [
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, {"dynamic": True}, "fp8-dynamic"),
        ({"num_bits": 8, "type": "float", "strategy": "tensor"}, {"dynamic": False}, "fp8"),
        ({"num_bits": 8, "type": "float", "strategy": "block"}, {"dynamic": True}, "fp8-block"),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, {"dynamic": True}, "int8-w8a8"),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, None, "int8-w8a16"),
        ({"num_bits": 4, "type": "int", "group_size": 128}, None, "gptq-int4"),
        ({"num_bits": 4, "type": "float", "group_size": 16}, {"num_bits": 4}, "nvfp4"),
    ],
)
def test_compressed_tensors_schemes_are_told_apart(
    weights: dict[str, object], activations: dict[str, object] | None, expected: str
) -> None:
    group = {"weights": weights, "input_activations": activations, "targets": ["Linear"]}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    assert parse(quantization_config=config).quantization == expected


def test_an_unknown_quantization_method_is_an_error() -> None:
    with pytest.raises(UsageError, match="quantized with brandnew, which no engine planned here"):
        parse(quantization_config={"quant_method": "brandnew"})


@pytest.mark.parametrize("method", ["hqq", "quanto", "aqlm", "vptq", "bitnet"])
def test_a_method_that_no_engine_loads_says_what_to_name_instead(method: str) -> None:
    with pytest.raises(
        UsageError, match=f"quantized with {method}, which no engine planned here loads; name the model"
    ):
        parse(quantization_config={"quant_method": method})


@pytest.mark.parametrize(
    ("kind", "expected", "group"),
    [
        ({"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}}, "gptq-int4", 64),
        ({"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}}, "int8-w8a16", None),
        ({"default": {"_type": "Int8DynamicActivationInt8WeightConfig"}}, "int8-w8a8", None),
        ({"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}}, "fp8-dynamic", None),
        ("int4_weight_only", "gptq-int4", 128),
        ("int8_weight_only", "int8-w8a16", None),
    ],
)
def test_torchao_is_read_by_its_configuration(kind: object, expected: str, group: int | None) -> None:
    model = parse(quantization_config={"quant_method": "torchao", "quant_type": kind})
    assert (model.quantization, model.quantization_group_size) == (expected, group)


def test_a_torchao_configuration_that_is_not_known_is_named() -> None:
    with pytest.raises(UnknownNameError, match="torchao autoquant"):
        parse(quantization_config={"quant_method": "torchao", "quant_type": "autoquant"})


def test_compressed_tensors_may_mix_nvfp4_with_fp8_by_name() -> None:
    groups = {
        "group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["Linear"]},
        "group_1": {"weights": {"num_bits": 8, "type": "float"}, "targets": ["re:.*self_attn.*"]},
    }
    config = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head", "re:.*down_proj$"]}
    model = parse(quantization_config=config)
    assert (model.quantization, model.unquantized) == ("nvfp4", ("ffn_down",))
    assert model.fp8_roles == ("attn_k", "attn_output", "attn_q", "attn_v")
    groups["group_1"]["weights"] = {"num_bits": 8, "type": "int"}
    with pytest.raises(UnknownNameError, match="compressed-tensors with float4 and int8"):
        parse(quantization_config=config)


def test_ignored_modules_become_roles_and_layers() -> None:
    config = {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": [
            "lm_head",
            "self_attn.o_proj",
            "model.layers.0.mlp.down_proj",
            "model.layers.1.mlp.down_proj",
        ],
    }
    assert parse(quantization_config=config).unquantized == ("attn_output", "ffn_down[0-1]")


def test_regular_expressions_of_compressed_tensors_are_matched() -> None:
    group = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}, "input_activations": {"dynamic": True}}
    config = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["re:.*self_attn.*", "lm_head"],
    }
    assert parse(quantization_config=config).unquantized == ("attn_k", "attn_output", "attn_q", "attn_v")


def test_a_mix_of_fp8_and_4_bit_is_read_role_by_role() -> None:
    layers = range(32)
    config = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "config_groups": {
            "group_0": {
                "weights": {"num_bits": 8, "type": "float"},
                "targets": [f"model.layers.{i}.self_attn.{p}_proj" for i in layers for p in "qkvo"],
            },
            "group_1": {
                "weights": {"num_bits": 4, "type": "float", "group_size": 16},
                "targets": ["lm_head", *(f"model.layers.{i}.mlp.{p}_proj" for i in layers for p in ("up", "gate"))],
            },
        },
    }
    model = parse(quantization_config=config)
    assert model.quantization == "nvfp4"
    assert model.fp8_roles == ("attn_k", "attn_output", "attn_q", "attn_v")
    assert (model.unquantized, model.also_quantized) == (("ffn_down",), ("output",))


def test_a_window_longer_than_the_context_is_none() -> None:
    model = parse(model_type="mistral", sliding_window=262144)
    assert model.layers[0].mixers[0].window_tokens is None
    assert parse(model_type="mistral", sliding_window=4096).layers[0].mixers[0].window_tokens == 4096


def test_overrides_win() -> None:
    model = parse_config(LLAMA, id="m", provenance=SOURCE, family="llama3", license="llama3")
    assert (model.family, model.license) == ("llama3", "llama3")


def test_every_known_architecture_refuses_an_empty_config() -> None:
    for name in known_architectures():
        with pytest.raises(FormatError):
            parse_config({"model_type": name}, id="m", provenance=SOURCE)


STRETCH = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"rope_scaling": None}, None),
        ({"rope_scaling": {"rope_type": "default"}}, None),
        ({"rope_scaling": STRETCH | {"rope_type": "llama3"}}, "llama3"),
        ({"rope_scaling": {"type": "linear", "factor": 8}}, "linear"),
        ({"rope_parameters": STRETCH | {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"rope_parameters": {"full_attention": STRETCH | {"rope_type": "llama3"}}}, "llama3"),
        ({"rope_scaling": {"rope_type": "longrope", "long_factor": [1.0], "factor": "x"}}, "longrope"),
    ],
)
def test_stretched_positions_are_read(changes: dict[str, Any], kind: str | None) -> None:
    found = parse(**changes).rope_scaling
    assert (found and found.kind) == kind
    if kind in ("llama3", "yarn"):
        assert (found.factor, found.original_context_length, found.high_freq_factor) == (8.0, 8192, 4.0)
