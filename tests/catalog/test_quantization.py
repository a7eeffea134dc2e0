"""Formats against the `gguf` package, their own arithmetic, and the order that published losses give."""

from __future__ import annotations

import itertools

import gguf
import pytest

from planner.sources.catalog import load
from planner.spec.quantization import QuantizationFormat

CATALOG = load()
FORMATS = {f.id: f for f in CATALOG.formats()}
DOCUMENT = CATALOG.document("quantization")
MIXES = {mix["file_type"]: mix for mix in DOCUMENT["mixes"]}


def test_ggml_types_are_those_of_the_gguf_package() -> None:
    ours = {t.id: (t.number, t.block_elements, t.block_bytes) for t in CATALOG.gguf_types().values()}
    theirs = {t.name: (t.value, *size) for t, size in gguf.GGML_QUANT_SIZES.items()}
    assert ours == theirs


def test_every_file_type_of_llama_cpp_is_a_mix() -> None:
    theirs = {
        t.name.removeprefix("MOSTLY_").removeprefix("ALL_"): t.value for t in gguf.LlamaFileType if t.name != "GUESSED"
    }
    assert {name: mix["number"] for name, mix in MIXES.items()} == theirs


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_a_mix_names_known_types_and_conditions(mix: dict[str, object]) -> None:
    rules = mix.get("rules", [])
    assert isinstance(rules, list)
    names = {mix["base"], mix.get("output", mix["base"]), mix.get("token_embd", mix["base"])}
    assert names | {rule["type"] for rule in rules} <= set(CATALOG.gguf_types())
    conditions = {c for rule in rules for c in rule.get("when", ())}
    known = "more_bits first_eighth first_sixteenth middle first_2 first_4 gqa_4 gqa_4_or_moe_4 experts_8"
    assert conditions <= set(f"{known} not_experts_8 no_imatrix imatrix experts".split())


def test_every_gguf_format_has_its_mix() -> None:
    assert {f.gguf_file_type for f in FORMATS.values() if f.kind == "gguf"} == set(MIXES)


@pytest.mark.parametrize("found", FORMATS.values(), ids=FORMATS)
def test_a_format_is_found_by_each_of_its_names(found: QuantizationFormat) -> None:
    for name in (found.id, *found.aliases):
        assert CATALOG.format(name).id == found.id


@pytest.mark.parametrize("found", [f for f in FORMATS.values() if f.quality], ids=lambda f: f.id)
def test_published_perplexities_rise_and_give_the_rank(found: QuantizationFormat) -> None:
    perplexities = [loss for loss in found.quality if "perplexity" in loss.metric]
    for loss in perplexities:
        assert loss.value > loss.baseline > 0
    for first in perplexities[:1]:
        assert found.quality_rank == pytest.approx(100 * (first.value / first.baseline - 1), rel=0.05, abs=0.02)


def test_rank_zero_is_sixteen_bits_or_more() -> None:
    assert {f.id for f in FORMATS.values() if f.quality_rank == 0} == {
        f.id for f in FORMATS.values() if f.weight_bits >= 16
    }


@pytest.mark.parametrize(
    "ladder",
    [
        ["gguf:F16", "gguf:Q8_0", "gguf:Q6_K", "gguf:Q5_K_M", "gguf:Q4_K_M", "gguf:Q4_K_S", "gguf:Q3_K_M", "gguf:Q2_K"],
        ["bf16", "fp8-dynamic", "int8-w8a8", "awq", "gptq-int4"],
        ["gguf:IQ4_XS", "gguf:IQ3_M", "gguf:IQ3_XXS", "gguf:IQ2_M", "gguf:IQ2_XXS", "gguf:IQ1_S"],
    ],
)
def test_fewer_bits_rank_worse(ladder: list[str]) -> None:
    for better, worse in itertools.pairwise(ladder):
        assert FORMATS[better].quality_rank < FORMATS[worse].quality_rank


def test_engine_aliases_lead_to_formats_and_engines_that_exist() -> None:
    engines = {release.engine for release in CATALOG.releases()}
    for engine, aliases in DOCUMENT["engine_aliases"].items():
        assert engine in engines
        assert set(aliases.values()) <= set(FORMATS)


@pytest.mark.parametrize(("kv", "bits"), [("bf16", 16), ("fp8", 8), ("q8_0", 8.5), ("q4_0", 4.5), ("nvfp4", 4.5)])
def test_kv_bits_count_scales_stored_in_line(kv: str, bits: float) -> None:
    assert CATALOG.kv_format(kv).bits == bits


@pytest.mark.parametrize("kv", ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
def test_ggml_kv_bits_are_those_of_the_type(kv: str) -> None:
    kind = CATALOG.gguf_types()[kv.upper()]
    assert CATALOG.kv_format(kv).bits == kind.block_bytes * 8 / kind.block_elements
