"""An edited plan that no deployment could have is refused in one line; every plan that we write is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import planner
from planner.errors import UsageError
from planner.render.plan_file import dump_plan


@pytest.mark.parametrize(
    ("part", "changed", "told"),
    [
        ("limits", {"max_model_len": 9000}, r"max_model_len 9,000 exceeds the context .* up to 8,192 tokens"),
        ("limits", {"max_model_len": 1000}, r"max_model_len 1,000 is below .* at least 1,280"),
        ("limits", {"max_num_seqs": 0}, "max_num_seqs 0"),
        ("limits", {"gpu_memory_utilization": 1.5}, r"gpu_memory_utilization 1\.5"),
        ("parallelism", {"tensor": 3}, r"tensor 3 does not divide the 32 attention heads .* valid on 2 devices: 1, 2"),
        ("parallelism", {"tensor": 0}, "tensor 0 must be at least 1"),
        ("parallelism", {"pipeline": 64}, "pipeline 64 exceeds the 32 layers"),
        ("parallelism", {"tensor": 2, "replicas": 2}, "asks for 4 devices"),
        ("parallelism", {"prefill": 1}, "must leave one of 1 replicas"),
    ],
)
def test_an_impossible_edit_is_refused(tmp_path: Path, part: str, changed: dict[str, Any], told: str) -> None:
    plan = planner.recommend(model="llama3-8b", gpus="2xH100").plan
    edited = getattr(plan.best, part).model_copy(update=changed)
    bad = plan.model_copy(update={"best": plan.best.model_copy(update={part: edited})})
    path = tmp_path / "plan.yaml"
    path.write_text(dump_plan(bad))
    for read in (planner.generate, planner.validate):
        with pytest.raises(UsageError, match=told):
            read(path)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "llama3-8b", "gpus": "1xH100"},
        {"model": "llama3-70b", "gpus": "2xA100"},
        {"model": "llama3-8b", "gpus": "1xM3-Max-64GB"},
        {"model": "llama3-8b", "gpus": "3xRTX-4090", "engine": "ollama"},
    ],
)
def test_our_own_plans_are_sound(tmp_path: Path, asked: dict[str, Any]) -> None:
    plan = planner.recommend(**asked).plan
    path = tmp_path / "plan.yaml"
    path.write_text(dump_plan(plan))
    assert planner.api.load_plan(path) == plan
