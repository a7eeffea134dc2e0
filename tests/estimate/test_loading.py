"""What loading leaves in the allocator is what vLLM was seen to hold, block by block."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from planner.estimate.loading import Repack, excess_bytes
from planner.estimate.weights import device_tensors, rotary_tables, vllm_rules
from planner.sources.catalog import Catalog
from planner.units import MIB

SEEN = Path(__file__).parents[2] / "benchmarks" / "measured" / "h200_vllm_load.csv"
HOPPER = vllm_rules(90, mxfp4_hidden_multiple=1, mxfp4_scale_multiples=(256, 4))
SPLIT_BELOW = 20 * MIB
CASES: list[tuple[str, str, str, Repack]] = [
    ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "bf16", ""),
    ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "fp8", ""),
    ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "awq", "awq"),
    ("Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B-Instruct", "awq", "awq"),
    ("Qwen3-32B", "Qwen/Qwen3-32B", "bf16", ""),
    ("Qwen3-8B-FP8", "Qwen/Qwen3-8B", "fp8-block", ""),
    ("Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B", "bf16", ""),
    ("Qwen3-30B-A3B-FP8", "Qwen/Qwen3-30B-A3B", "fp8-block", ""),
    ("Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct", "bf16", ""),
    ("Mistral-Small-24B-Instruct-2501", "mistralai/Mistral-Small-24B-Instruct-2501", "fp8", ""),
    ("gemma-3-12b-it", "google/gemma-3-12b-it", "bf16", ""),
    ("gemma-3-27b-it", "google/gemma-3-27b-it", "bf16", ""),
]


@pytest.mark.parametrize(("ran", "name", "form", "repack"), CASES)
def test_blocks_are_larger_than_their_tensors_by_what_was_seen(
    catalog: Catalog, ran: str, name: str, form: str, repack: Repack
) -> None:
    seen, layers = _seen(ran, form)
    model, quant = catalog.model(name), catalog.format(form)
    rows = device_tensors(model, quant, rules=HOPPER)
    bits = 0.0 if quant.kind == "float" else quant.weight_bits
    got = excess_bytes(rows, rotary_tables(model), range(layers), bits, SPLIT_BELOW, repack)
    assert got == pytest.approx(seen, abs=2 * MIB)


def _seen(model: str, form: str) -> tuple[int, int]:
    """(bytes of blocks beyond what their tensors asked for, layers) of one run with a 16-bit cache."""
    excess, layers = 0, 0
    with SEEN.open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["quantization"]) == (model, form) and row["kv_dtype"] != "fp8":
                layers = int(row["layers"])
                if row["tensor"] and row["tensor"] != "(all)":
                    excess += int(row["block_bytes"]) - int(row["requested_bytes"])
    assert layers
    return excess, layers


def test_layers_beyond_the_followed_ones_are_as_the_last(catalog: Catalog) -> None:
    """GEMMA 27B's down projections take 1.5 MiB more each, gate and up 1 MiB."""
    model = catalog.model("google/gemma-3-27b-it")
    rows, tables = device_tensors(model, catalog.format("bf16"), rules=HOPPER), rotary_tables(model)
    few, more = (excess_bytes(rows, tables, range(n), 0, SPLIT_BELOW) for n in (24, 60))
    assert more - few == 36 * 2.5 * MIB


def test_old_releases_split_what_temporaries_leave(catalog: Catalog) -> None:
    """Llama 8B's log of vLLM 0.6 is the sum of its tensors; without splitting 16 MiB would be held beyond."""
    model = catalog.model("meta-llama/Llama-3.1-8B-Instruct")
    rows, tables = device_tensors(model, catalog.format("bf16"), rules=HOPPER), rotary_tables(model)
    assert excess_bytes(rows, tables, range(32), 0, 1 << 62) < MIB
    assert excess_bytes(rows, tables, range(32), 0, SPLIT_BELOW) == pytest.approx(16 * MIB, abs=MIB)
