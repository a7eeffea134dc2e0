"""Lint finds nothing in our own files, and each planted fault by the check that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.render.write import read_record
from planner.spec.plan import Plan
from planner.validate.lint import lint, read_folder, tools
from planner.validate.lint.documents import images, option_values, secrets
from planner.validate.verdict import Check

Saved = Callable[[str], Path]
PlanNamed = Callable[[str], Plan]


def by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_our_own_files_pass(each_plan: Plan) -> None:
    checks = lint(each_plan)
    assert [c for c in checks if c.status == "failed"] == []
    for check in checks:
        installed = "is not installed" not in check.detail
        assert check.status == "passed" or not installed or "no " in check.detail or "nothing" in check.detail, check


@pytest.mark.parametrize("name", ["vllm-h100", "ollama-cpu"])
def test_a_saved_folder_passes_as_it_lies(saved: Saved, plan_named: PlanNamed, name: str) -> None:
    checks = lint(plan_named(name), read_folder(saved(name)))
    assert [c for c in checks if c.status == "failed"] == []
    assert by_name(checks)["as rendered"].status == "passed"


Fault = tuple[str, str, str, str]
FAULTS: list[tuple[str, list[Fault]]] = [
    (
        "vllm-h100",
        [
            ("k8s.yaml", "--max-model-len=8192", "--max-model-len=4096", "limits equal"),
            ("docker-run.sh", "--max-num-seqs=32", "--max-num-seqs=64", "limits equal"),
            ("compose.yaml", "--max-num-seqs=32", "--max-num-sequences=32", "engine flags"),
            ("bench.sh", "set -euo pipefail", "if then", "shell syntax"),
            ("k8s.yaml", "vllm-openai:v0.33.0", "vllm-openai:latest", "no floating tag"),
            ("docker-run.sh", "vllm-openai:v0.33.0", "vllm-openai", "no floating tag"),
            ("k8s.yaml", 'nvidia.com/gpu: "1"', 'amd.com/gpu: "1"', "target platform"),
            ("PLAN.md", "# ", "# hf_" + "a1B2" * 9, "no secret"),
        ],
    ),
    (
        "vllm-h100",
        [
            ("compose.yaml", "--max-num-seqs=32", "--max-num-sequences=32", "limits equal"),
            ("k8s.yaml", "--max-num-seqs=32", "--max-num-seqs=many", "engine flags"),
            ("helm/values.yaml", "max-model-len: ", "max-model-lenn: ", "engine flags"),
            ("k8s.yaml", "replicas: 1", "replicass: 1", "Kubernetes schema"),
            ("compose.yaml", "services:", "servces:", "compose config"),
        ],
    ),
    (
        "vllm-h100",
        [
            ("compose.yaml", "vllm-openai:v0.33.0", "vllm-openai-rocm:v0.33.0", "target platform"),
            ("docker-run.sh", "vllm-openai:v0.33.0", "vllm-openai:v0.9.0", "target platform"),
            ("helm/values.yaml", "vllm-openai:v0.33.0", "vllm-openai:v0.9.0", "target platform"),
            ("compose.yaml", "    environment:", "    environment:\n      DB_PASSWORD: correct4horse", "no secret"),
            ("bench.sh", "set -euo pipefail", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENG", "no secret"),
        ],
    ),
    ("vllm-h100", [("helm/values.yaml", "replicas: 1", "replicas: many", "helm lint")]),
    (
        "llamacpp-cpu",
        [
            ("compose.yaml", '"--ctx-size"\n    - "8192"', '"--ctx-size"\n    - "4096"', "limits equal"),
            ("docker-run.sh", "--parallel\n  1", "--parallel\n  3", "limits equal"),
            ("k8s.yaml", "--batch-size", "--batch-sizes", "engine flags"),
        ],
    ),
    (
        "ollama-cpu",
        [
            ("Modelfile", "PARAMETER num_ctx", "PARAMETER num_context", "Modelfile grammar"),
            ("k8s.yaml", "OLLAMA_NUM_PARALLEL", "OLLAMA_PARALLEL", "limits equal"),
        ],
    ),
]
IN_A_TOOLS_WORDS = frozenset({"compose config", "helm lint", "Modelfile grammar"})


@pytest.mark.parametrize(("name", "faults"), FAULTS)
def test_planted_faults_are_found(saved: Saved, plan_named: PlanNamed, name: str, faults: list[Fault]) -> None:
    files = read_folder(saved(name))
    for path, old, new, _ in faults:
        assert old in files[path], f"{path} does not hold {old!r}"
        files[path] = files[path].replace(old, new)
    found = by_name(lint(plan_named(name), files))
    for path, _, _, check in faults:
        assert found[check].status == "failed", found[check]
        place = "helm template" if path.startswith("helm/") else path
        assert check in IN_A_TOOLS_WORDS or place in found[check].detail, found[check]
    assert found["as rendered"].status == "failed"


@pytest.mark.parametrize(
    ("asked", "slugs"),
    [
        (
            {
                "model": "llama3.1-405b",
                "gpus": "16xH100",
                "engine": "vllm",
                "tensor_parallel": 8,
                "pipeline_parallel": 2,
            },
            ["lws", "ray", "kserve"],
        ),
        ({"model": "llama3-8b", "gpus": "1xH100", "engine": "nim"}, ["nim", "nim-operator"]),
    ],
    ids=["two-nodes", "nim"],
)
def test_targets_on_request_pass_as_they_are_written(asked: dict[str, Any], slugs: list[str]) -> None:
    """A worker's rank is the controller's to fill in, and NIM's device plugin is NVIDIA's."""
    result = planner.recommend(**asked)
    failed = [check for check in lint(result.plan, result.artifacts(slugs)) if check.status == "failed"]
    assert failed == []


def test_a_mirror_of_the_planned_image_is_no_other_image(saved: Saved, plan_named: PlanNamed) -> None:
    files = read_folder(saved("vllm-h100"))
    files["compose.yaml"] = files["compose.yaml"].replace("docker.io/vllm/", "registry.example:5000/mirror/")
    assert by_name(lint(plan_named("vllm-h100"), files))["target platform"].status == "passed"


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN_PATH: /run/secrets/hf_token",
        "HF_TOKEN=/run/secrets/hf_token",
        'HF_TOKEN="${HF_TOKEN:-}"',
        "- name: HF_TOKEN\n  valueFrom:\n    secretKeyRef: {name: hf-token}",
        "API_KEY: $(cat key)",
        "token: hf-token-of-the-namespace",
        "--api-key-env OPENAI_API_KEY",
    ],
)
def test_a_secret_that_is_only_named_is_none(text: str) -> None:
    assert secrets(text) == []


def test_a_missing_file_is_found(saved: Saved, plan_named: PlanNamed) -> None:
    files = read_folder(saved("vllm-h100"))
    del files["helm/templates/service.yaml"]
    found = by_name(lint(plan_named("vllm-h100"), files))
    assert found["as rendered"].status == "failed" and "helm/" in found["as rendered"].detail


def test_a_deleted_file_of_the_record_is_named(saved: Saved, plan_named: PlanNamed) -> None:
    folder, plan = saved("vllm-h100"), plan_named("vllm-h100")
    files, recorded = read_folder(folder), read_record(folder)
    assert by_name(lint(plan, files, recorded))["files"].status == "passed"
    del files["k8s.yaml"]
    check = by_name(lint(plan, files, recorded))["files"]
    assert check.status == "failed" and "'k8s.yaml' is missing" in check.detail
    assert by_name(lint(plan, files, ()))["files"].status == "skipped"


def test_a_container_on_a_mac_cannot_run(saved: Saved, plan_named: PlanNamed) -> None:
    files = read_folder(saved("ollama-metal")) | {"compose.yaml": "services: {}\n"}
    assert by_name(lint(plan_named("ollama-metal"), files))["target platform"].status == "failed"


def test_without_its_tools_a_check_is_skipped(plan_named: PlanNamed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda name: None)
    found = by_name(lint(plan_named("vllm-h100")))
    for name in ("helm lint", "helm template", "compose config", "shell syntax"):
        assert found[name].status == "skipped", name
    assert ".[validate]" in found["helm lint"].detail


def test_a_tool_that_breaks_is_no_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "find", lambda name: str(tmp_path / "missing"))
    assert tools.compose(tmp_path, floating=False)[0].status == "failed"


@pytest.mark.parametrize(
    "text",
    [
        "--x=8",
        '"--x", "8"',
        '- "--x"\n- "8"',
        "--x 8",
        'name: "--x"\n  value: "8"',
        "name: --x\n  value: 8",
        "--x: '8'",
    ],
)
def test_options_are_read_in_every_spelling(text: str) -> None:
    assert option_values(text, ["--x"]) == {"--x": ("8",)}
    assert option_values(text.replace("--x", "--xy"), ["--x"]) == {}


def test_images_are_read_with_their_defaults() -> None:
    text = "services:\n  a: {image: '${IMAGE:-r/a:1}'}\n  b: {image: '${IMAGE:?set it}'}\n"
    assert images("compose.yaml", text) == ["r/a:1"]
    assert images("run.sh", "planned_image=r/b:2\nIMAGE=x\n") == ["r/b:2"]


def test_objects_are_checked_by_the_oldest_and_the_newest_three_versions() -> None:
    assert tools.kubernetes_versions("1.37.0") == ("1.28", "1.35", "1.36", "1.37")
