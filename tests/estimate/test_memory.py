"""The ledger: it adds up, agrees with what engines logged, and refuses what does not fit.

Longer than 400 lines because every case deploys by one factory, and test folders are no packages to share it from.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest

from planner.estimate.deployment import Deployment
from planner.estimate.gguf_tables import layer_bytes
from planner.estimate.kvcache import kv_pool
from planner.estimate.layer_split import place
from planner.estimate.memory import fits, ledger
from planner.estimate.memory_budget import budget_of, largest_utilization
from planner.estimate.memory_layers import shape_of
from planner.estimate.memory_pool import pool_of, pool_rules
from planner.sources.catalog import Catalog
from planner.spec.hardware import Machine
from planner.spec.plan import Limits, Parallelism
from planner.units import GIB, MIB

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
QWEN_MOE = "Qwen/Qwen3-30B-A3B"


def deploy(
    catalog: Catalog,
    model: str,
    quantization: str,
    accelerator: str | None,
    engine: str = "vllm",
    version: str = "",
    *,
    kv: str | None = None,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    count: int | None = None,
    ram: int | None = None,
    memory_bytes: int | None = None,
    **limits: Any,
) -> Deployment:
    device = catalog.accelerator(accelerator) if accelerator else None
    if device and memory_bytes:
        device = device.model_copy(update={"usable_memory_bytes": memory_bytes})
    number = count or tp * pp * dp
    layered = engine in ("ollama", "llamacpp")
    filled: dict[str, Any] = {
        "max_model_len": 8192, "max_num_seqs": 1 if layered else 256, "host_memory_bytes": 0, "disk_bytes": 0,
        "load_seconds": 0, "startup_budget_seconds": 0, "termination_grace_seconds": 0,
    }  # fmt: skip
    if layered:
        filled |= {"num_ctx": limits.get("max_model_len", 8192), "num_parallel": 1}
    elif engine != "tgi":
        filled |= {"max_num_batched_tokens": 8192}
    return Deployment(
        model=catalog.model(model),
        quantization=catalog.format(quantization),
        kv_format=catalog.kv_format(kv or ("fp16" if layered else "bf16")),
        machine=Machine(
            label=f"{number}x{accelerator}", accelerator=device, count=number, devices_per_node=8, ram_bytes=ram
        ),
        engine=next(r for r in catalog.releases(engine) if r.version.startswith(version)),
        parallelism=Parallelism(tensor=tp, pipeline=pp, data=dp, expert=ep),
        limits=Limits(**{**filled, **limits}),
    )  # fmt: skip


MATRIX: list[tuple[str, str, str | None, dict[str, Any]]] = [
    (LLAMA_8B, "bf16", "h100-sxm", {}),
    (LLAMA_8B, "bf16", "h100-sxm", {"version": "0.26"}),
    (LLAMA_70B, "bf16", "h100-sxm", {"tp": 2, "pp": 2}),
    (LLAMA_70B, "fp8", "h100-sxm", {"tp": 4, "kv": "fp8"}),
    (LLAMA_70B, "bf16", "h100-sxm", {}),
    (QWEN_MOE, "bf16", "h200-sxm", {"version": "0.26"}),
    ("deepseek-ai/DeepSeek-R1", "fp8-block", "h200-sxm", {"dp": 8, "ep": 8}),
    ("openai/gpt-oss-120b", "mxfp4", "h100-sxm", {"max_model_len": 131072}),
    ("google/gemma-3-27b-it", "bf16", "h100-sxm", {}),
    ("Qwen/Qwen3.5-27B", "bf16", "h100-sxm", {}),
    (LLAMA_8B, "bf16", "gaudi2", {"version": "0.26"}),
    (LLAMA_8B, "bf16", "mi300x", {}),
    (LLAMA_8B, "bf16", None, {"ram": 64 * GIB, "count": 1}),
    (LLAMA_8B, "bf16", "gb10", {}),
    (LLAMA_8B, "bf16", "h100-sxm", {"engine": "tgi"}),
    (LLAMA_8B, "bf16", "h100-sxm", {"engine": "nim"}),
    (LLAMA_8B, "bf16", "h100-sxm", {"engine": "tensorrt_llm"}),
    (LLAMA_8B, "gguf:Q4_K_M", "rtx-4090", {"engine": "ollama"}),
    (LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", {"engine": "ollama", "ram": 64 * GIB}),
    (LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", {"engine": "llamacpp", "count": 2}),
    ("google/gemma-3-27b-it", "gguf:Q4_K_M", "rtx-4090", {"engine": "ollama", "kv": "q8_0"}),
    ("Qwen/Qwen3.5-27B", "gguf:Q4_K_M", "rtx-4090", {"engine": "ollama"}),
    (LLAMA_8B, "gguf:Q4_K_M", "m3-max", {"engine": "ollama", "ram": 64 * GIB}),
    (LLAMA_8B, "gguf:Q4_K_M", None, {"engine": "ollama", "ram": 16 * GIB, "count": 1}),
    (QWEN_MOE, "gguf:Q5_K_M", "strix-halo", {"engine": "llamacpp", "ram": 128 * GIB}),
]
IDS = [f"{m.split('/')[1]}-{q}-{a}-{'-'.join(map(str, o.values()))}" for m, q, a, o in MATRIX]


@pytest.mark.parametrize(("model", "quantization", "accelerator", "options"), MATRIX, ids=IDS)
def test_rows_add_up_to_the_device_and_explain_themselves(
    catalog: Catalog, model: str, quantization: str, accelerator: str | None, options: dict[str, Any]
) -> None:
    d = deploy(catalog, model, quantization, accelerator, **options)
    found = ledger(d)
    assert sum(row.bytes for row in found.rows) == found.device_bytes > 0
    assert len({row.item for row in found.rows}) == len(found.rows) == 7
    assert all(row.bytes >= 0 for row in found.rows if row.item != "free")
    assert (found.bytes_of("free") >= 0) or not found.fits
    assert all(row.formula and row.why for row in found.rows)
    assert found.fits == (found.shortfall_bytes == 0)
    short = fits(d)
    assert (short.fits, short.kv_cache_tokens, short.concurrent_sequences, short.shortfall_bytes) == (
        found.fits, found.kv_cache_tokens, found.concurrent_sequences, found.shortfall_bytes,
    )  # fmt: skip


def test_every_release_has_constants_of_known_origin(catalog: Catalog) -> None:
    for release in catalog.releases():
        assert release.memory is not None, release.engine
        assert all(value >= 0 for value in release.memory.coefficients.values())


@pytest.mark.parametrize(
    ("quantization", "accelerator", "options"),
    [
        ("bf16", "h200-sxm", {"tp": 8}),
        ("bf16", "b200", {"tp": 2, "pp": 2, "max_model_len": 2048}),
        ("gguf:Q4_K_M", "rtx-4090", {"engine": "ollama", "ram": 256 * GIB, "max_model_len": 2048}),
    ],
)
def test_every_model_of_the_catalog_has_a_ledger(
    catalog: Catalog, quantization: str, accelerator: str, options: dict[str, Any]
) -> None:
    count = 0
    for model in catalog.models():
        found = ledger(deploy(catalog, model.id, quantization, accelerator, **options))
        assert sum(row.bytes for row in found.rows) == found.device_bytes
        assert found.bytes_of("weights") > 0
        count += found.fits
    assert count > 100


# vLLM 0.26.0 on one H200 (139.80 GiB), 1024 sequences: KV tokens as the engine logged them.
@pytest.mark.parametrize(
    ("model", "quantization", "utilization", "context", "batched", "tokens"),
    [
        (LLAMA_8B, "bf16", 0.90, 8192, 16384, 891392),
        (LLAMA_8B, "bf16", 0.92, 16384, 8192, 919824),
        (LLAMA_70B, "awq", 0.90, 8192, 16384, 276176),
        (QWEN_MOE, "bf16", 0.90, 8192, 16384, 708336),
    ],
)
def test_kv_tokens_on_h200(
    catalog: Catalog, model: str, quantization: str, utilization: float, context: int, batched: int, tokens: int
) -> None:
    d = deploy(
        catalog, model, quantization, "h200-sxm", version="0.26", gpu_memory_utilization=utilization,
        max_model_len=context, max_num_batched_tokens=batched, max_num_seqs=1024,
    )  # fmt: skip
    assert ledger(d).kv_cache_tokens == pytest.approx(tokens, rel=0.01)


def test_a_later_release_on_another_card(catalog: Catalog) -> None:
    """vLLM 0.31.0 on an A100 80GB with its defaults logged 460,496 tokens, 56.21 GiB."""
    d = deploy(
        catalog, LLAMA_8B, "bf16", "a100-sxm4-80gb", version="0.33", gpu_memory_utilization=0.92,
        max_model_len=131072, max_num_batched_tokens=2048, max_num_seqs=256,
    )  # fmt: skip
    found = ledger(d)
    assert found.kv_cache_tokens == pytest.approx(460496, rel=0.01)
    assert found.concurrent_sequences == 3


# vLLM 0.10 and 0.11 sorted the logits in PyTorch: 9.5 fp32 copies instead of 3.5, graphs out of the reserve.
@pytest.mark.parametrize(
    ("model", "quantization", "accelerator", "total", "utilization", "batched", "sequences", "kv_gib"),
    [
        (LLAMA_8B, "bf16", "h100-sxm", 79.22, 0.9, 8192, 1024, 51.38),
        ("Qwen/Qwen3-32B", "bf16", "h100-sxm", 79.22, 0.9, 8192, 1024, 4.45),
        ("openai/gpt-oss-20b", "mxfp4", "h100-sxm", 79.22, 0.9, 8192, 1024, 50.28),
        ("Qwen/Qwen3-8B-FP8", "fp8-block", "l4", 22.16, 0.8662, 2048, 224, 8.98),
    ],
)
def test_the_law_carries_over_to_an_older_sampler(
    catalog: Catalog, model: str, quantization: str, accelerator: str, total: float, utilization: float,
    batched: int, sequences: int, kv_gib: float,
) -> None:  # fmt: skip
    d = deploy(
        catalog, model, quantization, accelerator, version="0.26", memory_bytes=int(total * GIB),
        gpu_memory_utilization=utilization, max_num_batched_tokens=batched, max_num_seqs=sequences,
    )  # fmt: skip
    assert d.engine.memory is not None
    old = {"v2_runner_dense": 0.0, "logit_copies_v1": 9.5, "graphs_deducted_v1": 0.0}
    memory = d.engine.memory.model_copy(update={"coefficients": {**d.engine.memory.coefficients, **old}})
    d = replace(d, engine=d.engine.model_copy(update={"memory": memory}))
    assert budget_of(d, 0).available_bytes / GIB == pytest.approx(kv_gib, rel=0.05)


# vLLM on Gaudi 2: utilisation of free memory, share for graphs, GiB of KV as logged.
@pytest.mark.parametrize(("utilization", "share", "kv_gib"), [(0.9, 0.1, 64.17), (0.5, 0.4, 23.75)])
def test_gaudi_applies_utilisation_to_free_memory(
    catalog: Catalog, utilization: float, share: float, kv_gib: float
) -> None:
    d = deploy(
        catalog, LLAMA_8B, "bf16", "gaudi2", version="0.26", gpu_memory_utilization=utilization,
        max_num_batched_tokens=2048,
    )  # fmt: skip
    assert d.engine.memory is not None
    memory = d.engine.memory.model_copy(
        update={"coefficients": {**d.engine.memory.coefficients, "gaudi_graph_share": share}}
    )
    found = ledger(replace(d, engine=d.engine.model_copy(update={"memory": memory})))
    assert found.bytes_of("kv_cache") / GIB == pytest.approx(kv_gib, rel=0.01)
    assert found.kv_cache_tokens % 128 == 0


@pytest.mark.parametrize(
    ("model", "quantization", "context", "ok"),
    [
        (LLAMA_70B, "fp8", 8192, False),
        ("Qwen/Qwen3-32B", "bf16", 32768, False),
        ("Qwen/Qwen3-32B", "bf16", 8192, True),
        (LLAMA_8B, "bf16", 131072, True),
        ("openai/gpt-oss-20b", "mxfp4", 131072, True),
    ],
)
def test_known_cases_on_one_h100(catalog: Catalog, model: str, quantization: str, context: int, ok: bool) -> None:
    d = deploy(
        catalog, model, quantization, "h100-sxm", gpu_memory_utilization=0.9, max_model_len=context, max_num_seqs=1024
    )
    assert ledger(d).fits is ok


@pytest.mark.parametrize(("model", "context"), [(LLAMA_70B, 8192), ("Qwen/Qwen3-32B", 32768), (LLAMA_8B, 131072)])
def test_the_shortfall_is_what_the_device_lacks(catalog: Catalog, model: str, context: int) -> None:
    quantization = "fp8" if model == LLAMA_70B else "bf16"
    size = {LLAMA_8B: 24 * GIB}.get(model, 77 * GIB)
    d = deploy(catalog, model, quantization, "h100-sxm", max_model_len=context, memory_bytes=size)
    found = ledger(d)
    assert not found.fits
    missing = math.ceil(found.shortfall_bytes / 0.92)
    larger = deploy(catalog, model, quantization, "h100-sxm", max_model_len=context, memory_bytes=size + missing + MIB)
    smaller = deploy(
        catalog, model, quantization, "h100-sxm", max_model_len=context, memory_bytes=size + missing - 64 * MIB
    )
    assert ledger(larger).fits
    assert not ledger(smaller).fits


@pytest.mark.parametrize(
    ("model", "accelerator", "engine"),
    [
        (LLAMA_8B, "rtx-4090", "vllm"),
        ("google/gemma-3-12b-it", "a100-sxm4-40gb", "vllm"),
        ("openai/gpt-oss-20b", "rtx-4090", "vllm"),
        (LLAMA_8B, "rtx-4090", "tgi"),
        ("Qwen/Qwen3-14B", "rtx-4090", "ollama"),
    ],
)
def test_the_largest_context_fits_and_a_tenth_more_does_not(
    catalog: Catalog, model: str, accelerator: str, engine: str
) -> None:
    quantization = {"openai/gpt-oss-20b": "mxfp4"}.get(model, "gguf:Q4_K_M" if engine == "ollama" else "bf16")
    first = ledger(
        deploy(catalog, model, quantization, accelerator, engine, max_num_seqs=16, max_num_batched_tokens=2048)
    )
    largest = first.largest_context_tokens
    assert largest > 8192
    for context in (largest * 99 // 100, largest * 11 // 10):
        d = deploy(
            catalog, model, quantization, accelerator, engine, max_model_len=context, max_num_seqs=16,
            max_num_batched_tokens=2048,
        )  # fmt: skip
        found = ledger(d)
        whole = found.fits and found.offloaded_layers == found.total_layers
        assert whole == (context <= largest) or largest == d.model.context_length


def test_the_fullest_stage_decides(catalog: Catalog) -> None:
    d = deploy(catalog, "Qwen/Qwen3-32B", "bf16", "h100-sxm", pp=3, max_num_seqs=1024)
    found = ledger(d)
    pools = [pool_of(d, stage, budget_of(d, stage).available_bytes).max_sequences for stage in range(3)]
    assert found.stage == pools.index(min(pools))
    assert found.kv_cache_tokens == pool_of(d, found.stage, budget_of(d, found.stage).available_bytes).tokens
    assert len(set(pools)) > 1


def test_kv_heads_are_replicated_beyond_their_number(catalog: Catalog) -> None:
    per_token = {
        tp: ledger(deploy(catalog, LLAMA_70B, "bf16", "h200-sxm", tp=tp)).kv_bytes_per_token for tp in (4, 8, 16)
    }
    assert per_token[4] == 2 * per_token[8]
    assert per_token[16] == per_token[8]


def test_data_parallel_attention_keeps_all_of_the_attention_and_a_share_of_the_experts(catalog: Catalog) -> None:
    tensor = ledger(deploy(catalog, "deepseek-ai/DeepSeek-R1", "fp8-block", "h200-sxm", tp=8))
    data = ledger(deploy(catalog, "deepseek-ai/DeepSeek-R1", "fp8-block", "h200-sxm", dp=8, ep=8))
    implied = ledger(deploy(catalog, "deepseek-ai/DeepSeek-R1", "fp8-block", "h200-sxm", dp=8))
    assert 1.1 < data.bytes_of("weights") / tensor.bytes_of("weights") < 1.4
    assert implied.bytes_of("weights") == data.bytes_of("weights")
    assert data.kv_bytes_per_token == tensor.kv_bytes_per_token


@pytest.mark.parametrize(
    ("engine", "version", "basis"),
    [("vllm", "0.26", "fitted"), ("vllm", "0.33", "inherited"), ("tgi", "", "uncalibrated"), ("nim", "", "inherited")],
)
def test_rows_say_what_they_rest_on(catalog: Catalog, engine: str, version: str, basis: str) -> None:
    found = ledger(deploy(catalog, LLAMA_8B, "bf16", "h100-sxm", engine, version))
    by_item = {row.item: row.basis for row in found.rows}
    assert by_item["weights"] == "exact"
    assert by_item["activations"] == by_item["cuda_graphs"] == by_item["runtime"] == basis


def test_tgi_keeps_a_tenth_and_counts_single_tokens(catalog: Catalog) -> None:
    found = ledger(deploy(catalog, LLAMA_8B, "bf16", "h100-sxm", "tgi", max_batch_prefill_tokens=4096))
    held = found.bytes_of("reserved") + found.bytes_of("cuda_graphs")
    assert held == pytest.approx(0.1 * found.device_bytes, rel=1e-6)
    fewer = ledger(deploy(catalog, LLAMA_8B, "bf16", "h100-sxm", "tgi", max_batch_prefill_tokens=32768))
    assert fewer.kv_cache_tokens < found.kv_cache_tokens


@pytest.mark.parametrize("model", [LLAMA_8B, "google/gemma-3-27b-it", "openai/gpt-oss-120b", "Qwen/Qwen3.5-27B"])
@pytest.mark.parametrize("available", [0, 3 * GIB + 12345, 40 * GIB])
def test_the_remembered_pool_is_the_pool(catalog: Catalog, model: str, available: int) -> None:
    d = deploy(catalog, model, "bf16", "h100-sxm", max_model_len=32768)
    direct = kv_pool(d.model, available, max_model_len=32768, layers=range(d.model.n_layers), rules=pool_rules(d))
    assert pool_of(d, 0, available) == direct


def test_shared_memory_leaves_the_system_its_part(catalog: Catalog) -> None:
    d = deploy(catalog, "Qwen/Qwen3-0.6B", "bf16", "jetson-orin-nano-8gb", gpu_memory_utilization=0.92)
    found = ledger(d)
    assert not found.fits
    assert "utilisation" in found.notes[0]
    most = largest_utilization(d)
    assert 0.5 < most < 0.92
    smaller = deploy(catalog, "Qwen/Qwen3-0.6B", "bf16", "jetson-orin-nano-8gb", gpu_memory_utilization=most)
    assert ledger(smaller).fits
    assert largest_utilization(deploy(catalog, LLAMA_8B, "bf16", "h100-sxm")) == 1.0


# --- layers: llama.cpp and Ollama ----------------------------------------------------------------


# Load logs of upstream builds: bytes of model buffers on the GPUs, MiB.
@pytest.mark.parametrize(
    ("model", "quantization", "on_gpu", "host"),
    [
        (LLAMA_8B, "gguf:Q4_0", 4155.99, 281.81),
        (LLAMA_70B, "gguf:Q4_K_S", 19142.56 + 18764.46, 563.65),
        (QWEN_MOE, "gguf:Q5_K_M", 20527.42, 204.0),
        ("google/gemma-3-12b-it", "gguf:Q5_K_M", 7.86 * 1024, 660.0),
    ],
)
def test_model_buffers_match_load_logs(
    catalog: Catalog, model: str, quantization: str, on_gpu: float, host: float
) -> None:
    sizes = layer_bytes(catalog.model(model), catalog.format(quantization), None)
    assert (sum(sizes.layers) + sizes.output) / MIB == pytest.approx(on_gpu, rel=0.002)
    assert sizes.embedding / MIB == pytest.approx(host, rel=0.25)


# Sum of the buffers of one or two devices: model + KV + compute, MiB (no context), upstream builds.
@pytest.mark.parametrize(
    ("model", "quantization", "accelerator", "count", "options", "mib"),
    [
        (LLAMA_70B, "gguf:Q4_K_S", "rtx-4090", 2, {"max_model_len": 8192}, 19142.56 + 18764.46 + 2560 + 266.5),
        (
            QWEN_MOE,
            "gguf:Q5_K_M",
            "strix-halo",
            1,
            {"max_model_len": 8192, "num_parallel": 4, "kv": "q8_0"},
            20527.42 + 1632 + 304.75,
        ),
    ],
)
def test_device_buffers_match_load_logs(
    catalog: Catalog, model: str, quantization: str, accelerator: str, count: int, options: dict[str, Any], mib: float
) -> None:
    d = deploy(catalog, model, quantization, accelerator, "llamacpp", count=count, **options)
    placement = place(shape_of(d), 1 << 40, count, False, None)
    assert sum(load.total for load in placement.devices) / MIB == pytest.approx(mib, rel=0.01)
    assert placement.on_gpu == placement.n == d.model.n_layers + 1


def test_two_devices_share_layers_as_llamacpp_logs_them(catalog: Catalog) -> None:
    """Two RTX 4090, Llama 70B Q4_K_S: 19142.56 MiB on the first, 18764.46 MiB on the second."""
    d = deploy(catalog, LLAMA_70B, "gguf:Q4_K_S", "rtx-4090", "llamacpp", count=2)
    weights = [load.weights / MIB for load in place(shape_of(d), 1 << 40, 2, False, None).devices]
    assert weights == pytest.approx([19142.56, 18764.46], abs=0.1)


def test_ollama_prefers_one_device_and_llamacpp_splits(catalog: Catalog) -> None:
    one, two = (
        ledger(deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", "rtx-4090", engine, count=2))
        for engine in ("ollama", "llamacpp")
    )
    assert one.bytes_of("weights") > 1.8 * two.bytes_of("weights")
    assert any("split over 2" in note for note in two.notes)
    large = ledger(deploy(catalog, LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", "ollama", count=2))
    assert large.fits
    assert any("split over 2" in note for note in large.notes)


def test_what_does_not_fit_the_gpu_goes_to_known_host_memory(catalog: Catalog) -> None:
    roomy = ledger(deploy(catalog, LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", "ollama", ram=64 * GIB))
    assert roomy.fits
    assert roomy.offloaded_layers is not None
    assert 30 < roomy.offloaded_layers < (roomy.total_layers or 0) == 81
    assert 18 * GIB < roomy.host_bytes < 22 * GIB
    assert f"{roomy.offloaded_layers} of 81 layers" in roomy.notes[0]
    unknown = ledger(deploy(catalog, LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", "ollama"))
    assert not unknown.fits
    assert unknown.shortfall_bytes > 15 * GIB
    tight = ledger(deploy(catalog, LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", "ollama", ram=16 * GIB))
    assert not tight.fits
    enough = ledger(
        deploy(catalog, LLAMA_70B, "gguf:Q4_K_M", "rtx-4090", "ollama", ram=16 * GIB + tight.shortfall_bytes * 12 // 10)
    )
    assert enough.fits


@pytest.mark.parametrize("most", [0, 1, 20, 33])
def test_num_gpu_limits_layers_and_nothing_is_lost(catalog: Catalog, most: int) -> None:
    d = deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", "rtx-4090", "ollama", ram=64 * GIB, num_gpu=most)
    found = ledger(d)
    assert found.offloaded_layers == most
    placement = place(shape_of(d), 22 * GIB, 1, True, most)
    weights = sum(load.weights for load in placement.devices) + placement.host.weights
    assert weights == layer_bytes(d.model, d.quantization, None).total
    assert sum(load.kv for load in placement.devices) + placement.host.kv == 8192 * 131072


def test_kv_is_context_times_slots(catalog: Catalog) -> None:
    one, four = (ledger(deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", "rtx-4090", "ollama", num_parallel=n)) for n in (1, 4))
    assert one.bytes_of("kv_cache") == 8192 * 131072
    assert four.bytes_of("kv_cache") == 4 * one.bytes_of("kv_cache")
    assert (four.kv_cache_tokens, four.concurrent_sequences) == (4 * 8192, 4)


def test_cpu_leaves_memory_to_the_system(catalog: Catalog) -> None:
    found = ledger(deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", None, "ollama", count=1, ram=16 * GIB))
    assert found.fits
    assert found.offloaded_layers == 0
    assert found.bytes_of("reserved") >= 1.5 * GIB
    small = ledger(deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", None, "ollama", count=1, ram=6 * GIB))
    assert not small.fits
    assert small.shortfall_bytes == -small.bytes_of("free")


def test_apple_may_use_part_of_its_memory(catalog: Catalog) -> None:
    found = ledger(deploy(catalog, LLAMA_8B, "gguf:Q4_K_M", "m3-max", "ollama", ram=64 * GIB))
    assert found.device_bytes == 64 * GIB
    assert found.bytes_of("reserved") == 16 * GIB
    assert "iogpu.wired_limit_mb" in found.notes[0]
    assert not ledger(deploy(catalog, LLAMA_70B, "gguf:Q8_0", "m3-max", "ollama", ram=64 * GIB)).fits


@pytest.mark.parametrize(
    ("quantization", "accelerator", "options"),
    [("bf16", "h100-sxm", {}), ("gguf:Q4_K_M", "rtx-4090", {"engine": "ollama", "ram": 64 * GIB})],
)
def test_a_warm_ledger_is_fast_enough_for_a_search(
    catalog: Catalog, quantization: str, accelerator: str, options: dict[str, Any]
) -> None:
    d = deploy(catalog, LLAMA_70B, quantization, accelerator, **options)
    ledger(d)
    start = time.process_time()
    for _ in range(200):
        ledger(d)
    assert (time.process_time() - start) / 200 < 600e-6
