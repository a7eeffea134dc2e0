"""Step times obey physics on every device, and scale as kernels do."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.estimate.deployment import Deployment
from planner.estimate.links import one_stage_bytes
from planner.estimate.shapes import shapes
from planner.estimate.step import MICRO_BATCH_TOKENS, OFFLOAD_TOKENS, StepModel, host_of, peaks
from planner.estimate.tensors import active_parameters
from planner.sources.catalog import Catalog
from planner.spec.calibration import Calibration
from planner.spec.hardware import Machine

LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
DENSE, MOE = "Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B"
TYPICAL = ("h100-sxm", "h200-sxm", "a100-sxm4-80gb", "l40s", "mi300x", "gaudi3", "rtx-4090", "t4")


def steps(deployment: Deployment, catalog: Catalog, **options: int) -> StepModel:
    return StepModel(deployment, catalog.calibration, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", TYPICAL)
def test_a_token_takes_at_least_reading_the_weights_once(device: str, catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, device)
    floor = 2 * active_parameters(d.model) / peaks(d.machine).bytes_per_s
    assert 0.95 * floor < steps(d, catalog).decode_s(1.0, 1.0) < 4 * floor


@pytest.mark.parametrize("device", TYPICAL)
def test_a_prompt_takes_at_least_its_flops_at_peak(device: str, catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, device)
    s = shapes(d.model, d.quantization, 1, 1, None, None)
    floor = (
        2 * s.quantized.elements * 4096 / peaks(d.machine).wide + 2 * s.plain.elements * 4096 / peaks(d.machine).wide
    )
    assert floor < steps(d, catalog).prefill_s(4096.0) < 12 * floor


@pytest.mark.parametrize("model", [LLAMA_8B, MOE, "openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3.5-27B"])
def test_more_work_never_takes_less_time(model: str, catalog: Catalog, deployed: Any) -> None:
    step = steps(deployed(model, "h200-sxm", tp=8), catalog)
    by_batch = [step.decode_s(b, 2000.0) for b in (1.0, 2.0, 8.0, 64.0, 512.0)]
    by_context = [step.decode_s(32.0, c) for c in (1.0, 128.0, 2000.0, 30000.0)]
    by_prompt = [step.prefill_s(t) for t in (1.0, 128.0, 2048.0, 8192.0)]
    for times in (by_batch, by_context, by_prompt):
        assert times == sorted(times)
        assert all(math.isfinite(t) and t > 0 for t in times)


def test_a_hundred_thousand_steps_at_once_equal_single_ones_and_take_under_a_second(
    catalog: Catalog, deployed: Any
) -> None:
    step = steps(deployed(MOE, "h100-sxm", tp=2), catalog)
    batch: Any = np.linspace(1.0, 512.0, 100_000)
    begin = time.perf_counter()
    times: Any = step.mixed_s(batch, 0.0 * batch + 1500.0, 0.0 * batch + 256.0, 0.0 * batch + 1024.0)
    assert time.perf_counter() - begin < 1.0
    for i in (0, 777, 99_999):
        assert times[i] == pytest.approx(step.mixed_s(float(batch[i]), 1500.0, 256.0, 1024.0))


def test_a_mixture_of_experts_decodes_one_stream_faster_than_a_dense_model_of_its_size(
    catalog: Catalog,
    deployed: Any,
) -> None:
    moe, dense = (steps(deployed(m, "h200-sxm"), catalog) for m in (MOE, DENSE))
    assert 3 * moe.decode_s(1.0, 500.0) < dense.decode_s(1.0, 500.0)
    assert moe.decode_s(32.0, 500.0) > 2 * moe.decode_s(1.0, 500.0)


def test_int4_wins_alone_and_loses_its_lead_in_a_crowd(catalog: Catalog, deployed: Any) -> None:
    wide, packed = (steps(deployed(LLAMA_70B, "h200-sxm", quantization=q, tp=2), catalog) for q in ("bf16", "awq"))
    gains = [wide.decode_s(b, 500.0) / packed.decode_s(b, 500.0) for b in (1.0, 64.0, 512.0)]
    assert gains[0] > 1.3
    assert gains[0] > gains[1] > gains[2]


def test_tensor_parallelism_over_pcie_is_slower_than_over_nvlink(catalog: Catalog, deployed: Any) -> None:
    linked = deployed(LLAMA_70B, "a100-sxm4-80gb", tp=4)
    bare = linked.machine.model_copy(update={"link": None})
    apart = deployed(LLAMA_70B, "a100-sxm4-80gb", tp=4, machine=bare)
    for tokens in (1.0, 256.0):
        assert steps(linked, catalog).decode_s(tokens, 500.0) < steps(apart, catalog).decode_s(tokens, 500.0)
    assert steps(apart, catalog).prefill_s(4096.0) > 1.5 * steps(linked, catalog).prefill_s(4096.0)


@pytest.mark.parametrize("model", [LLAMA_70B, MOE])
def test_more_devices_speed_a_step_up_by_less_than_their_number(model: str, catalog: Catalog, deployed: Any) -> None:
    one, four = (steps(deployed(model, "h200-sxm", tp=n), catalog).decode_s(8.0, 1000.0) for n in (1, 4))
    assert one / 4 < four < one


def test_layers_left_on_the_host_slow_decoding_down_step_by_step(catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "rtx-4090", "ollama", "gguf:Q4_K_M")
    times = [steps(d, catalog, gpu_layers=n).decode_s(1.0, 500.0) for n in (33, 32, 20, 8, 0)]
    assert times == sorted(times)
    assert times[-1] > 4 * times[0]


@pytest.mark.parametrize("layers", [33, 24, 8])
def test_long_prompts_of_layers_on_the_host_are_multiplied_on_the_device(
    layers: int, catalog: Catalog, deployed: Any
) -> None:
    d = deployed(LLAMA_8B, "rtx-4090", "ollama", "gguf:Q4_K_M")
    split, whole, host = (steps(d, catalog, gpu_layers=n) for n in (layers, 33, 0))
    few, many = OFFLOAD_TOKENS - 1.0, 2048.0
    share = layers / 33
    kept = share * whole.prefill_s(few) + (1.0 - share) * StepModel(
        d, catalog.calibration, host_of(d.machine)
    ).prefill_s(few)
    assert split.prefill_s(few) == pytest.approx(kept)
    bus = d.machine.pcie.bandwidth_bytes_per_s
    copied = (1.0 - share) * (many / MICRO_BATCH_TOKENS) * 4.4e9 / bus
    assert split.prefill_s(many) >= share * whole.prefill_s(many) + copied
    if layers < 33:
        assert (
            whole.prefill_s(many)
            < split.prefill_s(many)
            < 0.5
            * (
                share * whole.prefill_s(many)
                + (1.0 - share) * StepModel(d, catalog.calibration, host_of(d.machine)).prefill_s(many)
            )
        )
    assert host.decode_s(1.0, 500.0) > split.decode_s(1.0, 500.0) or layers == 0


def test_memory_that_is_one_has_nothing_to_copy(catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "m3-max", "ollama", "gguf:Q4_K_M")
    share = 20 / 33
    host = StepModel(d, catalog.calibration, host_of(d.machine)).prefill_s(2048.0)
    whole = steps(d, catalog, gpu_layers=33).prefill_s(2048.0)
    assert steps(d, catalog, gpu_layers=20).prefill_s(2048.0) == pytest.approx(share * whole + (1.0 - share) * host)


def test_releases_that_plan_a_step_after_the_last_leave_the_device_waiting(catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "h100-sxm")
    old = next(r for r in catalog.releases("vllm") if r.version.startswith("0.11"))
    new = next(r for r in catalog.releases("vllm") if r.version.startswith("0.14"))
    waits = [
        steps(replace(d, engine=old), catalog).decode_s(b, 500.0)
        - steps(replace(d, engine=new), catalog).decode_s(b, 500.0)
        for b in (1.0, 128.0)
    ]
    assert 1e-4 < waits[0] < 2e-3
    assert waits[1] > waits[0] + 127 * 1e-5


def test_attention_between_the_pieces_of_a_graph_costs_each_layer_a_wait(catalog: Catalog, deployed: Any) -> None:
    """vLLM 0.10 ran it so by default; 0.11 captures whole decode steps."""
    d = deployed(LLAMA_70B, "h200-sxm", tp=8)
    by_version = {r.version[:4]: r for r in catalog.releases("vllm")}
    pieces, whole = (steps(replace(d, engine=by_version[v]), catalog) for v in ("0.10", "0.11"))
    for batch in (1.0, 32.0):
        wait = pieces.decode_s(batch, 500.0) - whole.decode_s(batch, 500.0)
        assert wait == pytest.approx(80 * pieces.fit.values["piece_layer_s"])


def test_an_all_reduce_takes_two_stages_where_the_kernels_of_its_release_say_so(catalog: Catalog) -> None:
    def limits(device: str, version: str) -> list[float | None]:
        a = catalog.accelerator(device)
        release = next(r for r in catalog.releases("vllm") if r.version.startswith(version))
        machine = Machine(
            label=device, accelerator=a, count=8, devices_per_node=8,
            link=catalog.interconnect(a.link) if a.link else None,
            pcie=catalog.interconnect(a.pcie) if a.pcie else None,
        )  # fmt: skip
        return [one_stage_bytes(release.defaults, machine, n) for n in (2, 4, 8)]

    kib = 1024.0
    assert limits("h100-sxm", "0.10") == [None, 512 * kib, 256 * kib]
    assert limits("a100-sxm4-80gb", "0.26") == [None, 512 * kib, 256 * kib]
    assert limits("h100-sxm", "0.26") == [None, 2048 * kib + 1, 512 * kib + 1]  # the limit itself takes one stage
    assert limits("b200-sxm", "0.33") == [None, 4096 * kib + 1, 1024 * kib + 1]
    assert limits("h200-nvl", "0.26") == [None, 2048 * kib + 1, None]  # bridges join four
    assert limits("l40s", "0.26") == [None, None, None]
    assert limits("gaudi3", "0.26") == [None, None, None]


def test_norms_that_are_part_of_an_all_reduce_cost_no_launch_of_their_own(catalog: Catalog, deployed: Any) -> None:
    """Up to 2 MiB among four H100: 128 tokens of 8,192 values."""

    def saved(tp: int, batch: float, device: str = "h100-sxm") -> float:
        d = deployed(LLAMA_70B, device, quantization="fp8", tp=tp)
        apart = d.engine.model_copy(
            update={"defaults": d.engine.defaults.model_copy(update={"fused_all_reduce": False})}
        )
        fused, other = steps(d, catalog), steps(replace(d, engine=apart), catalog)
        return float(other.decode_s(batch, 500.0) - fused.decode_s(batch, 500.0)) / fused.fit.values["norm_s"]

    assert [saved(4, 1.0), saved(2, 1.0)] == pytest.approx([160, 160])
    assert saved(4, 128.0) > 159.9
    assert saved(4, 129.0) == pytest.approx(0, abs=1e-6)
    assert saved(1, 1.0) == 0
    assert saved(2, 1.0, "a100-sxm4-80gb") == saved(2, 1.0, "rtx-pro-6000-blackwell-server") == 0


def test_norms_of_heads_and_between_blocks_are_launches_of_their_own(catalog: Catalog) -> None:
    counted = {
        m: shapes(catalog.model(m), catalog.format("bf16"), 1, 1, None, None)
        for m in (LLAMA_8B, DENSE, "google/gemma-3-12b-it")
    }
    per_layer = {m: (s.norms / s.n_layers, s.inner_norms / s.n_layers) for m, s in counted.items()}
    assert per_layer == {LLAMA_8B: (2, 0), DENSE: (2, 1), "google/gemma-3-12b-it": (4, 1)}


def test_blocks_side_by_side_are_reduced_together(catalog: Catalog) -> None:
    for model, per_layer in (("tiiuae/falcon-180B", 1), (LLAMA_70B, 2)):
        s = shapes(catalog.model(model), catalog.format("bf16"), 8, 1, None, None)
        assert s.reductions == per_layer * s.n_layers


def test_fp8_kernels_of_hopper_slow_down_beyond_their_smallest_tile(catalog: Catalog, deployed: Any) -> None:
    step = steps(deployed(LLAMA_70B, "h200-sxm", quantization="fp8"), catalog)
    gains = [step.decode_s(b + 1.0, 500.0) / step.decode_s(b, 500.0) for b in (15.0, 16.0, 17.0)]
    assert gains[1] > 1.08
    assert max(gains[0], gains[2]) < 1.02
    other = steps(deployed(LLAMA_70B, "l40s", quantization="fp8", tp=4), catalog)
    assert other.decode_s(17.0, 500.0) < 1.02 * other.decode_s(16.0, 500.0)


@pytest.mark.parametrize("device", ["rtx-4090", "rtx-3090", "a100-sxm4-80gb", "l40s"])
def test_one_stream_of_4_bit_weights_is_bound_by_memory(device: str, catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, device, quantization="awq")
    s = shapes(d.model, d.quantization, 1, 1, None, None)
    packed, wide = steps(d, catalog), steps(deployed(LLAMA_8B, device), catalog)
    read = (s.quantized.bytes + s.plain.bytes + s.head.bytes) / peaks(d.machine).bytes_per_s
    assert 0.42 < read / packed.decode_s(1.0, 1.0) < 0.9
    assert wide.decode_s(1.0, 100.0) > 1.9 * packed.decode_s(1.0, 100.0)


def test_a_narrow_cache_and_a_sliding_window_make_long_contexts_cheaper(catalog: Catalog, deployed: Any) -> None:
    wide, narrow = (
        steps(deployed(LLAMA_8B, "h200-sxm", kv=k), catalog).decode_s(64.0, 16000.0) for k in ("bf16", "fp8")
    )
    assert narrow < wide
    windowed = steps(deployed("openai/gpt-oss-20b", "h200-sxm", quantization="mxfp4"), catalog)
    growth = windowed.decode_s(64.0, 32000.0) - windowed.decode_s(64.0, 16000.0)
    layers = catalog.model("openai/gpt-oss-20b").n_layers
    full = layers * 64 * 16000 * 8 * 64 * 2 * 2 / 4.8e12
    assert growth < 0.9 * full / 0.5


def test_every_plannable_accelerator_gets_times_with_and_without_calibration(catalog: Catalog, deployed: Any) -> None:
    for a in catalog.accelerators():
        if not a.plannable:
            continue
        local = a.platform == "metal" or a.device_class in ("consumer", "integrated", "embedded")
        d = deployed(LLAMA_8B, a, "llamacpp" if local else "vllm", "gguf:Q4_K_M" if local else "fp16")
        for calibration in (catalog.calibration, Calibration()):
            step = StepModel(d, calibration)
            for seconds in (step.decode_s(1.0, 100.0), step.prefill_s(512.0), step.mixed_s(4.0, 900.0, 128.0, 700.0)):
                assert math.isfinite(seconds)
                assert 0 < seconds < 600, a.id


def test_every_catalogued_model_gets_times(catalog: Catalog, deployed: Any) -> None:
    for model in catalog.models():
        step = steps(deployed(model.id, "h200-sxm", tp=8, quantization="fp8"), catalog)
        assert 0 < step.decode_s(1.0, 100.0) < 1.0, model.id
        assert step.prefill_s(2048.0) > 0
