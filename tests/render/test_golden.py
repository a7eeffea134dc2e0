"""Whole artifacts as people would review them: a change in any byte is shown by a diff.

Refresh with `pytest tests/render --update-golden` and read the diff.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.render import load_plan, render

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CASES: dict[str, dict[str, Any]] = {
    "vllm-2xa100": {"engine": "vllm", "platform": "cuda"},
    "vllm-mi300x-replicas": {"engine": "vllm", "platform": "rocm", "replicas": 2, "kv_cache_dtype": "fp8"},
    "tgi-gaudi": {"engine": "tgi", "platform": "gaudi"},
    "ollama-cpu": {"engine": "ollama", "platform": "cpu"},
    "ollama-apple": {"engine": "ollama", "platform": "metal"},
}
RECOMMENDED: dict[str, dict[str, str]] = {
    "recommend-llama3-70b-2xa100": {"model": "llama3-70b", "gpus": "2xA100"},
    "recommend-llama3-8b-t4": {"model": "llama3-8b", "gpus": "1xT4"},
    "recommend-llama3-8b-gaudi3": {"model": "llama3-8b", "gpus": "8xGaudi3"},
    "recommend-llama3-8b-m3-max": {"model": "llama3-8b", "gpus": "1xM3-Max-64GB"},
    "recommend-llama3-8b-cpu": {"model": "llama3-8b", "gpus": "cpu:epyc-9654", "ram": "64GiB"},
}
"""Requests answered by the advisor; plan.yaml, PLAN.md and the dashboard are left out: estimates are in them."""

TARGETS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "targets-vllm": (
        {"engine": "vllm", "platform": "cuda"},
        (
            *("kustomize", "hpa", "keda", "kserve", "openshift"),
            *("ray", "production-stack", "llm-d", "endpoints", "systemd"),
        ),
    ),
    "targets-two-nodes": (
        {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}},
        ("lws", "kserve", "ray"),
    ),
    "targets-ollama": ({"engine": "ollama", "platform": "cuda"}, ("systemd", "llama-server", "ollama-helm", "windows")),
    "targets-plugin": (
        {
            "engine": "vllm",
            "platform": "cuda",
            "choice": {"plugin": "vllm-bnb-plugin"},
            "machine": {"device": {"device_class": "workstation"}},
        },
        ("image", "windows"),
    ),
    "targets-made": (
        {
            "engine": "vllm",
            "platform": "cuda",
            "quantization": "awq",
            "model": {"checkpoint": "./Llama-3.1-8B-Instruct-awq"},
        },
        ("quantize",),
    ),
    "targets-apple": ({"engine": "ollama", "platform": "metal"}, ("launchd", "llama-server")),
}
"""Targets that are written when asked for; what is always written is left out."""


def stored(case: str) -> dict[str, str]:
    folder = GOLDEN / case
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("case", CASES)
def test_artifacts_are_the_stored_ones(make_plan: Any, pytestconfig: pytest.Config, case: str) -> None:
    # the chart's static files are the same in every case and are stored under templates/
    files = {
        path: text
        for path, text in render(make_plan(**CASES[case])).items()
        if not path.startswith("helm/") or path in ("helm/values.yaml", "helm/Chart.yaml")
    }
    compare(case, files, pytestconfig)


@pytest.mark.parametrize("case", RECOMMENDED)
def test_a_recommendation_gives_the_stored_artifacts(pytestconfig: pytest.Config, case: str) -> None:
    import planner

    files = planner.recommend(**RECOMMENDED[case]).artifacts()
    left_out = {"plan.yaml", "PLAN.md", "monitoring/dashboard.json"}
    kept = {"helm/values.yaml"}
    compare(
        case,
        {p: t for p, t in files.items() if p not in left_out and (p in kept or not p.startswith("helm/"))},
        pytestconfig,
    )


@pytest.mark.parametrize("case", TARGETS)
def test_asked_targets_are_the_stored_ones(make_plan: Any, pytestconfig: pytest.Config, case: str) -> None:
    parts, slugs = TARGETS[case]
    files = render(make_plan(**parts), slugs)
    kept = {p: t for p, t in files.items() if p not in ("plan.yaml", "PLAN.md", "bench.sh")}
    # a golden script is a text, not a module of ours
    compare(case, {f"{p}.txt" if p.endswith(".py") else p: t for p, t in kept.items()}, pytestconfig)


def test_nim_is_the_stored_one(pytestconfig: pytest.Config) -> None:
    import planner

    files = planner.recommend(model="llama3-8b", gpus="1xH100", engine="nim").artifacts(["nim", "nim-operator"])
    compare("targets-nim", {p: files[p] for p in ("nim.sh", "nim-operator.yaml")}, pytestconfig)


def compare(case: str, files: dict[str, str], pytestconfig: pytest.Config) -> None:
    """Against tests/golden/<case>, which `--update-golden` rewrites first."""
    folder = GOLDEN / case
    if pytestconfig.getoption("--update-golden", default=False):
        for old in [p for p in folder.rglob("*") if p.is_file()]:
            old.unlink()
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    golden = stored(case)
    assert sorted(files) == sorted(golden)
    for path, text in files.items():
        assert text == golden[path], f"{case}/{path} differs; see this module's docstring"


@pytest.mark.parametrize("case", CASES)
def test_a_stored_plan_gives_its_stored_files(case: str) -> None:
    golden = stored(case)
    again = render(load_plan(golden["plan.yaml"]))
    assert {path: again[path] for path in golden} == golden
