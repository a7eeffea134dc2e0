"""Which nodes a pod may land on, and how long its first start may take."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from planner.errors import UsageError
from planner.render import render
from planner.sources.catalog import load

FAMILY = ("kubernetes", "helm", "kustomize", "openshift", "kserve")


def selectors(files: dict[str, str]) -> list[dict[str, str]]:
    """Every nodeSelector in the files."""
    found: list[dict[str, str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("nodeSelector"):
                found.append(node["nodeSelector"])
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                walk(item)

    for path, text in files.items():
        if path.endswith(".yaml") and "{{" not in text:
            walk(list(yaml.safe_load_all(text)))
    return found


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize(("architecture", "label"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_a_plan_for_a_cpu_lands_on_its_architecture(make_plan: Any, target: str, architecture: str, label: str) -> None:
    plan = make_plan("ollama", "cpu")
    cpu = next(cpu for cpu in load().cpus() if cpu.architecture == architecture)
    machine = plan.resolved.machine.model_copy(update={"cpu": cpu})
    plan = plan.model_copy(update={"resolved": plan.resolved.model_copy(update={"machine": machine})})
    assert {"kubernetes.io/arch": label} in selectors(render(plan, [target]))


def with_device(make_plan: Any, identifier: str) -> Any:
    """A vLLM plan whose nodes hold the catalogued accelerator."""
    plan = make_plan("vllm", "cuda", tensor=1)
    device = load().accelerator(identifier)
    machine = plan.resolved.machine.model_copy(update={"accelerator": device})
    return plan.model_copy(update={"resolved": plan.resolved.model_copy(update={"machine": machine})})


@pytest.mark.parametrize("target", FAMILY)
def test_an_intel_gpu_is_known_by_its_product_label(make_plan: Any, target: str) -> None:
    plan = with_device(make_plan, "gpu-max-1550")
    assert {"gpu.intel.com/product": "Max_1550"} in selectors(render(plan, [target]))


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize(
    ("identifier", "resource"),
    [("gaudi3", "habana.ai/gaudi"), ("arc-pro-b60", "gpu.intel.com/xe")],
)
def test_devices_that_no_label_tells_apart_are_said_to_be_alike(
    make_plan: Any, target: str, identifier: str, resource: str
) -> None:
    files = render(with_device(make_plan, identifier), [target])
    said = [text for text in files.values() if re.search(rf"# .*no label is known.*{resource}", text, re.IGNORECASE)]
    assert said and not selectors(files)
    assert not any("label is known" in text for text in render(make_plan(), [target]).values())


def test_every_target_allows_the_same_first_start(make_plan: Any) -> None:
    plan = make_plan("ollama", "cpu", limits={"startup_budget_seconds": 1290})
    files = render(plan, ["systemd", "windows", "docker", "compose", "kubernetes"])
    assert "TimeoutStartSec=1290" in files["systemd.service"] and "$StartBudgetSeconds = 1290" in files["windows.ps1"]
    assert "START_BUDGET_S:-1290" in files["docker-run.sh"] and "start_period: 1290s" in files["compose.yaml"]
    assert "failureThreshold: 129\n" in files["k8s.yaml"]


def test_s3_names_the_secret_that_kserve_reads(make_plan: Any, objects_of: Any) -> None:
    plan = make_plan("vllm", "cuda", request={"site": {"weights": "s3://bucket/llama", "registry": "mirror.example"}})
    files = render(plan, ["kserve", "preload"])
    secrets = objects_of(files["kserve.yaml"])["ServiceAccount"]["secrets"]
    assert secrets == [{"name": "s3-credentials"}]
    assert "AWS_SECRET_ACCESS_KEY=" in files["kserve.yaml"] and "serving.kserve.io/s3-endpoint" in files["kserve.yaml"]
    # compose, whose profile they are, is refused here
    assert "grafana" not in files["preload.sh"] and "vllm-openai" in files["preload.sh"]
    folder = {"weights": "dir:/srv/llama", "registry": "mirror.example"}
    assert "grafana" in render(make_plan("vllm", "cuda", request={"site": folder}), ["preload"])["preload.sh"]


def test_llama_server_names_the_repository_to_plan_with(make_plan: Any) -> None:
    plan = make_plan("ollama", "cuda", model={"ollama_tag": "llama3.1:8b"})
    spec = load().model("meta-llama/Llama-3.1-8B-Instruct")
    plan = plan.model_copy(update={"resolved": plan.resolved.model_copy(update={"model": spec})})
    with pytest.raises(UsageError, match=r"--engine llamacpp, .* from bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"):
        render(plan, ["llama-server"])
