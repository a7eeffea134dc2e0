"""Serving figures: queueing, monotony, percentiles, sharing of the load, and agreement with measurements."""

from __future__ import annotations

import csv
import math
import statistics
import time
from itertools import pairwise
from typing import Any

import pytest

from planner.estimate.deployment import Workload
from planner.estimate.serving import quick, serve
from planner.estimate.step import StepModel
from planner.resources import folder
from planner.sources.catalog import Catalog
from planner.spec.calibration import Calibration
from planner.spec.hardware import Accelerator
from planner.spec.plan import Percentiles, Performance

LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
POOL = 600_000
LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def itl(p: Performance) -> Percentiles:
    assert p.itl_ms is not None
    return p.itl_ms


def figures(p: Performance) -> list[float]:
    return [getattr(p.ttft_ms, k).value for k in ("mean", "p50", "p90", "p99")] + [
        getattr(itl(p), k).value for k in ("mean", "p50", "p90", "p99")
    ]


@pytest.mark.parametrize("engine", ["vllm", "tgi", "nim", "ollama"])
@pytest.mark.parametrize(("isl", "osl"), [(1024, 256), (128, 1024), (6000, 100)])
def test_more_concurrency_lowers_neither_throughput_nor_latency(
    engine: str, isl: int, osl: int, catalog: Catalog, deployed: Any
) -> None:  # fmt: skip
    d = deployed(LLAMA_8B, "h100-sxm", engine, "gguf:Q4_K_M" if engine == "ollama" else "bf16", slots=8)
    seen = [serve(d, Workload(isl, osl, c), catalog.calibration, POOL) for c in LADDER]
    for before, after in pairwise(seen):
        assert after.output_tokens_per_s.value >= 0.98 * before.output_tokens_per_s.value
        assert itl(after).mean.value >= 0.97 * itl(before).mean.value
        assert after.ttft_ms.mean.value >= 0.97 * before.ttft_ms.mean.value


@pytest.mark.parametrize("arrival", ["closed_loop", "burst", "poisson"])
@pytest.mark.parametrize("field", ["mem_bandwidth_bytes_per_s", "bf16_flops_per_s"])
def test_a_faster_device_is_never_slower(arrival: str, field: str, catalog: Catalog, deployed: Any) -> None:
    slow = catalog.accelerator("h100-sxm")
    fast = slow.model_copy(update={field: 1.3 * getattr(slow, field)})
    for concurrency in (1, 16, 200):
        load = Workload(1024, 200, concurrency, arrival, 5.0 if arrival == "poisson" else None)  # type: ignore[arg-type]
        before, after = (serve(deployed(LLAMA_8B, a), load, catalog.calibration, POOL) for a in (slow, fast))
        assert after.output_tokens_per_s.value >= 0.999 * before.output_tokens_per_s.value
        assert itl(after).mean.value <= 1.001 * itl(before).mean.value
        assert after.ttft_ms.mean.value <= 1.01 * before.ttft_ms.mean.value


@pytest.mark.parametrize("concurrency", [1, 7, 64, 300])
@pytest.mark.parametrize("arrival", ["closed_loop", "burst", "poisson"])
def test_percentiles_are_ordered_positive_and_finite(
    arrival: str, concurrency: int, catalog: Catalog, deployed: Any
) -> None:
    load = Workload(700, 120, concurrency, arrival, 0.2 * concurrency if arrival == "poisson" else None)  # type: ignore[arg-type]
    p = serve(deployed(LLAMA_8B, "a100-sxm4-80gb"), load, catalog.calibration, POOL)
    for latency in (p.ttft_ms, itl(p)):
        assert 0 < latency.p50.value <= latency.p90.value <= latency.p99.value < math.inf
        assert latency.p50.low < latency.p50.value < latency.p50.high
    assert p.total_tokens_per_s.value == pytest.approx(p.output_tokens_per_s.value * 820 / 120)
    assert p.requests_per_s.value == pytest.approx(p.output_tokens_per_s.value / 120)


@pytest.mark.parametrize("concurrency", [1, 8, 64, 256])
def test_a_closed_loop_obeys_littles_law(concurrency: int, catalog: Catalog, deployed: Any) -> None:
    found = quick(deployed(LLAMA_70B, "h100-sxm", tp=4), Workload(1000, 1000, concurrency), catalog.calibration, POOL)
    in_system = found.output_tokens_per_s / 1000 * (found.ttft_s + 999 * found.itl_s)
    assert in_system == pytest.approx(concurrency, rel=0.04)


