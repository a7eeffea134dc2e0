"""GGUF files: every type of the mixes, against published file sizes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from planner.errors import UnknownNameError
from planner.estimate.gguf import gguf_file_bytes, gguf_tensor_types
from planner.spec.gguf import GgufMix, GgufMixRules

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

UNITS = {"GiB": 1 << 30, "GB": 10**9, "bytes": 1}
with (Path(__file__).parent / "gguf_sizes.csv").open(encoding="utf-8") as file:
    SIZES = list(csv.DictReader(line for line in file if not line.startswith("#")))


def mixes(catalog: Catalog) -> dict[str, GgufMix]:
    return {row["file_type"]: GgufMix.model_validate(row) for row in catalog.document("quantization")["mixes"]}


def rules(catalog: Catalog) -> GgufMixRules:
    return GgufMixRules.model_validate(catalog.document("quantization")["mix_rules"])


@pytest.mark.parametrize("row", SIZES, ids=lambda r: f"{r['model']} {r['file_type']} {r['size']}")
def test_a_file_is_within_half_a_percent_of_its_published_size(catalog: Catalog, row: dict[str, str]) -> None:
    model, mix, kinds = catalog.model(row["model"]), mixes(catalog)[row["file_type"]], catalog.gguf_types()
    imatrix = row["imatrix"] == "1"
    if row["what"] == "file":
        got = gguf_file_bytes(model, mix, rules(catalog), kinds, imatrix=imatrix)
    else:
        got = sum(t.bytes for t in gguf_tensor_types(model, mix, rules(catalog), kinds, imatrix=imatrix))
    assert got == pytest.approx(float(row["size"]) * UNITS[row["unit"]], rel=0.005)


def test_q4_k_m_gives_some_layers_more_bits(catalog: Catalog) -> None:
    found = gguf_tensor_types(
        catalog.model("llama3-8b"), mixes(catalog)["Q4_K_M"], rules(catalog), catalog.gguf_types()
    )
    v = [t.type for t in found if t.role == "attn_v"]
    assert v.count("Q6_K") == 16 and v[:5] == ["Q6_K"] * 4 + ["Q4_K"]
    assert {t.role: t.type for t in found}["output"] == "Q6_K"
    assert all(t.type == "F32" for t in found if t.role == "norm")


def test_eight_experts_raise_attention(catalog: Catalog) -> None:
    found = gguf_tensor_types(
        catalog.model("mixtral-8x7b"), mixes(catalog)["Q4_K_M"], rules(catalog), catalog.gguf_types()
    )
    kinds = {t.role: t.type for t in found}
    assert (kinds["attn_k"], kinds["attn_v"], kinds["attn_output"]) == ("Q8_0", "Q8_0", "Q5_K")


def test_rows_that_do_not_divide_fall_back(catalog: Catalog) -> None:
    model = catalog.model("Qwen/Qwen2.5-0.5B-Instruct")  # hidden 896
    found = gguf_tensor_types(model, mixes(catalog)["Q4_K_M"], rules(catalog), catalog.gguf_types())
    kinds = {(t.role, t.type) for t in found}
    assert ("attn_q", "Q5_0") in kinds and ("token_embd", "Q8_0") in kinds


def test_every_mix_types_every_model(catalog: Catalog) -> None:
    models = [
        catalog.model(n) for n in ("llama3-8b", "gpt-oss-20b", "gemma3:27b", "deepseek-r1", "phi3", "Qwen/Qwen3.5-9B")
    ]
    for mix in mixes(catalog).values():
        for model in models:
            assert gguf_file_bytes(model, mix, rules(catalog), catalog.gguf_types()) > 0


def test_a_mix_with_an_unknown_type_is_an_error(catalog: Catalog) -> None:
    mix = GgufMix(file_type="X", number=99, base="Q9_Z")
    with pytest.raises(UnknownNameError, match="ggml type 'Q9_Z'"):
        gguf_tensor_types(catalog.model("llama3-8b"), mix, rules(catalog), catalog.gguf_types())
