"""The model catalog: counts are exact or explained, names are unique, checkpoints have a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
import yaml

from planner.errors import CatalogError
from planner.estimate.tensors import kept_layers, parameter_count, quantized_layers, tensors
from planner.resources import folder
from planner.sources.model_entries import expanded, parse_entry

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

FILES = sorted((folder("catalog") / "models").glob("*.yaml"))
ENTRIES = [
    entry
    for path in FILES
    for written in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    for entry in expanded(written)
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: str(e["id"]))
def test_the_computed_parameter_count_is_the_published_one_or_says_why_not(entry: dict[str, object]) -> None:
    model = parse_entry(entry)
    assert model.parameters == parameter_count(model) or model.parameters_note
    if model.parameters:
        assert parameter_count(model) == pytest.approx(model.parameters, rel=0.27)


def test_most_of_the_catalog_is_exact() -> None:
    models = [parse_entry(entry) for entry in ENTRIES]
    assert len(models) > 200
    assert sum(m.parameters == parameter_count(m) for m in models) > 140


def _aliases(entry: Mapping[str, object]) -> list[object]:
    given = entry.get("aliases", [])
    assert isinstance(given, list)
    return given


def test_ids_and_aliases_are_unique_ignoring_case() -> None:
    names = Counter(str(n).casefold() for e in ENTRIES for n in (e["id"], *_aliases(e)))
    assert [n for n, times in names.items() if times > 1] == []


@pytest.mark.parametrize(
    ("alias", "identifier"),
    [
        ("llama3-70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("llama3:70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("llama-3-70b", "meta-llama/Meta-Llama-3-70B-Instruct"),
        ("Llama3", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("llama3-8b", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama-3.1-405b", "meta-llama/Llama-3.1-405B-Instruct"),
        ("llama-3.1-70b", "meta-llama/Llama-3.1-70B-Instruct"),
        ("llama-3.1-8b-base", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama3.3", "meta-llama/Llama-3.3-70B-Instruct"),
        ("qwen3-32b", "Qwen/Qwen3-32B"),
        ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("gemma3:27b", "google/gemma-3-27b-it"),
        ("gemma-2-9b", "google/gemma-2-9b-it"),
        ("deepseek-r1", "deepseek-ai/DeepSeek-R1"),
        ("gpt-oss-20b", "openai/gpt-oss-20b"),
        ("phi-4", "microsoft/phi-4"),
    ],
)
def test_what_people_type_means_the_instruct_form(catalog: Catalog, alias: str, identifier: str) -> None:
    assert catalog.model(alias).id == identifier


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("llama3-70b", 8192),
        ("llama3.1-70b", 131_072),
        ("llama3.3", 131_072),
        ("deepseek-r1:70b", 131_072),
        ("deepseek-r1:8b", 131_072),
        ("qwen3-32b", 40_960),
        ("qwen2.5-7b", 32_768),
        ("gemma3:27b", 131_072),
        ("mistral-7b", 32_768),
        ("gpt-oss-20b", 131_072),
        ("deepseek-r1", 163_840),
    ],
)
def test_the_context_is_the_configs_not_a_multiple_of_it(catalog: Catalog, name: str, tokens: int) -> None:
    assert catalog.model(name).context_length == tokens


@pytest.mark.parametrize(
    "name", ["llama3-8b", "llama3-70b", "llama3.1-8b", "llama3.1-70b", "llama3.3", "qwen2.5-7b", "qwen3-8b",
             "qwen3-32b", "mistral-7b", "mixtral-8x7b", "gemma3:27b", "deepseek-r1:32b"],
)  # fmt: skip
def test_the_most_used_models_have_four_bit_eight_bit_and_gguf_checkpoints(catalog: Catalog, name: str) -> None:
    kinds = {c.quantization for c in catalog.model(name).checkpoints}
    assert kinds & {"awq", "gptq-int4"}
    assert "gguf:Q4_K_M" in kinds
    assert any(c.ollama_tag for c in catalog.model(name).checkpoints)


# Elements that the repository stores: packed values and scales by the byte, the rest by the number.
PACKED = {
    "nvidia/DeepSeek-V3.1-NVFP4": 393_632_819_968,
    "nvidia/DeepSeek-V3.2-NVFP4": 394_498_304_256,
    "nvidia/GLM-5-NVFP4": 435_238_854_912,
}


@pytest.mark.parametrize("name", PACKED)
def test_what_a_4_bit_checkpoint_leaves_alone_makes_its_stored_total_exact(catalog: Catalog, name: str) -> None:
    model = catalog.model(name)
    kept, total = kept_layers(model), 0
    for t in tensors(model):
        n, one = quantized_layers(t, kept), t.elements // t.count
        total += n * (one // 2 + one // 16) + (t.count - n) * one
    assert total == PACKED[name]


def test_every_checkpoint_names_a_known_format_and_where_it_is(catalog: Catalog) -> None:
    for model in catalog.models():
        for c in model.checkpoints:
            assert catalog.format(c.quantization).id == c.quantization, (model.id, c)
            assert bool(c.repo) != bool(c.ollama_tag), (model.id, c)
            assert c.provenance.source.startswith("https://"), (model.id, c)
            assert c.provenance.basis == "spec" or c.provenance.note, (model.id, c)
            assert not c.quantization.startswith("gguf") or c.file or c.ollama_tag, (model.id, c)
            assert len(set(model.checkpoints)) == len(model.checkpoints), model.id


def test_every_quantization_is_a_known_format(catalog: Catalog) -> None:
    for model in catalog.models():
        assert catalog.format(model.quantization).id == model.quantization, model.id


def test_sources_are_public() -> None:
    for entry in ENTRIES:
        assert str(entry["source"]).startswith("https://"), entry["id"]
        assert entry["basis"] in ("spec", "derived"), entry["id"]


def test_a_wrong_entry_names_itself_and_the_field() -> None:
    good = next(e for e in ENTRIES if e["id"] == "meta-llama/Llama-3.1-8B-Instruct")
    with pytest.raises(CatalogError, match=r"Llama-3\.1-8B-Instruct: unknown key 'colour'"):
        parse_entry({**good, "colour": "blue"})
    with pytest.raises(CatalogError, match="needs id and config"):
        parse_entry({"id": "x"})
    with pytest.raises(CatalogError, match="Instruct: config lacks hidden_size"):
        parse_entry({**good, "config": {"model_type": "llama", "num_attention_heads": 8}})
