"""Columns of candidates give what each candidate gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.estimate.batched import step_times
from planner.estimate.schedulers.speculative import Speculating
from planner.estimate.step import StepModel
from planner.sources.catalog import Catalog

MODELS = (
    "meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3",
    "google/gemma-3-27b-it", "Qwen/Qwen3.5-27B",
)  # fmt: skip


def test_every_row_equals_its_scalar_step(catalog: Catalog, deployed: Any) -> None:
    steps: list[Any] = [
        StepModel(deployed(m, "h200-sxm", quantization=q, tp=tp), catalog.calibration)
        for m in MODELS
        for q in ("bf16", "fp8")
        for tp in (1, 4)
    ]
    split = deployed(MODELS[0], "rtx-4090", "ollama", "gguf:Q4_K_M")
    steps += [StepModel(split, catalog.calibration, gpu_layers=12), Speculating(steps[0], 3, 0.1)]
    steps.append(StepModel(deployed(MODELS[0], "h100-sxm", pp=2), catalog.calibration))
    random = np.random.default_rng(1)
    n = 3000
    which, batch = random.integers(0, len(steps), n), random.integers(0, 300, n).astype(float)
    context, chunk, prompt = random.uniform(1, 30_000, n), random.choice([0.0, 1.0, 800.5, 8192.0], n), 900.0
    found = step_times(steps, which, batch, context, chunk, prompt)
    assert found.shape == (n,)
    for i in range(n):
        alone = steps[which[i]].mixed_s(float(batch[i]), float(context[i]), float(chunk[i]), prompt)
        assert found[i] == pytest.approx(alone, rel=1e-9)


def test_a_row_without_a_deployment_is_an_error(catalog: Catalog, deployed: Any) -> None:
    step = StepModel(deployed(MODELS[0], "h200-sxm"), catalog.calibration)
    assert step_times([step], [], [], []).shape == (0,)
    with pytest.raises(IndexError, match="there are 1"):
        step_times([step], [0, 1], 1.0, 100.0)
