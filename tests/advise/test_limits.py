"""Limits: the engines' own defaults for a device, what the plan fixes, and budgets that follow the weights."""

from __future__ import annotations

from typing import Any

import pytest

from planner.advise.limits import bucket_graphs, default_context_tokens, resolve_limits, stored_bytes, token_tier
from planner.errors import UsageError
from planner.sources.catalog import load
from planner.sources.machines import resolve_machine
from planner.spec.model import ModelSpec
from planner.spec.plan import Limits, Parallelism
from planner.units import GIB

CATALOG = load()
RELEASES = {f"{r.engine}-{r.version}": r for r in CATALOG.releases()}
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def limits(release: str, gpus: str, model: str | ModelSpec = LLAMA, quantization: str = "bf16", **asked: Any) -> Limits:
    layout = Parallelism(tensor=asked.pop("tensor", 1), pipeline=asked.pop("pipeline", 1))
    return resolve_limits(
        CATALOG.model(model) if isinstance(model, str) else model,
        CATALOG.format(quantization),
        None,
        RELEASES[release],
        resolve_machine(CATALOG, gpus),
        layout,
        **asked,
    )


@pytest.mark.parametrize(
    ("release", "gpus", "tokens", "seqs"),
    [
        ("vllm-0.33.0", "1xH100-SXM", 8192, 1024),
        ("vllm-0.33.0", "1xH200", 8192, 1024),
        ("vllm-0.33.0", "1xB200", 16384, 1024),
        ("vllm-0.33.0", "1xMI300X", 16384, 1024),
        ("vllm-0.33.0", "1xA100", 2048, 256),
        ("vllm-0.33.0", "1xL4", 2048, 256),
        ("vllm-0.33.0", "1xRTX-4090", 2048, 256),
        ("vllm-0.33.0", "1xGB10", 2048, 256),
        ("vllm-0.33.0", "cpu", 2048, 128),
        ("vllm-0.26.0", "1xB200", 8192, 1024),
        ("vllm-0.26.0", "1xGB10", 8192, 1024),
        ("vllm-0.26.0", "1xGaudi2", 2048, 256),
    ],
)
def test_scheduler_defaults_are_those_of_the_server_on_this_device(
    release: str, gpus: str, tokens: int, seqs: int
) -> None:
    found = limits(release, gpus)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)


def test_a_tier_on_cpu_grows_with_the_devices() -> None:
    machine = resolve_machine(CATALOG, "cpu")
    tier = token_tier(RELEASES["vllm-0.33.0"], machine)
    assert tier is not None and tier.per_device


@pytest.mark.parametrize(
    ("asked", "tokens", "seqs"),
    [
        ({"max_num_seqs": 64}, 8192, 64),
        ({"max_num_seqs": 2, "context_tokens": 1024}, 2048, 2),
        ({"max_num_batched_tokens": 512}, 512, 512),
        ({"max_num_seqs": 32, "max_num_batched_tokens": 4096}, 4096, 32),
        ({"max_num_seqs": 9000, "context_tokens": 4096}, 9000, 9000),
    ],
)
def test_what_the_plan_fixes_bends_the_defaults(asked: dict[str, Any], tokens: int, seqs: int) -> None:
    found = limits("vllm-0.33.0", "1xH100-SXM", **asked)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)


@pytest.mark.parametrize(("context", "tokens"), [(1024, 2048), (8192, 8192), (32768, 32768), (131072, 2048)])
def test_an_engine_without_chunks_takes_a_prompt_whole_up_to_its_limit(context: int, tokens: int) -> None:
    """vLLM 0.7: 2,048 tokens or the context, and chunks of 2,048 beyond 32k."""
    found = limits("vllm-0.7.3", "1xA100", context_tokens=context)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, 256)


def test_context_is_capped_by_the_model() -> None:
    assert limits("vllm-0.33.0", "1xH100-SXM").max_model_len == 131072
    assert limits("vllm-0.33.0", "1xH100-SXM", context_tokens=1 << 20).max_model_len == 131072
    assert limits("vllm-0.33.0", "1xH100-SXM", context_tokens=8192).max_model_len == 8192


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"max_num_seqs": 64, "max_num_batched_tokens": 32}, "needs at least 64"),
        ({"gpu_memory_utilization": 1.5}, "at most 1"),
        ({"context_tokens": 8}, "the least is 16"),
    ],
)
def test_what_an_engine_would_refuse_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        limits("vllm-0.33.0", "1xH100-SXM", **asked)