def test_waiting_for_a_place_counts_into_the_first_token(catalog: Catalog, deployed: Any) -> None:
    load = Workload(512, 128, 64)
    free, held = (serve(deployed(LLAMA_8B, "h100-sxm", seqs=n), load, catalog.calibration, POOL) for n in (64, 4))
    service_ms = 127 * itl(held).mean.value
    assert held.ttft_ms.mean.value > 10 * service_ms
    assert held.ttft_ms.mean.value > 10 * free.ttft_ms.mean.value
    assert itl(held).mean.value < itl(free).mean.value
    assert held.effective_concurrency == 4


def test_a_small_kv_pool_admits_fewer_and_makes_the_rest_wait(catalog: Catalog, deployed: Any) -> None:
    d, load = deployed(LLAMA_8B, "h100-sxm"), Workload(2000, 500, 64)
    ample, scarce = (serve(d, load, catalog.calibration, pool) for pool in (POOL, 20_000))
    assert scarce.effective_concurrency < 10 < ample.effective_concurrency
    assert scarce.ttft_ms.mean.value > 5 * ample.ttft_ms.mean.value


def test_slots_of_ollama_queue_what_they_cannot_take(catalog: Catalog, deployed: Any) -> None:
    one = deployed(LLAMA_8B, "rtx-4090", "ollama", "gguf:Q4_K_M", slots=1)
    alone, four = (serve(one, Workload(500, 200, c), catalog.calibration, POOL) for c in (1, 4))
    service_ms = alone.ttft_ms.mean.value + 199 * itl(alone).mean.value
    assert four.ttft_ms.mean.value > 2.4 * service_ms
    assert four.output_tokens_per_s.value == pytest.approx(alone.output_tokens_per_s.value, rel=0.02)


def test_tgi_reserves_whole_answers_and_so_admits_fewer_than_vllm(catalog: Catalog, deployed: Any) -> None:
    load = Workload(500, 1500, 100)
    vllm, tgi = (serve(deployed(LLAMA_8B, "h100-sxm", e), load, catalog.calibration, 60_000) for e in ("vllm", "tgi"))
    assert tgi.effective_concurrency == 30
    assert vllm.effective_concurrency > tgi.effective_concurrency


def test_replicas_share_the_load_evenly(catalog: Catalog, deployed: Any) -> None:
    one = serve(deployed(LLAMA_8B, "h100-sxm"), Workload(1024, 256, 32), catalog.calibration, POOL)
    four = serve(deployed(LLAMA_8B, "h100-sxm", replicas=4), Workload(1024, 256, 128), catalog.calibration, POOL)
    assert four.output_tokens_per_s.value == pytest.approx(4 * one.output_tokens_per_s.value)
    assert four.ttft_ms.p99.value == pytest.approx(one.ttft_ms.p99.value)
    assert four.effective_concurrency == pytest.approx(one.effective_concurrency)


def test_a_burst_makes_the_last_prompts_wait_for_the_first(catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "h200-sxm")
    p = serve(d, Workload(1024, 64, 128, "burst"), catalog.calibration, POOL)
    sweep_ms = 1e3 * 128 * StepModel(d, catalog.calibration).prefill_s(1024.0)
    assert p.ttft_ms.p99.value == pytest.approx(sweep_ms, rel=0.25)
    assert 0.3 * sweep_ms < p.ttft_ms.mean.value < 0.8 * sweep_ms


def test_random_arrivals_wait_little_when_few_and_saturate_at_capacity(catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "h100-sxm", seqs=64)
    runs = [serve(d, Workload(1024, 256, 64, "poisson", r), catalog.calibration, POOL) for r in (0.1, 2.0, 6.0, 500.0)]
    alone_ms = 1e3 * StepModel(d, catalog.calibration).prefill_s(1024.0)
    assert runs[0].ttft_ms.mean.value < 1.6 * alone_ms + 15
    assert runs[0].requests_per_s.value == pytest.approx(0.1)
    assert [itl(r).mean.value for r in runs] == sorted(itl(r).mean.value for r in runs)
    assert runs[3].requests_per_s.value < 100
    assert runs[3].ttft_ms.p99.value > 3 * runs[1].ttft_ms.p99.value


def test_the_same_question_gets_the_same_answer(catalog: Catalog, deployed: Any) -> None:
    d, load = deployed(LLAMA_8B, "l40s"), Workload(900, 300, 37, "poisson", 3.0)
    assert serve(d, load, catalog.calibration, POOL) == serve(d, load, catalog.calibration, POOL)


