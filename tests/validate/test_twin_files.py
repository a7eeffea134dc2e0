"""A twin on disk weighs what the ledger says in every format, and the engine reads its weights back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from planner.engine.load import load as load_checkpoint
from planner.engine.model import Model
from planner.errors import UsageError
from planner.sources.catalog import load
from planner.spec.model import ModelSpec
from planner.spec.plan import Plan
from planner.validate import smoke
from planner.validate.bench import make_bench
from planner.validate.twin import CONTEXT_TOKENS, make_twin, seeded_weights
from planner.validate.twin_files import planned_bytes, stored_bytes, write_twin
from tests.validate.test_twin import MODELS, of_model

PlanNamed = Callable[[str], Plan]
SAFETENSORS = (
    "fp32", "fp16", "bf16", "fp8", "fp8-dynamic", "fp8-block", "int8-w8a8", "int8-w8a16", "awq", "gptq-int4",
    "gptq-int8", "mxfp4", "nvfp4",
)  # fmt: skip
GGUF = tuple(f"gguf:{t}" for t in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_0", "MXFP4"))
ERRORS = {"fp32": 0.0, "fp16": 1e-3, "bf16": 8e-3, "gguf:F32": 1e-6, "gguf:F16": 1e-3, "gguf:BF16": 8e-3}
"""Largest error as a share of a tensor's largest value; quantized formats are given a third."""


def quantized(plan: Plan, form: str) -> Plan:
    return plan.model_copy(update={"best": plan.best.model_copy(update={"quantization": form})})


TYPES = {m.model_type: m for m in MODELS}
CASES = [(TYPES[kind], form) for kind in ("llama", "qwen3_moe", "gemma2") for form in (*SAFETENSORS, *GGUF)]
CASES += [(model, form) for model in MODELS for form in ("bf16", "awq", "gguf:Q5_K_M")]


@pytest.mark.parametrize(("model", "form"), dict.fromkeys(CASES), ids=lambda x: getattr(x, "model_type", x))
def test_bytes_are_the_ledgers_and_weights_come_back(
    plan_named: PlanNamed, model: ModelSpec, form: str, tmp_path: Path
) -> None:
    catalog = load()
    chosen = catalog.format(form)
    twin = make_twin(of_model(plan_named("vllm-h100"), model), chosen)
    weights = seeded_weights(twin.engine_config, "x")
    if form.startswith("gguf:") and twin.engine_config.mla:
        with pytest.raises(UsageError, match="reads no GGUF of"):
            write_twin(twin, weights, chosen, catalog, tmp_path)
        return
    path = write_twin(twin, weights, chosen, catalog, tmp_path)
    assert stored_bytes(path) == planned_bytes(twin, chosen, catalog)
    found = load_checkpoint(path)
    assert found.weights.keys() == weights.keys()
    for name, value in weights.items():
        error = float(np.abs(found.weights[name] - value).max() / np.abs(value).max())
        assert error <= ERRORS.get(form, 1 / 3), name


@pytest.mark.parametrize(
    "model", [m for m in MODELS if m.layers[0].mixers[0].kind != "mla"], ids=lambda m: m.model_type
)
def test_a_gguf_file_says_the_same_model(plan_named: PlanNamed, model: ModelSpec, tmp_path: Path) -> None:
    catalog = load()
    twin = make_twin(of_model(plan_named("vllm-h100"), model), catalog.format("gguf:F32"))
    weights = seeded_weights(twin.engine_config, "x")
    found = load_checkpoint(write_twin(twin, weights, catalog.format("gguf:F32"), catalog, tmp_path))
    tokens = [i * 7 % 256 for i in range(80)]
    a, b = Model(twin.engine_config, weights).logits(tokens), Model(found.config, found.weights).logits(tokens)
    assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max()


@pytest.mark.parametrize(
    ("name", "kind", "original"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3", 8192 * CONTEXT_TOKENS // 131072),
        ("deepseek-ai/DeepSeek-V2-Lite", "yarn", 13),
        ("deepseek-ai/DeepSeek-V3", "yarn", 13),
        ("google/gemma-3-12b-it", "linear", None),
    ],
)
@pytest.mark.parametrize("form", ["bf16", "gguf:F16"])
def test_stretched_positions_are_kept(
    plan_named: PlanNamed, name: str, kind: str, original: int | None, form: str
) -> None:
    catalog = load()
    model = catalog.model(name)
    assert model.rope_scaling is not None
    bench = make_bench(quantized(of_model(plan_named("vllm-h100"), model), form), catalog)
    kept = bench.twin.spec.rope_scaling
    assert kept is not None and (kept.kind, kept.original_context_length) == (kind, original)
    assert kept.factor == model.rope_scaling.factor and kind in bench.twin.summary
    ropes = [layer.rope for layer in bench.model.config.layers if layer.window is None]
    plain = make_bench(of_model(plan_named("vllm-h100"), model, rope_scaling=None), catalog)
    unstretched = [layer.rope for layer in plain.model.config.layers if layer.window is None]
    assert all(not np.array_equal(a.frequencies(), unstretched[0].frequencies()) for a in ropes)


def test_an_unknown_stretch_is_named(plan_named: PlanNamed) -> None:
    model = load().model("meta-llama/Llama-3.1-8B-Instruct")
    assert model.rope_scaling is not None
    odd = model.rope_scaling.model_copy(update={"kind": "longrope"})
    (check,) = smoke.smoke(of_model(plan_named("vllm-h100"), model, rope_scaling=odd), load())
    assert check.status == "skipped" and "longrope" in check.detail


@pytest.mark.parametrize("form", ["mlx-int4", "bnb-nf4", "gguf:Q3_K_M"])
def test_a_format_that_the_engine_does_not_read_is_said_not_replaced_in_silence(
    plan_named: PlanNamed, form: str
) -> None:
    bench = make_bench(quantized(plan_named("vllm-h100"), form), load())
    check = smoke._format(bench)
    assert check.status == "skipped"
    assert check.detail.startswith(f"{form}: ") and "the twin's weights are bf16" in check.detail
    assert smoke._weights(bench).status == "passed"


@pytest.mark.parametrize("form", ["awq", "gguf:Q4_K_M"])
def test_a_wrong_ledger_fails_the_format(plan_named: PlanNamed, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = quantized(plan_named("vllm-h100"), form)
    assert smoke._format(make_bench(plan, load())).status == "passed"
    monkeypatch.setattr("planner.validate.bench.planned_bytes", lambda *a: planned_bytes(*a) - 2)
    assert smoke._format(make_bench(plan, load())).status == "failed"