@pytest.mark.parametrize(
    ("gpus", "tokens"),
    [("1xRTX-3060", 4096), ("1xRTX-4090", 32768), ("1xA100", 131072), ("2xRTX-4090", 131072), ("cpu", 4096)],
)
def test_ollama_takes_its_context_from_all_vram_together(gpus: str, tokens: int) -> None:
    machine = resolve_machine(CATALOG, gpus)
    assert default_context_tokens(CATALOG.model(LLAMA), RELEASES["ollama-0.33.0"], machine) == tokens


def test_ollama_gives_every_slot_the_whole_context() -> None:
    found = limits("ollama-0.33.0", "1xRTX-4090", quantization="gguf:Q4_K_M", max_num_seqs=4, context_tokens=8192)
    assert (found.num_ctx, found.num_parallel, found.max_num_seqs) == (8192, 4, 4)
    assert (found.max_num_batched_tokens, found.num_batch, found.max_queue) == (None, 512, 512)
    assert found.gpu_memory_utilization is None


def test_ollama_defaults_to_one_request_at_a_time() -> None:
    assert limits("ollama-0.33.0", "1xRTX-4090", quantization="gguf:Q4_K_M").num_parallel == 1


@pytest.mark.parametrize("kind", sorted(RELEASES["ollama-0.33.0"].defaults.serial_model_types))
def test_families_that_ollama_serialises_get_one_slot(kind: str) -> None:
    model = CATALOG.model(LLAMA).model_copy(update={"model_type": kind})
    found = limits("ollama-0.33.0", "1xRTX-4090", model, "gguf:Q4_K_M", max_num_seqs=8)
    assert found.num_parallel == 1
    assert limits("llamacpp-b10488", "1xRTX-4090", model, "gguf:Q4_K_M", max_num_seqs=8).num_parallel == 8


def test_serial_families_of_ollama_occur_in_the_catalog() -> None:
    kinds = {model.model_type for model in CATALOG.models()}
    assert len(kinds & set(RELEASES["ollama-0.33.0"].defaults.serial_model_types)) >= 5


def test_tgi_limits_prompts_below_the_total() -> None:
    found = limits("tgi-3.3.7", "1xA100", context_tokens=8192, input_tokens=1024, output_tokens=256, max_num_seqs=64)
    assert (found.max_input_tokens, found.max_model_len, found.max_batch_prefill_tokens) == (7936, 8192, 4096)
    assert (found.max_num_batched_tokens, found.max_num_seqs, found.max_queue) == (None, 64, 128)
    assert limits("tgi-3.3.7", "1xA100").max_num_seqs == 128


@pytest.mark.parametrize("gpus", ["1xA100", "1xGaudi2"])
def test_tgi_prefills_a_whole_prompt_where_it_cannot_chunk(gpus: str) -> None:
    found = limits("tgi-3.3.7", gpus, context_tokens=16384, input_tokens=8000)
    assert found.max_input_tokens is not None and found.max_batch_prefill_tokens is not None
    assert found.max_input_tokens >= 8000
    assert (found.max_batch_prefill_tokens >= found.max_input_tokens) == (gpus == "1xGaudi2")


@pytest.mark.parametrize(("tensor", "gib"), [(1, 2), (2, 3), (8, 9)])
def test_shared_memory_grows_with_the_devices_of_a_node(tensor: int, gib: int) -> None:
    assert limits("vllm-0.33.0", f"{tensor}xH100-SXM", tensor=tensor).shm_bytes == gib * GIB


def test_ollama_needs_no_shared_memory_beyond_the_containers() -> None:
    assert limits("ollama-0.33.0", "1xRTX-4090", quantization="gguf:Q4_K_M").shm_bytes is None


def test_bigger_weights_take_longer_and_more_disk() -> None:
    small, large = (limits("vllm-0.33.0", "8xH100-SXM", tensor=8, weight_bytes=n * GIB) for n in (16, 140))
    assert small.load_seconds < large.load_seconds
    assert small.startup_budget_seconds < large.startup_budget_seconds
    assert large.disk_bytes >= 1.1 * 140 * GIB


