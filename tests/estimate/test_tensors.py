"""Tensors: shapes add up to published totals; active parameters are the known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from planner.estimate.tensors import active_parameters, kept_layers, loaded_parameters, parameter_count, tensors

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-30B-A3B", 3.3),
        ("Qwen/Qwen3-235B-A22B", 22),
        ("deepseek-ai/DeepSeek-V3", 37),
        ("openai/gpt-oss-20b", 3.6),
        ("openai/gpt-oss-120b", 5.1),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 12.9),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 17),
        ("zai-org/GLM-4.5-Air", 12),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 7.5),
    ],
)
def test_active_parameters_are_about_what_the_vendor_says(catalog: Catalog, name: str, billions: float) -> None:
    # Vendors round, and some count the embedding.
    assert active_parameters(catalog.model(name)) / 1e9 == pytest.approx(billions, rel=0.09)


def test_prediction_blocks_are_stored_but_not_loaded(catalog: Catalog) -> None:
    model = catalog.model("deepseek-ai/DeepSeek-V3")
    assert parameter_count(model) == 684_531_386_000
    assert loaded_parameters(model) == 671_026_419_200


def test_fp8_scales_count_as_stored_elements(catalog: Catalog) -> None:
    base, fp8 = catalog.model("Qwen/Qwen3-8B"), catalog.model("Qwen/Qwen3-8B-FP8")
    assert parameter_count(fp8) - parameter_count(base) == 423_936


def test_every_tensor_of_every_model_is_sane(catalog: Catalog) -> None:
    for model in catalog.models():
        layers = set(range(model.n_layers))
        assert sorted(i for g in model.layers for i in g.layers) == sorted(layers), model.id
        for t in tensors(model):
            assert t.rows > 0 and t.cols > 0 and t.experts > 0, (model.id, t)
            assert set(t.layers) <= layers, (model.id, t)
            assert not (t.quantizable and t.cols == 1), (model.id, t)
            assert t.shard != "kv" or t.rows % t.head_dim == 0, (model.id, t)


def test_active_never_exceeds_loaded(catalog: Catalog) -> None:
    for model in catalog.models():
        assert 0 < active_parameters(model) <= loaded_parameters(model) <= parameter_count(model), model.id


def test_kept_layers_reads_roles_and_ranges(catalog: Catalog) -> None:
    model = catalog.model("Qwen/Qwen3-8B").model_copy(update={"unquantized": ("attn_q", "ffn_down[0-2,5]")})
    assert kept_layers(model) == {"attn_q": None, "ffn_down": frozenset({0, 1, 2, 5})}
