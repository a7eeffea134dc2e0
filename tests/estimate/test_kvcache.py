"""KV cache: per-token facts, and the pools that engines logged."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.estimate.kv_llamacpp import llamacpp_kv_bytes
from planner.estimate.kvcache import (
    PoolRules,
    kv_bytes_for_sequences,
    kv_bytes_per_token,
    kv_bytes_read,
    kv_layers,
    kv_pool,
    kv_pool_tokens,
)

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

GIB, MIB = 1 << 30, 1 << 20
Q8_0 = 34 / 32
with (Path(__file__).parent / "kv_facts.csv").open(encoding="utf-8") as file:
    FACTS = list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("fact", FACTS, ids=lambda f: f["model"])
def test_kv_per_token_equals_the_architectures_formula(catalog: Catalog, fact: dict[str, str]) -> None:
    model = catalog.model(fact["model"])
    got = kv_bytes_per_token(model)
    indexer = sum(r.count * r.bytes_per_token for r in kv_layers(model) if r.kind == "indexer")
    assert got.unbounded_bytes - indexer == int(fact["unbounded"])
    assert got.windowed_bytes == int(fact["windowed"])
    assert got.state_bytes == int(fact["state"])
    if fact["window"]:
        assert got.window_tokens == int(fact["window"])


def test_latent_cache_and_indexer_are_not_divided_by_tensor_parallelism(catalog: Catalog) -> None:
    v3, v32 = catalog.model("deepseek-v3"), catalog.model("deepseek-ai/DeepSeek-V3.2")
    assert kv_bytes_per_token(v3, tp=8) == kv_bytes_per_token(v3)
    assert kv_bytes_per_token(v32).unbounded_bytes == 70_272 + 8_052
    assert kv_bytes_per_token(v32, 1).unbounded_bytes == 61 * 656 + 8_052


def test_heads_are_replicated_when_there_are_more_devices(catalog: Catalog) -> None:
    model = catalog.model("Qwen/Qwen3-30B-A3B")  # 4 KV heads
    per = {tp: kv_bytes_per_token(model, tp=tp).unbounded_bytes for tp in (1, 2, 4, 8)}
    assert per == {1: 98_304, 2: 49_152, 4: 24_576, 8: 24_576}


def test_shared_layers_store_nothing(catalog: Catalog) -> None:
    got = kv_bytes_per_token(catalog.model("google/gemma-3n-E4B-it"))
    assert (got.unbounded_bytes, got.windowed_bytes) == (4 * 2048, 16 * 2048)


def test_cross_attention_caches_images_not_text(catalog: Catalog) -> None:
    got = kv_bytes_per_token(catalog.model("meta-llama/Llama-3.2-11B-Vision-Instruct"))
    assert (got.unbounded_bytes, got.cross_bytes) == (32 * 4096, 8 * 4096)


# (model, GiB free for KV, context, options, tokens that vLLM logged)
POOLS: list[tuple[str, float, int, dict[str, Any], int]] = [
    ("meta-llama/Llama-3.1-8B-Instruct", 108.81, 8192, {}, 891_392),  # 0.26, H200
    ("meta-llama/Llama-3.1-8B-Instruct", 112.28, 16384, {}, 919_824),
    ("meta-llama/Llama-3.1-70B-Instruct", 84.28, 8192, {}, 276_176),
    ("Qwen/Qwen3-30B-A3B", 64.85, 8192, {}, 708_336),
    ("Qwen/Qwen3-14B", 6.51, 32768, {}, 42_656),  # LMCache#1739
    ("nvidia/Qwen3.6-35B-A3B-NVFP4", 5.98, 131_072, {"kv_dtype_bytes": 1, "rules": PoolRules(state_blocks=2)}, 567_978),
    (
        "nvidia/Qwen3.6-27B-NVFP4",
        11.05,
        262_144,
        {"kv_dtype_bytes": 1, "tp": 2, "rules": PoolRules(state_blocks=2, draft_tokens=3)},
        623_873,
    ),
]


@pytest.mark.parametrize(("name", "gib", "context", "options", "tokens"), POOLS)
def test_the_pool_holds_what_vllm_logged(
    catalog: Catalog, name: str, gib: float, context: int, options: dict[str, Any], tokens: int
) -> None:
    # The log rounds the memory to 0.01 GiB.
    got = kv_pool_tokens(catalog.model(name), int(gib * GIB), max_model_len=context, **options)
    assert got == pytest.approx(tokens, rel=0.01 / gib + 0.003)


def test_recurrent_pages_enlarge_the_attention_block(catalog: Catalog) -> None:
    model = catalog.model("nvidia/Qwen3.6-27B-NVFP4")
    pool = kv_pool(model, 10 * GIB, max_model_len=65536, kv_dtype_bytes=1)
    assert pool.block_tokens == 1568  # logged with an fp8 cache on an RTX A6000


def test_one_sequence_of_gpt_oss_needs_what_vllm_said(catalog: Catalog) -> None:
    model = catalog.model("openai/gpt-oss-120b")
    need = kv_bytes_for_sequences(model, 1, 131_072, rules=PoolRules(max_num_batched_tokens=1024))
    assert need / GIB == pytest.approx(4.54, abs=0.005)  # vllm#27508
    without = kv_bytes_for_sequences(model, 1, 131_072, rules=PoolRules(hybrid=False))
    assert without / GIB == pytest.approx(9.0, abs=0.005)


def test_an_older_release_logs_blocks_not_concurrency(catalog: Catalog) -> None:
    model = catalog.model("openai/gpt-oss-20b")
    old = kv_pool(model, 10 * GIB, max_model_len=8192, rules=PoolRules(tokens_from_concurrency=False))
    assert old.tokens == old.blocks // old.groups * old.block_tokens


def test_layers_without_kv_need_no_pool(catalog: Catalog) -> None:
    model = catalog.model("mistralai/Mamba-Codestral-7B-v0.1")
    assert kv_bytes_per_token(model).unbounded_bytes == 0
    assert kv_bytes_per_token(model).state_bytes > 0
    assert kv_bytes_read(model, 10_000) == kv_bytes_per_token(model).state_bytes


# (model, tokens, options, MiB in llama.cpp's log)
LLAMACPP: list[tuple[str, int, dict[str, Any], float]] = [
    ("deepseek-ai/DeepSeek-R1", 2048, {"kv_dtype_bytes": Q8_0}, 72.91),
    ("deepseek-ai/DeepSeek-R1", 32768, {}, 2196.0),
    ("deepseek-ai/DeepSeek-R1", 512, {"latent": False}, 2440.0),
    ("deepseek-ai/DeepSeek-R1", 2048, {"latent": False}, 9760.0),  # ollama#8447
    ("deepseek-ai/DeepSeek-V3", 131_072, {"kv_dtype_bytes": Q8_0}, 4666.5),
    ("Qwen/Qwen3-235B-A22B", 32768, {"kv_dtype_bytes": Q8_0}, 3196.0),
    ("Qwen/Qwen3-235B-A22B", 65536, {"kv_dtype_bytes": Q8_0, "v_dtype_bytes": 2}, 9212.0),
    ("Qwen/Qwen3-32B", 16896, {"kv_dtype_bytes": Q8_0}, 2244.0),
    ("Qwen/Qwen3-30B-A3B", 8192, {"kv_dtype_bytes": Q8_0, "n_parallel": 4}, 1632.0),
    ("meta-llama/Llama-3.1-8B-Instruct", 1024, {"kv_dtype_bytes": 18 / 32, "v_dtype_bytes": 2}, 82.0),
    ("meta-llama/Llama-3.1-8B-Instruct", 16384, {}, 2048.0),
    ("google/gemma-3-27b-it", 131_072, {"swa_full": True}, 63488.0),
    ("openai/gpt-oss-120b", 131_072, {"n_parallel": 2, "n_ubatch": 1024}, 9306.0),  # ollama#16480
]


@pytest.mark.parametrize(("name", "tokens", "options", "mib"), LLAMACPP)
def test_llamacpp_allocates_what_it_logged(
    catalog: Catalog, name: str, tokens: int, options: dict[str, Any], mib: float
) -> None:
    assert llamacpp_kv_bytes(catalog.model(name), tokens, **options) / MIB == pytest.approx(mib, abs=0.01)


NAMES = ("llama3-8b", "gemma3:27b", "gpt-oss-20b", "deepseek-r1", "Qwen/Qwen3.5-27B", "Qwen/Qwen3-30B-A3B", "llama4")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES), tp=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1, 200_000), n=st.integers(1, 64)
)
def test_memory_grows_with_tokens_and_sequences_and_shrinks_with_devices(
    catalog: Catalog, name: str, tp: int, tokens: int, n: int
) -> None:
    model = catalog.model(name)
    one = kv_bytes_for_sequences(model, 1, tokens, tp=tp)
    assert kv_bytes_for_sequences(model, n, tokens, tp=tp) == n * one
    assert kv_bytes_for_sequences(model, 1, tokens + 1, tp=tp) >= one
    assert kv_bytes_per_token(model, tp=2 * tp).unbounded_bytes <= kv_bytes_per_token(model, tp=tp).unbounded_bytes


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), gib=st.floats(0.5, 200))
def test_a_pool_never_exceeds_what_is_available(catalog: Catalog, name: str, gib: float) -> None:
    available = int(gib * GIB)
    pool = kv_pool(catalog.model(name), available, max_model_len=8192)
    assert available - pool.block_bytes < pool.bytes <= available