@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_probes_allow_more_than_the_estimated_load(release: str) -> None:
    quantization = "gguf:Q4_K_M" if release.startswith(("ollama", "llamacpp")) else "bf16"
    found = limits(release, "1xH100-SXM", quantization=quantization)
    assert found.startup_budget_seconds > 1.5 * found.load_seconds
    assert found.startup_budget_seconds % 30 == 0
    assert found.termination_grace_seconds > 30


def test_weights_at_hand_need_no_time_to_download() -> None:
    fetched, at_hand = (limits("vllm-0.33.0", "1xH100-SXM", weight_bytes=16 * GIB, fetches=f) for f in (True, False))
    assert fetched.startup_budget_seconds - at_hand.startup_budget_seconds > 16 * GIB / 5e7
    assert at_hand.startup_budget_seconds > at_hand.load_seconds


def test_a_pipeline_over_nodes_loads_its_share_per_node() -> None:
    one = limits("vllm-0.33.0", "8xH100-SXM", tensor=8, weight_bytes=400 * GIB)
    two = limits("vllm-0.33.0", "16xH100-SXM", tensor=8, pipeline=2, weight_bytes=400 * GIB)
    startup = RELEASES["vllm-0.33.0"].startup
    assert startup is not None
    saved_s = 200 * GIB / startup.storage_read_bytes_per_s
    assert two.load_seconds == pytest.approx(one.load_seconds - saved_s, abs=0.2)
    assert two.shm_bytes == one.shm_bytes


def test_a_file_that_is_mapped_again_after_every_pause_stays_in_memory() -> None:
    """Ollama maps its GGUF file: a container without room for it reads the disk at every load."""
    small, large = (limits("ollama-0.33.0", "1xL4", quantization=q) for q in ("gguf:Q4_K_M", "gguf:Q8_0"))
    assert small.host_memory_bytes > 4.9e9 and large.host_memory_bytes - small.host_memory_bytes > 3e9


def test_on_a_cpu_weights_and_cache_are_left_to_the_ledger() -> None:
    """What `configure` adds once the ledger stands: test_brief has the whole."""
    asked: dict[str, Any] = {"quantization": "gguf:Q4_K_M", "weight_bytes": 5 * GIB, "context_tokens": 8192}
    assert limits("ollama-0.33.0", "cpu", **asked).host_memory_bytes == 1 * GIB
    assert limits("ollama-0.33.0", "1xRTX-4090", **asked).host_memory_bytes >= 6 * GIB


@pytest.mark.parametrize(
    ("model", "quantization", "published_gib"),
    [
        (LLAMA, "bf16", 14.96),
        (LLAMA, "gguf:Q4_K_M", 4.58),
        (LLAMA, "gguf:Q8_0", 7.95),
        (LLAMA, "gguf:Q6_K", 6.14),
        (LLAMA, "awq", 5.34),
    ],
)
def test_estimated_checkpoints_are_near_the_published_size(model: str, quantization: str, published_gib: float) -> None:
    estimate = stored_bytes(CATALOG.model(model), CATALOG.format(quantization))
    assert estimate / GIB == pytest.approx(published_gib, rel=0.06)


@pytest.mark.parametrize("release", ["vllm-0.26.0", "tgi-3.3.7"])
def test_gaudi_gets_the_minutes_that_its_buckets_take(release: str) -> None:
    """Every bucket of shapes is compiled before the server answers: minutes, and more of them below 16 bits."""
    wide, narrow = (
        limits(release, "1xGaudi3", quantization=q, context_tokens=8192, max_num_seqs=64) for q in ("bf16", "fp8")
    )
    gpu = limits(release, "1xH100-SXM", context_tokens=8192, max_num_seqs=64)
    assert wide.load_seconds > gpu.load_seconds + 60 and wide.startup_budget_seconds > 1.5 * 150
    assert narrow.load_seconds > 2 * wide.load_seconds and narrow.startup_budget_seconds > 600
    short = limits(release, "1xGaudi3", context_tokens=2048, max_num_seqs=4)
    assert short.load_seconds < wide.load_seconds


def test_the_graphs_of_the_documented_start_are_counted() -> None:
    decodes = 3 * 6  # batches of 1, 2 and 4; at most 32 blocks of 128 tokens
    assert bucket_graphs(1024, 4, 1024) - decodes == pytest.approx(36, rel=0.15)  # features/bucketing_mechanism.md
