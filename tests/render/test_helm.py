"""helm/ through the real Helm: linted strictly, rendered, and equal to the plain manifests."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.render import render
from planner.render.launch import plan_launch
from planner.resources import folder
from planner.spec.plan import Plan

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
DIGEST = ("--set", "image.reference=vault/vllm@sha256:" + "0" * 64)


def chart(plan: Plan, out: Path) -> Path:
    for path, text in render(plan, ["helm"]).items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text)
    return out / "helm"


def run(helm: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm, *words],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


def template(helm: str, place: Path, *words: str, name: str = "demo") -> dict[str, dict[str, Any]]:
    done = run(helm, "template", name, str(place), *words)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout) if document}


def extra(plan: Plan) -> tuple[str, ...]:
    return () if plan_launch(plan).fixed_image else DIGEST


def container(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_helm_accepts_it_and_so_does_kubernetes(any_plan: Plan, helm: str, tmp_path: Path) -> None:
    if any_plan.best.engine.platform == "metal":
        return
    place = chart(any_plan, tmp_path)
    done = run(helm, "lint", "--strict", str(place), *extra(any_plan))
    assert done.returncode == 0, done.stdout + done.stderr
    objects = template(helm, place, *extra(any_plan))
    assert {"Deployment", "Service", "PersistentVolumeClaim", "ServiceAccount", "Pod"} <= set(objects)
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in objects.values():
        for version in ("1.35", "1.36", "1.37"):
            validator.validate(document, version, strict=True)


def test_it_says_the_same_as_the_plain_manifests(any_plan: Plan, helm: str, tmp_path: Path) -> None:
    files = render(any_plan)
    if "k8s.yaml" not in files:
        return
    plain = {document["kind"]: document for document in yaml.safe_load_all(files["k8s.yaml"])}
    charted = template(helm, chart(any_plan, tmp_path))
    ours, theirs = (x["Deployment"]["spec"] for x in (plain, charted))
    for key in ("replicas", "strategy", "progressDeadlineSeconds"):
        assert ours[key] == theirs[key], key
    ours, theirs = ours["template"]["spec"], theirs["template"]["spec"]
    keys = ("securityContext", "nodeSelector", "tolerations", "affinity", "terminationGracePeriodSeconds")
    assert ("topologySpreadConstraints" in ours) is ("topologySpreadConstraints" in theirs)
    for key in keys:
        assert ours.get(key) == theirs.get(key), key
    ours, theirs = ours["containers"][0], theirs["containers"][0]
    assert sorted(ours.get("args", [])) == sorted(theirs.get("args", []))
    assert {e["name"]: e for e in ours.get("env", [])} == {e["name"]: e for e in theirs.get("env", [])}
    for key in (
        "image", "command", "resources", "securityContext", "lifecycle",
        "startupProbe", "livenessProbe", "readinessProbe",
    ):  # fmt: skip
        assert ours.get(key) == theirs.get(key), key
    for kind, left_out in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        ours, theirs = ({k: v for k, v in x[kind]["spec"].items() if k != left_out} for x in (plain, charted))
        assert ours == theirs, kind
    assert plain["PersistentVolumeClaim"]["spec"] == charted["PersistentVolumeClaim"]["spec"]
    assert plain.get("ConfigMap", {}).get("data") == charted.get("ConfigMap", {}).get("data")


def test_every_planned_limit_is_a_value(make_plan: Any, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda")
    values = yaml.safe_load(render(plan)["helm/values.yaml"])
    for name, value in plan.best.limits.model_dump().items():
        if value is not None:
            assert values["planned"][name] == value
    assert values["flags"]["max-model-len"] == "8192"


def test_a_value_can_be_changed_and_large_numbers_keep_their_digits(make_plan: Any, helm: str, tmp_path: Path) -> None:
    place = chart(make_plan("vllm", "cuda"), tmp_path)
    override = tmp_path / "override.yaml"
    override.write_text("flags:\n  max-model-len: 10485760\n  enforce-eager: true\n  enable-lora: false\n")
    args = container(template(helm, place, "--values", str(override)))["args"]
    assert "--max-model-len=10485760" in args and "--enforce-eager" in args
    assert not any("enable-lora" in word for word in args)


def test_priority_budget_and_policy_are_switches(make_plan: Any, helm: str, tmp_path: Path) -> None:
    place = chart(make_plan("vllm", "cuda", replicas=2), tmp_path)
    plain = template(helm, place)
    assert "PriorityClass" not in plain and "priorityClassName" not in str(plain)
    (spread,) = plain["Deployment"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == plain["Deployment"]["spec"]["selector"]
    off = ("--set", "podDisruptionBudget.enabled=false,networkPolicy.enabled=false,spread=false,drainSeconds=0")
    made = template(helm, place, *off, "--set", "priorityClass.create=true")
    assert made["PriorityClass"]["value"] == 100000 and made["PriorityClass"]["preemptionPolicy"] == "Never"
    spec = made["Deployment"]["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == made["PriorityClass"]["metadata"]["name"]
    assert "topologySpreadConstraints" not in spec and "lifecycle" not in spec["containers"][0]
    assert not {"PodDisruptionBudget", "NetworkPolicy"} & set(made)
    named = template(helm, place, "--set", "priorityClass.create=true,priorityClass.name=gold")
    assert "PriorityClass" not in named
    assert named["Deployment"]["spec"]["template"]["spec"]["priorityClassName"] == "gold"


@pytest.mark.parametrize(
    "setting",
    ["surprise=1", "replicas=two", "image.reference=vllm/vllm-openai:latest", "security.privileged=true", "port=0"],
)
def test_the_schema_refuses_what_the_chart_does_not_know(
    make_plan: Any, helm: str, tmp_path: Path, setting: str
) -> None:
    place = chart(make_plan("vllm", "cuda"), tmp_path)
    done = run(helm, "template", "demo", str(place), "--set", setting)
    assert done.returncode != 0 and "values don't meet the specifications" in done.stderr


def test_a_floating_tag_needs_a_digest(make_plan: Any, helm: str, tmp_path: Path) -> None:
    done = run(helm, "template", "demo", str(chart(make_plan("vllm", "gaudi"), tmp_path)))
    assert done.returncode != 0 and "name the image by a digest" in done.stderr


def test_a_release_named_vllm_is_not_a_service_named_vllm(make_plan: Any, helm: str, tmp_path: Path) -> None:
    objects = template(helm, chart(make_plan("vllm", "cuda"), tmp_path), name="vllm")
    assert objects["Service"]["metadata"]["name"] == "vllm-llm-server"


def test_templates_hold_no_value_of_a_plan(any_plan: Plan) -> None:
    files = render(any_plan)
    for path, text in files.items():
        if path.startswith("helm/templates/"):
            assert text == (folder("templates") / path).read_text()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_one_word(
    make_plan: Any, helm: str, tmp_path: Path, checkpoint: str, served: str
) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "x" + checkpoint + "{{ .Release }}", "served_name": served})
    objects = template(helm, chart(plan, tmp_path))
    words = [re.sub(r"\$\$", "$", word) for word in container(objects)["args"]]
    assert sorted(words) == sorted(plan_launch(plan).args)
