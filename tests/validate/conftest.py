"""Plans of several engines and platforms, made once, and folders of their files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.spec.plan import Plan

PLANS: dict[str, dict[str, Any]] = {
    "vllm-h100": {"model": "llama3-8b", "gpus": "1xH100"},
    "vllm-tp2": {"model": "llama3-70b", "gpus": "2xA100"},
    "vllm-mi300x": {"model": "qwen3-30b-a3b", "gpus": "1xMI300X"},
    "tgi-gaudi": {"model": "llama3-8b", "gpus": "1xgaudi3"},
    "tgi-a100": {"model": "llama3-8b", "gpus": "1xA100", "engine": "tgi"},
    "ollama-cpu": {"model": "llama3-8b", "gpus": "cpu:epyc-9654", "ram": "64GiB", "engine": "ollama"},
    "llamacpp-cpu": {"model": "qwen3-8b", "gpus": "cpu:epyc-9654", "ram": "64GiB", "engine": "llamacpp"},
    "ollama-metal": {"model": "llama3-8b", "gpus": "1xM3-Max-64GB"},
}
MakePlan = Callable[..., Plan]


@cache
def _plan(name: str) -> Plan:
    return planner.recommend(**PLANS[name]).plan


@pytest.fixture(scope="session")
def plan_named() -> MakePlan:
    """`plan_named("vllm-h100")`."""
    return _plan


@pytest.fixture(params=PLANS)
def each_plan(request: pytest.FixtureRequest) -> Plan:
    return _plan(request.param)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    """The folder that `--save-dir` makes of a named plan."""

    def save(name: str) -> Path:
        planner.Recommendation(_plan(name)).save(tmp_path / name)
        return tmp_path / name

    return save