@pytest.mark.parametrize(
    ("isl", "osl", "concurrency"), [(1024, 256, 32), (8192, 1024, 256), (128, 4096, 512), (30000, 200, 64)]
)
def test_an_estimate_costs_milliseconds(isl: int, osl: int, concurrency: int, catalog: Catalog, deployed: Any) -> None:
    d, load = deployed(LLAMA_70B, "h100-sxm", tp=4), Workload(isl, osl, concurrency)

    def best(call: object, n: int) -> float:
        assert callable(call)
        times = []
        for _ in range(n):
            begin = time.process_time()
            call(d, load, catalog.calibration, POOL)
            times.append(time.process_time() - begin)
        return min(times)

    assert best(serve, 3) < 0.1  # the third thrashes its KV cache
    assert best(quick, 10) < 0.002


def test_a_device_known_only_by_two_numbers_gets_wide_uncalibrated_figures(deployed: Any) -> None:
    from planner.spec.base import Provenance

    bare = Accelerator(
        id="new-chip", name="New chip", vendor="intel", platform="xpu", device_class="datacenter", architecture="New",
        memory_bytes=96 << 30, usable_memory_bytes=95 << 30, mem_bandwidth_bytes_per_s=2e12, bf16_flops_per_s=4e14,
        provenance=Provenance(source="a test", date="2026-01-01", basis="estimated"),
    )  # fmt: skip
    p = serve(deployed(LLAMA_8B, bare), Workload(1024, 256, 16), Calibration(), POOL)
    assert all(math.isfinite(v) and v > 0 for v in figures(p))
    assert itl(p).mean.basis == "uncalibrated"
    assert itl(p).mean.low < 0.5 * itl(p).mean.value
    assert itl(p).mean.high > 2 * itl(p).mean.value


def test_one_output_token_is_all_prefill(catalog: Catalog, deployed: Any) -> None:
    p = serve(deployed(LLAMA_8B, "h200-sxm"), Workload(2048, 1, 32), catalog.calibration, POOL)
    assert p.itl_ms is None
    assert p.requests_per_s.value * 2048 == pytest.approx(41_000, rel=0.2)


@pytest.mark.parametrize("concurrency", [1, 4, 32, 300])
@pytest.mark.parametrize("engine", ["vllm", "tgi", "nim"])
def test_rate_and_first_token_of_one_token_answers_agree(
    engine: str, concurrency: int, catalog: Catalog, deployed: Any
) -> None:
    p = serve(deployed(LLAMA_8B, "h100-sxm", engine), Workload(1024, 1, concurrency), catalog.calibration, POOL)
    assert p.requests_per_s.value * p.ttft_ms.mean.value / 1e3 == pytest.approx(concurrency)


def test_static_batches_on_h200_decode_as_measured(catalog: Catalog, deployed: Any) -> None:
    errors = []
    with (folder("catalog") / "measurements" / "vllm_h200.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["load"] != "static" or row["metric"] != "itl_ms_mean":
                continue
            step = StepModel(deployed(row["model"], "h200-sxm", "vllm", row["quantization"]), catalog.calibration)
            context = float(row["input_tokens"]) + float(row["output_tokens"]) / 2
            found = 1e3 * step.decode_s(float(row["concurrency"]), context)
            errors.append(abs(found / float(row["value"]) - 1))
    assert len(errors) > 15
    assert statistics.mean(errors) < 0.08
    assert max(errors) < 0.2


@pytest.mark.parametrize(
    ("model", "accelerator", "quantization", "tp", "concurrency", "isl", "osl", "ttft_ms", "itl_ms"),
    [
        (LLAMA_70B, "h200-sxm", "fp8", 2, 32, 1024, 1024, 272, 20.35),
        (LLAMA_70B, "h200-sxm", "fp8", 8, 16, 8192, 1024, 480, 13.36),
        ("openai/gpt-oss-120b", "h200-sxm", "mxfp4", 1, 32, 1024, 1024, 183, 17.64),
        ("Qwen/Qwen3-32B", "h100-sxm", "bf16", 4, 32, 1024, 1024, 178, 13.69),
    ],
)
def test_closed_loops_come_out_as_measured(
    model: str, accelerator: str, quantization: str, tp: int, concurrency: int, isl: int, osl: int, ttft_ms: float,
    itl_ms: float, catalog: Catalog, deployed: Any,
) -> None:  # fmt: skip
    kv = "fp8" if quantization == "fp8" else "bf16"
    d = deployed(model, accelerator, "vllm", quantization, tp=tp, kv=kv)
    p = serve(d, Workload(isl, osl, concurrency), catalog.calibration, 2_000_000)
    assert itl(p).mean.value == pytest.approx(itl_ms, rel=0.15)
    assert p.ttft_ms.mean.value == pytest.approx(ttft_ms, rel=0.35)
    assert itl(p).mean.basis == "fitted"
