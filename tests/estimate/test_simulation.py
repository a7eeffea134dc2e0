"""The simulated scheduler keeps what no scheduler may break: conservation, Little's law, order, determinism."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.estimate.deployment import Workload
from planner.estimate.pace import Pace
from planner.estimate.schedulers import policy
from planner.estimate.schedulers.simulation import Run, simulate
from planner.estimate.schedulers.speculative import Speculating
from planner.estimate.schedulers.traffic import arrival_times, longest_request, request_lengths
from planner.estimate.serving import serve
from planner.estimate.step import StepModel
from planner.sources.catalog import Catalog

LLAMA_8B = "meta-llama/Llama-3.1-8B"
POOL = 600_000
ENGINES = {
    "vllm": ("h100-sxm", "bf16"), "tgi": ("h100-sxm", "bf16"), "nim": ("h100-sxm", "bf16"),
    "ollama": ("rtx-4090", "gguf:Q4_K_M"),
}  # fmt: skip
LOADS = st.builds(
    Workload,
    input_tokens=st.integers(40, 3000),
    output_tokens=st.integers(1, 400),
    concurrency=st.integers(1, 40),
    arrival=st.sampled_from(["closed_loop", "burst", "poisson"]),
    request_rate=st.floats(0.5, 30),
    distribution=st.sampled_from(["fixed", "uniform", "lognormal"]),
    variation=st.floats(0.05, 1.0),
    shared_prefix_tokens=st.sampled_from([0, 0, 1, 39, 500]),
    speculative_tokens=st.sampled_from([0, 0, 3]),
    acceptance_rate=st.floats(0, 1),
    static_batches=st.sampled_from([False, False, True]),
    seed=st.integers(0, 9),
)
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Bench(dict[str, tuple[Any, StepModel]]):
    """A deployment and its steps per engine; short when a falsified example is printed."""

    def __repr__(self) -> str:
        return f"Bench({', '.join(self)})"


@pytest.fixture(scope="session")
def steps(catalog: Catalog, deployed: Any) -> Bench:
    made = Bench()
    for engine, (device, quantization) in ENGINES.items():
        d = deployed(LLAMA_8B, device, engine, quantization, slots=8, seqs=24)
        made[engine] = (d, StepModel(d, catalog.calibration))
    return made


def run(steps: Any, engine: str, load: Workload, pool: int = POOL, duration_s: float | None = None) -> Run:
    d, step = steps[engine]
    if load.speculative_tokens:
        step = Speculating(step, load.speculative_tokens, load.draft_cost)
    rate = load.request_rate if load.arrival == "poisson" else None
    return simulate(step, policy(d, load, pool), load, load.concurrency, rate, duration_s=duration_s)


@QUICK
@given(load=LOADS, engine=st.sampled_from(sorted(ENGINES)), pool=st.sampled_from([4_000, 20_000, POOL]))
def test_no_request_and_no_token_is_lost(load: Workload, engine: str, pool: int, steps: Any) -> None:
    found = run(steps, engine, load, pool, duration_s=2.0)
    served = (*found.start, *found.steady)
    assert len(served) + found.unfinished == found.sent
    assert found.unfinished <= load.concurrency or load.arrival == "poisson"
    drawn = request_lengths(load, policy(steps[engine][0], load, pool).length_spread)
    asked = [next(drawn) for _ in range(found.sent)]
    for request in served:
        lengths = (request.input_tokens, request.output_tokens)
        asked.remove(lengths)  # each of them once
        assert 0 <= request.queue_s <= request.ttft_s
        assert request.arrived_s + request.queue_s < request.ended_s
        assert (request.itl_s > 0) is (request.output_tokens > 1)
    assert len(asked) == found.unfinished


@QUICK
@given(load=LOADS, engine=st.sampled_from(sorted(ENGINES)))
def test_littles_law_holds(load: Workload, engine: str, steps: Any) -> None:
    load = replace(load, arrival="closed_loop")
    found = run(steps, engine, load, duration_s=5.0)
    assert found.in_system == pytest.approx(load.concurrency)
    front = steps[engine][1].front_end_s(float(load.input_tokens))
    served = (*found.start, *found.steady)
    assert all(s.ttft_s - front <= s.ended_s - s.arrived_s + 1e-9 for s in served)
    stays = sum(s.ended_s - s.arrived_s for s in served)
    assert stays <= load.concurrency * found.elapsed_s * (1 + 1e-9)
    if len(served) > 20 * load.concurrency:  # the last, unfinished round weighs little
        assert stays / found.elapsed_s == pytest.approx(load.concurrency, rel=0.06)


@pytest.mark.parametrize("rate", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("engine", ["vllm", "tgi", "nim"])
def test_littles_law_holds_for_random_arrivals(engine: str, rate: float, steps: Any) -> None:
    found = run(steps, engine, Workload(800, 200, 1, "poisson", rate), duration_s=400.0)
    stays = sum(s.ended_s - s.arrived_s for s in found.steady)
    assert stays / found.elapsed_s == pytest.approx(found.in_system, rel=0.03)
    assert len(found.steady) / found.elapsed_s == pytest.approx(rate, rel=0.05)


@QUICK
@given(load=LOADS, engine=st.sampled_from(sorted(ENGINES)))
def test_the_same_seed_gives_the_same_run(load: Workload, engine: str, steps: Any) -> None:
    assert run(steps, engine, load) == run(steps, engine, load)


def test_another_seed_gives_another_run_of_like_means(steps: Any) -> None:
    load = Workload(800, 200, 1, "poisson", 6.0, distribution="lognormal", variation=0.6)
    runs = [run(steps, "vllm", replace(load, seed=n), duration_s=300.0) for n in range(3)]
    assert len({r.steady for r in runs}) == 3
    means = [sum(s.itl_s for s in r.steady) / len(r.steady) for r in runs]
    assert max(means) < 1.1 * min(means)


@pytest.mark.parametrize("engine", ["vllm", "tgi", "nim"])
def test_a_higher_rate_never_shortens_the_wait(engine: str, catalog: Catalog, deployed: Any) -> None:
    d = deployed(LLAMA_8B, "h100-sxm", engine, seqs=64)
    loads = [Workload(1024, 256, 1, "poisson", 0.5 * 1.3**i) for i in range(16)]
    seen = [serve(d, load, catalog.calibration, POOL).ttft_ms.mean.value for load in loads]
    assert all(after >= 0.99 * before for before, after in itertools.pairwise(seen))
    assert seen[-1] > 5 * seen[0]


def test_jumping_over_like_steps_costs_what_each_of_them_does(steps: Any) -> None:
    d, step = steps["vllm"]
    load = Workload(512, 300, 8, "burst", same_lengths=True)
    found = simulate(step, policy(d, load, POOL), load, 8)
    begun = step.mixed_s(0.0, 0.0, 4096.0, 512.0)
    one_by_one = begun + sum(step.decode_s(8.0, 512.5 + i) for i in range(299))
    assert found.elapsed_s == pytest.approx(one_by_one, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "quantization"),
    [
        (LLAMA_8B, "fp8"), ("openai/gpt-oss-20b", "mxfp4"), ("Qwen/Qwen3-30B-A3B", "bf16"),
        ("deepseek-ai/DeepSeek-V3", "fp8"), ("google/gemma-3-27b-it", "bf16"), ("Qwen/Qwen3.5-27B", "bf16"),
    ],
)  # fmt: skip
def test_remembered_steps_are_the_steps_themselves(
    model: str, quantization: str, catalog: Catalog, deployed: Any
) -> None:
    plain = StepModel(deployed(model, "h200-sxm", quantization=quantization, tp=2), catalog.calibration)
    for step in (plain, Speculating(plain, 3, 0.1)):
        pace = Pace(step)
        for batch in (1.0, 7.0, 64.5):
            for context in (1.0, 100.0, 128.0, 129.0, 1023.5, 1024.0, 5000.0, 60_000.0):
                assert pace.decode_s(batch, context) == pytest.approx(step.decode_s(batch, context), rel=1e-9)
        assert pace.mixed_s(5.0, 64.0, 700.0, 1000.0) == step.mixed_s(5.0, 64.0, 700.0, 1000.0)
        near, exact = pace.mixed_s(30.0, 1015.0, 700.0, 1000.0), step.mixed_s(30.0, 1015.0, 700.0, 1000.0)
        assert near == pytest.approx(exact, rel=2e-3)


def test_a_sparse_indexers_steps_are_remembered_closely(catalog: Catalog, deployed: Any) -> None:
    step = StepModel(deployed("deepseek-ai/DeepSeek-V3.2", "h200-sxm", quantization="fp8", tp=8), catalog.calibration)
    assert step.curved
    pace = Pace(step)
    for context in (500.0, 2048.0, 3000.0, 40_000.0):
        assert pace.decode_s(32.0, context) == pytest.approx(step.decode_s(32.0, context), rel=1e-4)


def test_only_a_growing_cache_that_runs_full_evicts(steps: Any) -> None:
    load = Workload(500, 400, 24)
    evicted = {e: run(steps, e, load, 15_000, 60.0).preemptions for e in ("vllm", "tgi", "nim")}
    assert evicted["vllm"] > 0
    assert evicted["tgi"] == evicted["nim"] == 0
    assert run(steps, "vllm", load, POOL, 60.0).preemptions == 0
    scarce = run(steps, "vllm", load, 15_000, 60.0)
    assert 0.85 < scarce.kv_mean < scarce.kv_peak <= 1.0


def test_a_shared_prefix_is_computed_and_kept_once(steps: Any) -> None:
    load = Workload(2000, 100, 16)
    shared = replace(load, shared_prefix_tokens=1600)
    without, with_it = (run(steps, "vllm", w, POOL, 60.0) for w in (load, shared))
    first, rest = with_it.start[0], with_it.steady
    assert sum(s.ttft_s for s in rest) / len(rest) < 0.6 * sum(s.ttft_s for s in without.steady) / len(without.steady)
    assert first.ttft_s > 0
    assert with_it.kv_mean < 0.4 * without.kv_mean
    slots = run(steps, "ollama", replace(shared, concurrency=1), POOL, 60.0)
    assert slots.start[0].ttft_s > 3 * slots.steady[0].ttft_s  # only the first finds nothing


def test_accepted_drafts_speed_decoding_up_and_refused_ones_slow_it_down(steps: Any) -> None:
    plain = Workload(500, 300, 1)
    drafted = replace(plain, speculative_tokens=3, draft_cost=0.05)
    itl = {rate: run(steps, "vllm", replace(drafted, acceptance_rate=rate)).steady[0].itl_s for rate in (0.0, 0.6, 1.0)}
    alone = run(steps, "vllm", plain).steady[0].itl_s
    assert itl[1.0] < itl[0.6] < alone < itl[0.0]
    assert replace(drafted, acceptance_rate=1.0).tokens_per_step == 4
    assert replace(drafted, acceptance_rate=0.6).tokens_per_step == pytest.approx(1 + 0.6 + 0.36 + 0.216)


def test_nobody_joins_a_static_batch(steps: Any) -> None:
    load = Workload(500, 200, 40, "burst", distribution="uniform", variation=0.9, static_batches=True)
    found = run(steps, "vllm", load, POOL, 600.0)
    starts = sorted({round(s.arrived_s + s.queue_s, 9) for s in found.steady})
    assert len(starts) == 2  # 24 places for 40
    first = [s for s in found.steady if s.queue_s == 0]
    assert len(first) == 24
    assert max(s.ended_s for s in first) == pytest.approx(starts[1])
    joined = run(steps, "vllm", replace(load, static_batches=False), POOL, 600.0)
    assert joined.elapsed_s < found.elapsed_s


def test_tgi_lets_decoding_go_on_until_enough_prompts_wait(steps: Any) -> None:
    load = Workload(200, 300, 20)
    d, step = steps["tgi"]
    rules = policy(d, load, POOL)
    assert (rules.mixes, rules.wait_steps) == (False, 20)
    patient, eager = (
        simulate(step, r, load, 20, duration_s=60.0) for r in (rules, replace(rules, wait_steps=0, wait_share=0.0))
    )
    wait = [sum(s.queue_s for s in r.steady) / len(r.steady) for r in (patient, eager)]
    assert wait[0] > 3 * wait[1]
    assert wait[0] < 20 * float(step.decode_s(20.0, 500.0)) * 1.5


@pytest.mark.parametrize("kind", ["uniform", "lognormal"])
def test_lengths_have_the_mean_that_was_asked_for(kind: Any) -> None:
    load = Workload(1000, 300, 1, distribution=kind, variation=0.5)
    drawn = request_lengths(load, 0.1)
    pairs = [next(drawn) for _ in range(2000)]
    for column, mean in enumerate((1000, 300)):
        values = [p[column] for p in pairs]
        assert sum(values) / len(values) == pytest.approx(mean, rel=0.01)
        spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5 / mean
        assert spread == pytest.approx(0.5 if kind == "lognormal" else 0.5 / 3**0.5, rel=0.05)
    assert max(i + o for i, o in pairs) <= longest_request(load)


def test_measured_lengths_are_drawn_as_they_were() -> None:
    load = Workload(20, 3, 1, distribution="empirical", samples=((10, 1), (20, 2), (30, 6)))
    drawn = request_lengths(load, 0.1)
    seen = [next(drawn) for _ in range(300)]
    assert {seen.count(pair) for pair in ((10.0, 1.0), (20.0, 2.0), (30.0, 6.0))} <= set(range(95, 106))
    assert longest_request(load) == 36


def test_random_arrivals_have_the_mean_gap_and_the_spread_of_a_poisson_process() -> None:
    times = arrival_times(4000, 5.0, seed=3)
    assert times[-1] == pytest.approx(800)
    counts = [0] * 400
    for t in times:
        counts[min(399, int(t / 2))] += 1
    variance = sum((c - 10) ** 2 for c in counts) / 400
    assert variance == pytest.approx(10, rel=0.25)  # a Poisson count's variance is its mean


def test_ten_minutes_of_traffic_are_simulated_in_a_fraction_of_a_second(steps: Any) -> None:
    d, step = steps["vllm"]
    load = Workload(1024, 256, 64)
    rules = replace(policy(d, load, POOL), max_sequences=256.0)
    walls = []
    for _ in range(3):
        began = time.process_time()
        found = simulate(step, rules, load, 64, duration_s=600.0)
        walls.append(time.process_time() - began)
    assert len(found.steady) > 5000
    assert min(walls) < 0.6  # 0.2 s on an idle core
