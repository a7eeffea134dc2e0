"""Bytes of adapters and drafts: laws against counts by hand, and the ledger that holds them."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.estimate.extras import adapter_bytes, eagle_parameters
from planner.estimate.kvcache import kv_bytes_per_token
from planner.sources.catalog import load

LLAMA = "llama3.1-8b"
BASE: dict[str, Any] = {"model": LLAMA, "gpus": "1xH100", "engine": "vllm", "quantization": "bf16"}


def best(**features: Any) -> Any:
    return planner.recommend(**BASE, features=features or None).best


def by_hand(rank: int, tp: int) -> int:
    """Llama 3.1 8B: hidden 4096, 32 layers, q 4096, k and v 1024, feed-forward 14336, 128256 tokens; bf16."""
    h, q, kv, f = 4096, 4096, 1024, 14336
    column = (h + q // tp) + 2 * (h + kv // tp) + 2 * (h + f // tp)
    row = (q // tp + h) + (f // tp + h)
    return 2 * rank * (32 * (column + row) + 2 * (128256 + h))


@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("rank", [8, 64])
def test_an_adapters_buffers_are_those_of_every_linear(rank: int, tp: int) -> None:
    catalog = load()
    found = adapter_bytes(catalog.model(LLAMA), catalog.releases("vllm")[0], tp, 1, 0, 1, rank)
    assert found == by_hand(rank, tp)


def test_stages_share_an_adapters_layers() -> None:
    catalog = load()
    model, release = catalog.model(LLAMA), catalog.releases("vllm")[0]
    whole = adapter_bytes(model, release, 1, 1, 0, 1, 16)
    assert sum(adapter_bytes(model, release, 1, 2, stage, 1, 16) for stage in range(2)) == whole


def test_adapters_are_weights_in_the_ledger() -> None:
    plain, two = best(), best(lora_adapters=("a=o/x", "b=o/y"), max_lora_rank=32)
    assert two.memory.bytes_of("weights") - plain.memory.bytes_of("weights") == 2 * by_hand(32, 1)
    assert two.memory.kv_cache_tokens < plain.memory.kv_cache_tokens
    assert any("2 adapters × rank 32" in row.formula for row in two.memory.rows)


def test_ngrams_take_no_memory() -> None:
    plain, drafted = best(), best(speculative="ngram")
    assert drafted.memory.rows == plain.memory.rows


def test_a_draft_model_takes_its_weights_and_its_cache() -> None:
    catalog = load()
    plain, drafted = best(), best(speculative="draft_model", draft_model="llama3.2-1b")
    draft = catalog.model("llama3.2-1b")
    more = drafted.memory.bytes_of("weights") - plain.memory.bytes_of("weights")
    assert more == pytest.approx(2 * 1_235_814_400, rel=0.02)
    assert (
        drafted.memory.kv_bytes_per_token - plain.memory.kv_bytes_per_token
        == kv_bytes_per_token(draft, 2).unbounded_bytes
    )


@pytest.mark.parametrize(("method", "millions"), [("eagle", 252), ("eagle3", 425)])
def test_an_eagle_head_is_a_layer_and_what_joins_states(method: str, millions: float) -> None:
    """By hand for hidden 4096, q 4096, k and v 1024 each, feed-forward 14336; EAGLE-3 has 32,000 rows of its own."""
    assert eagle_parameters(load().model(LLAMA), third=method == "eagle3") / 1e6 == pytest.approx(millions, rel=0.02)
    plain, drafted = best(), best(speculative=method, draft_model="o/head")
    assert drafted.memory.kv_bytes_per_token - plain.memory.kv_bytes_per_token == 4096


def test_a_prediction_layer_is_loaded_and_caches() -> None:
    asked = {"model": "deepseek-v3", "gpus": "8xH200", "engine": "vllm"}
    plain = planner.recommend(**asked).best
    drafted = planner.recommend(
        **asked,
        features={"speculative": "mtp"},
        quantization=plain.quantization,
        tensor_parallel=plain.parallelism.tensor,
    ).best
    assert drafted.memory.bytes_of("weights") > plain.memory.bytes_of("weights")
    assert drafted.memory.kv_bytes_per_token > plain.memory.kv_bytes_per_token
