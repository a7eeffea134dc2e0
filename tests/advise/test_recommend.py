"""The answers an expert would sign, scenario by scenario."""

from __future__ import annotations

import itertools

import pytest

import planner
from planner.errors import InfeasibleError


def test_2xa100_says_which_a100_and_that_fp16_leaves_little_cache() -> None:
    rec = planner.recommend(model="llama3-70b", gpus="2xA100")
    assert rec.best.engine.name == "vllm"
    assert any("SXM4 80 GB" in line for line in rec.plan.assumptions)
    assert any("Meta-Llama-3-70B-Instruct" in line for line in rec.plan.assumptions)
    bf16 = planner.estimate(model="llama3-70b", gpus="2xA100", tensor_parallel=2, engine="vllm", quantization="bf16")
    assert 2_000 < bf16.memory.kv_cache_tokens < 25_000
    assert rec.best.memory.kv_cache_tokens >= 32 * 1280 or rec.best.kv_cache_dtype == "fp8"


def test_1xa100_leads_to_four_bits_for_70b() -> None:
    rec = planner.recommend(model="llama3-70b", gpus="1xA100")
    assert rec.best.engine.name == "vllm"
    assert rec.best.quantization in {"awq", "gptq-int4"}


@pytest.mark.parametrize(
    ("model", "gpus", "options", "engine"),
    [
        ("llama3-70b", "8xH100", {}, "vllm"),
        ("llama3-70b", "1xMI300X", {}, "vllm"),
        ("llama3-70b", "8xGaudi3", {}, "tgi"),
        ("llama3-8b", "1xM3-Max-64GB", {}, "ollama"),
        ("llama3-70b", "1xM3-Max-64GB", {}, "ollama"),
        ("llama3-8b", "1xM2-8GB", {}, "ollama"),
        ("llama3-8b", "cpu", {"ram": "48GiB"}, "ollama"),
        ("llama3-70b", "cpu", {"ram": "48GiB"}, "ollama"),
        ("llama3-8b", "1xT4", {}, "vllm"),
        ("llama3-8b", "1xRTX-4090", {"require": ("kubernetes",)}, "vllm"),
        ("llama3-8b", "1xA100", {"require": ("watermark",)}, "tgi"),
        ("llama3-8b", "1xA100", {"require": ("managed",)}, "tgi"),
        ("llama3-8b", "1xA100", {"require": ("grammar",)}, "tgi"),
        ("llama3-8b", "1xA100", {"require": ("openshift",)}, "vllm"),
        ("llama3-8b", "1xA100", {"require": ("simple",)}, "ollama"),
    ],
)  # fmt: skip
def test_the_engine_is_the_one_the_guide_names(model: str, gpus: str, options: dict[str, object], engine: str) -> None:
    rec = planner.recommend(model=model, gpus=gpus, **options)
    assert rec.best.engine.name == engine
    assert rec.best.memory.fits
    assert rec.best.performance is not None
    assert any(step.engine == engine for step in rec.plan.trace)


@pytest.mark.parametrize(
    ("model", "gpus"), [("llama3-70b", "1xT4"), ("llama3-70b", "1xM2-8GB"), ("deepseek-r1", "1xL4")]
)
def test_what_cannot_fit_gets_a_ladder_that_works(model: str, gpus: str) -> None:
    with pytest.raises(InfeasibleError) as caught:
        planner.recommend(model=model, gpus=gpus)
    assert caught.value.remedies
    assert caught.value.rejected
    for remedy in caught.value.remedies:
        assert remedy.figures
        assert remedy.command.startswith("planner recommend --model")


def test_tgi_by_the_guide_comes_with_the_lifecycle_caution() -> None:
    rec = planner.recommend(model="llama3-8b", gpus="1xA100", require=("watermark",))
    assert rec.best.engine.name == "tgi"
    assert any("maintenance" in caution for caution in rec.plan.cautions)


def test_policy_maintained_refuses_tgi() -> None:
    rec = planner.recommend(model="llama3-70b", gpus="8xGaudi3", policy="maintained")
    assert rec.best.engine.name == "vllm"
    assert rec.best.engine.version.startswith("0.26")
    assert any(step.strength == "policy" for step in rec.plan.trace)


def test_an_explicit_target_that_nothing_meets_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="ITL"):
        planner.recommend(model="llama3-70b", gpus="1xA100", itl_ms=1.0)


def test_limits_are_the_planned_load() -> None:
    rec = planner.recommend(model="llama3-8b", gpus="1xH100", concurrency=48)
    layout = rec.best.parallelism
    assert rec.best.limits.max_num_seqs * layout.replicas * layout.data >= 48
    assert rec.best.limits.max_model_len >= 1280


def test_every_choice_has_a_reason_and_every_figure_a_basis() -> None:
    rec = planner.recommend(model="llama3-70b", gpus="2xA100")
    assert {"engine", "quantization", "parallelism", "context"} <= {r.subject for r in rec.best.reasons}
    performance = rec.best.performance
    assert performance is not None
    assert performance.itl_ms is not None
    for figure in (performance.ttft_ms.p50, performance.itl_ms.p99, performance.output_tokens_per_s):
        assert figure.low <= figure.value <= figure.high
        assert figure.basis in {"fitted", "inherited", "uncalibrated"}


def test_no_machine_means_a_search_of_the_catalog() -> None:
    rec = planner.recommend(model="llama3-8b")
    assert rec.best.hardware.accelerator is not None
    assert any("searched" in line for line in rec.plan.assumptions)


def test_compare_says_where_published_figures_contradict_themselves() -> None:
    result = planner.compare(model="llama3-8b", gpus="1xA100", concurrency=128)
    assert {row["engine"] for row in result.published} == {"vllm", "tgi", "ollama"}
    assert any(line.startswith("vllm: 128 users at 12 ms") for line in result.contradictions)
    assert {c.engine.name for c in result.configurations} == {"vllm", "tgi", "ollama"}


def test_fit_lists_models_best_first() -> None:
    rows = planner.fit(gpus="1xRTX-4090")
    assert len(rows) > 60
    met = [row for row in rows if row.meets_slo]
    assert rows[: len(met)] == tuple(met)
    assert all(a.parameters >= b.parameters for a, b in itertools.pairwise(met))
