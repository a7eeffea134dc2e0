"""What the advisor plans can be written, read back, and is accepted by every validator."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.render import load_plan, render
from planner.render.launch import plan_launch, why_no_container
from planner.sources.flags import check_flags

REQUESTS: list[dict[str, Any]] = [
    {"model": "llama3-70b", "gpus": "2xA100"},
    {"model": "llama3-8b", "gpus": "4xMI300X", "engine": "vllm"},
    {"model": "llama3-8b", "gpus": "2xL4", "engine": "tgi"},
    {"model": "llama3-8b", "gpus": "1xRTX-4090", "engine": "ollama"},
    {"model": "llama3-8b", "gpus": "8xGaudi3"},
    {"model": "llama3-8b", "gpus": "1xM3-Max-64GB"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: "-".join(r.values()))
def test_a_recommendation_becomes_valid_files(
    request_: dict[str, Any], helm: str, docker_compose: str, bash: str, tmp_path: Path
) -> None:
    import planner

    recommendation = planner.recommend(**request_)
    plan = recommendation.plan
    for path in recommendation.save(tmp_path / "out"):
        if path.suffix == ".sh":
            subprocess.run([bash, "-n", str(path)], check=True)
    out = tmp_path / "out"
    files = render(load_plan((out / "plan.yaml").read_text()))
    assert files == {path: (out / path).read_text() for path in files}
    if why_no_container(plan) is None:
        assert check_flags(plan.resolved.engine, plan_launch(plan).args) == ()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    if (out / "compose.yaml").exists():
        words = [docker_compose, "--file", str(out / "compose.yaml"), "config", "--format", "json"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout and not done.stderr
    if (out / "helm").exists():
        subprocess.run([helm, "lint", "--strict", str(out / "helm")], env=environment, capture_output=True, check=True)
    if (out / "k8s.yaml").exists():
        validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        for document in yaml.safe_load_all((out / "k8s.yaml").read_text()):
            validator.validate(document, "1.34", strict=True)
