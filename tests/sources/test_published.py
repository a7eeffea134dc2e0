"""Quantized repositories resolve without the Hub: by the catalog's checkpoints, else by their name."""

from __future__ import annotations

import pytest

from planner.errors import UnknownNameError
from planner.sources.catalog import Catalog, load
from planner.sources.models import resolve_model
from planner.spec.model import Checkpoint, ModelSpec

LISTED = [
    (model, checkpoint)
    for model in load().models()
    for checkpoint in model.checkpoints
    if checkpoint.repo and "/" in checkpoint.repo and checkpoint.repo.partition("/")[2].casefold() not in
    {name.rpartition("/")[2].casefold() for other in load().models() for name in (other.id, *other.aliases)}
]  # fmt: skip


@pytest.mark.parametrize(("model", "checkpoint"), LISTED, ids=[f"{c.repo}:{c.quantization}" for _, c in LISTED])
def test_a_listed_checkpoint_is_its_base_model_in_that_format(model: ModelSpec, checkpoint: Checkpoint) -> None:
    gguf = checkpoint.quantization.startswith("gguf:")
    name = f"{checkpoint.repo}:{checkpoint.quantization[5:]}" if gguf else str(checkpoint.repo)
    found, told = resolve_model(load(), name, offline=True)
    assert found.quantization == checkpoint.quantization
    assert found.layers == model.layers
    assert told


@pytest.mark.parametrize(
    ("name", "base", "quantization"),
    [
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "meta-llama/Llama-3.3-70B-Instruct", "fp8-dynamic"),
        ("somebody/Qwen3-32B-AWQ", "Qwen/Qwen3-32B", "awq"),
        ("somebody/Qwen3-8B-GPTQ-Int8", "Qwen/Qwen3-8B", "gptq-int8"),
        ("somebody/Qwen3-14B-quantized.w8a8", "Qwen/Qwen3-14B", "int8-w8a8"),
        ("somebody/Qwen3-14B-unsloth-bnb-4bit", "Qwen/Qwen3-14B", "bnb-nf4"),
        ("somebody/Qwen3-14B-GGUF:Q5_K_M", "Qwen/Qwen3-14B", "gguf:Q5_K_M"),
        ("somebody/Qwen3-14B-GGUF", "Qwen/Qwen3-14B", "gguf:Q4_K_M"),
    ],
)
def test_a_name_that_ends_as_publishers_end_it_is_the_base_model_quantized(
    name: str, base: str, quantization: str, catalog: Catalog
) -> None:
    found, told = resolve_model(catalog, name, offline=True)
    known = catalog.model(base)
    assert (found.quantization, found.layers, found.context_length) == (
        quantization,
        known.layers,
        known.context_length,
    )
    assert [c.repo for c in found.checkpoints] == [name.partition(":")[0]]
    assert told
    assert base in told


def test_an_unknown_base_stays_unknown(catalog: Catalog) -> None:
    with pytest.raises(UnknownNameError):
        resolve_model(catalog, "somebody/NoSuchModel-7B-AWQ", offline=True)


def test_a_variant_shares_shapes_and_nothing_that_names_weights(catalog: Catalog) -> None:
    base, variant = catalog.model("deepseek-ai/DeepSeek-V2"), catalog.model("deepseek-v2.5")
    assert variant.id == "deepseek-ai/DeepSeek-V2.5"
    assert (variant.layers, variant.parameters) == (base.layers, base.parameters)
    assert variant.provenance.source != base.provenance.source
    assert not set(variant.aliases) & set(base.aliases)
    assert variant.checkpoints == ()
