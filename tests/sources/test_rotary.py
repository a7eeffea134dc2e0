"""Tables of rotary embeddings, where they are not one of the model's context for each head width."""

from __future__ import annotations

import pytest

from planner.estimate.weights import device_tensors, rotary_tables
from planner.sources.catalog import Catalog
from planner.sources.hf_config import parse_config
from planner.spec.base import Provenance
from planner.units import MIB

FROM = Provenance(source="test", date="2026-11-24", basis="spec")
PLAIN = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 1000,
    "intermediate_size": 1024, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 32),  # seen block by block on H200, as are the next three
        ("Qwen/Qwen3-32B", 10),
        ("google/gemma-3-12b-it", 64 + 512),
        ("google/gemma-3-27b-it", 32 + 256),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 4 * 31.25),
        ("deepseek-ai/DeepSeek-V2-Lite", 20),
    ],
)
def test_tables_take_what_the_engine_keeps(catalog: Catalog, name: str, mib: float) -> None:
    rows = device_tensors(catalog.model(name), catalog.format("bf16"))
    assert sum(row.bytes for row in rows if row.role == "rotary_cache") == mib * MIB


@pytest.mark.parametrize("nested", [False, True])
def test_partial_rotation_makes_a_narrower_table(nested: bool) -> None:
    told: dict[str, object] = {"partial_rotary_factor": 0.5}
    config = PLAIN | ({"rope_parameters": told} if nested else told)
    (table,) = rotary_tables(parse_config(config, id="x", provenance=FROM))
    assert (table.positions, table.width) == (4096, 32)


def test_every_head_width_has_a_table(catalog: Catalog) -> None:
    for model in catalog.models():
        for table in rotary_tables(model):
            assert table.positions >= model.context_length, model.id
            assert 0 <= table.first_layer < model.n_layers
            assert table.width > 0


def test_a_tower_is_split_by_no_more_than_it_has(catalog: Catalog) -> None:
    for model in catalog.models():
        for block in model.blocks:
            assert 0 <= block.split_parameters <= block.parameters, model.id


def test_a_split_tower_is_smaller_on_each_device(catalog: Catalog) -> None:
    """SigLIP of Gemma 3: positions, patches and norms stay whole, 98.7 % is divided."""
    model, quant = catalog.model("google/gemma-3-27b-it"), catalog.format("bf16")
    whole, quarter = (
        sum(row.bytes for row in device_tensors(model, quant, tp=tp) if row.role == "vision") for tp in (1, 4)
    )
    assert quarter == pytest.approx(whole * (0.9866 / 4 + 0.0134), rel=0.001)
