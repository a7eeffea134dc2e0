"""Values of other projects' charts: strict by our schemas, and by the charts' own keys as documented."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.launch import plan_launch
from planner.validate import custom

NASTY = st.text(alphabet="'\"\\`$()}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)


def values(chart: str, plan: Any) -> dict[str, Any]:
    """The values file of `chart`, checked strictly."""
    read: dict[str, Any] = yaml.safe_load(render(plan, [chart])[f"{chart}.yaml"])
    assert custom.values_problems(chart, read) == ()
    return read


@pytest.mark.parametrize("chart", ["production-stack", "llm-d"])
@pytest.mark.parametrize("platform", ["cuda", "rocm"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_values_are_strictly_valid(make_plan: Any, chart: str, platform: str, replicas: int) -> None:
    # the ROCm image needs no other command; its capabilities are the chart's business
    values(chart, make_plan("vllm", platform, replicas=replicas))


def test_the_schemas_refuse_what_a_chart_does_not_know(make_plan: Any) -> None:
    read = values("production-stack", make_plan())
    read["servingEngineSpec"]["modelSpec"][0]["replicas"] = 1
    assert "replicas" in custom.values_problems("production-stack", read)[0]


def test_every_planned_word_is_said_once_by_the_stack(make_plan: Any) -> None:
    plan = make_plan(kv_cache_dtype="fp8", parallelism={"pipeline": 2})
    (model,) = values("production-stack", plan)["servingEngineSpec"]["modelSpec"]
    config = model["vllmConfig"]
    said = {
        f"--max-model-len={config['maxModelLen']}",
        f"--max-num-seqs={config['maxNumSeqs']}",
        f"--tensor-parallel-size={config['tensorParallelSize']}",
        f"--gpu-memory-utilization={config['gpuMemoryUtilization']}",
        f"--revision={model['modelRevision']}",
        "--host=0.0.0.0",
        "--port=8000",
        model["modelURL"],
        *config["extraArgs"],
    }
    assert said == set(plan_launch(plan).args)
    assert model["requestGPU"] == 4 and model["requestGPUType"] == "nvidia.com/gpu"


def test_the_stacks_pods_are_confined_and_have_time_to_answer(make_plan: Any, draining: Any) -> None:
    plan = make_plan("vllm", "cuda", image={"user": 2000}, release={"startup": draining})
    engine = values("production-stack", plan)["servingEngineSpec"]
    assert engine["securityContext"]["runAsUser"] == 2000
    assert engine["containerSecurityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(engine[f"{kind}Probe"]["timeoutSeconds"] >= 5 for kind in ("startup", "readiness", "liveness"))
    (model,) = engine["modelSpec"]
    (word,) = [w for w in model["vllmConfig"]["extraArgs"] if w.startswith("--shutdown-timeout=")]
    assert int(word.partition("=")[2]) < 30  # the chart leaves Kubernetes' own grace period
    assert model["pdb"] == {"enabled": True, "maxUnavailable": 1}
    rocm = values("production-stack", make_plan("vllm", "rocm"))["servingEngineSpec"]
    assert rocm["containerSecurityContext"]["capabilities"]["add"] == ["SYS_PTRACE"]
    assert rocm["securityContext"]["seccompProfile"] == {"type": "Unconfined"}


def test_llm_ds_pods_are_told_apart_confined_and_drained(make_plan: Any) -> None:
    read = values("llm-d", make_plan("vllm", "cuda", image={"user": 2000}))
    assert read["modelArtifacts"]["labels"]["llm-d.ai/model"] == "llm-llama3-1-8b"
    decode = read["decode"]
    (server,) = decode["containers"]
    assert decode["extraConfig"]["securityContext"]["runAsUser"] == 2000
    assert server["extraConfig"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    wait = int(server["extraConfig"]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert decode["terminationGracePeriodSeconds"] == 60 + wait and "livenessProbe" in server


def test_llm_d_starts_exactly_the_planned_words(make_plan: Any) -> None:
    plan = make_plan(replicas=2)
    decode = values("llm-d", plan)["decode"]
    (server,) = decode["containers"]
    launch = plan_launch(plan)
    assert server["modelCommand"] == "custom"
    assert tuple(server["command"]) == launch.entry and tuple(server["args"]) == launch.args
    assert decode["replicas"] == 2 and decode["parallelism"]["tensor"] == 2


@pytest.mark.parametrize("chart", ["production-stack", "llm-d"])
@pytest.mark.parametrize(
    ("engine", "platform", "parts", "reason"),
    [
        ("tgi", "cuda", {}, "plan with engine vllm"),
        ("vllm", "cpu", {}, "made for GPUs"),
        ("vllm", "cuda", {"image": {"entrypoint": ("python3", "-m", "server")}}, "cannot replace an entrypoint"),
        ("vllm", "cuda", {"model": {"checkpoint": "a/{{ .Values }}"}}, "no name of a Hugging Face repository"),
        (
            "vllm",
            "cuda",
            {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}},
            "a node has 8",
        ),
    ],
)
def test_what_the_chart_cannot_start_is_refused(
    make_plan: Any, chart: str, engine: str, platform: str, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, platform, **parts), [chart])


def test_a_served_name_that_is_a_template_is_refused(make_plan: Any) -> None:
    with pytest.raises(UsageError, match="evaluates templates"):
        render(make_plan(model={"served_name": "{{ .Release.Name }}"}), ["llm-d"])


@settings(max_examples=20, deadline=None)
@given(NASTY)
def test_a_hostile_served_name_stays_one_word(make_plan: Any, served: str) -> None:
    plan = make_plan(model={"served_name": served})
    (model,) = values("production-stack", plan)["servingEngineSpec"]["modelSpec"]
    words = [word.replace("$$", "$") for word in model["vllmConfig"]["extraArgs"]]
    assert f"--served-model-name={served}" in words
    assert re.fullmatch(r"[a-z0-9-]+", model["name"])
    read = values("llm-d", plan)
    assert read["modelArtifacts"]["name"] == served
    assert tuple(word.replace("$$", "$") for word in read["decode"]["containers"][0]["args"]) == plan_launch(plan).args
