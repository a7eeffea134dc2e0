"""kserve.yaml, openshift.yaml and kustomization.yaml: the planned server on other people's platforms."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.launch import plan_launch
from planner.spec.plan import Plan
from planner.validate import custom

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
TWO_NODES = {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}}


def expand(word: str) -> str:
    """Kubernetes reads `$$` as one dollar."""
    return word.replace("$$", "$")


def refused(plan: Plan, target: str) -> str | None:
    try:
        render(plan, [target])
    except UsageError as error:
        return str(error)
    return None


# --- KServe --------------------------------------------------------------------------------------


def test_kserve_starts_the_planned_server(any_plan: Plan, objects_of: Any) -> None:
    reason = refused(any_plan, "kserve")
    if reason is not None:
        assert any_plan.best.engine.platform in ("metal", "gaudi"), reason
        return
    found = objects_of(render(any_plan, ["kserve"])["kserve.yaml"])
    predictor, launch = found["InferenceService"]["spec"]["predictor"], plan_launch(any_plan)
    (server,) = predictor["containers"]
    assert server["name"] == "kserve-container" and server["image"] == launch.image
    if launch.engine != "ollama":
        assert tuple(map(expand, server["args"])) == launch.args
    assert predictor["minReplicas"] == predictor["maxReplicas"] == launch.replicas
    assert (
        found["PersistentVolumeClaim"]["metadata"]["name"]
        == predictor["volumes"][0]["persistentVolumeClaim"]["claimName"]
    )
    assert server["startupProbe"]["failureThreshold"] == launch.startup_failures


def test_the_presets_get_what_they_do_not_say_themselves(make_plan: Any, objects_of: Any) -> None:
    plan = make_plan(kv_cache_dtype="fp8", limits={"max_model_len": 4321})
    spec = objects_of(render(plan, ["kserve"])["kserve-llm.yaml"])["LLMInferenceService"]["spec"]
    assert spec["model"]["uri"].startswith("hf://meta-llama/Llama-3.1-8B-Instruct:0e9e39f2")
    assert spec["model"]["name"] == "llama3.1-8b" and spec["parallelism"] == {"tensor": 2}
    (main,) = spec["template"]["containers"]
    words = next(entry["value"] for entry in main["env"] if entry["name"] == "VLLM_ADDITIONAL_ARGS").split()
    assert "--max-model-len=4321" in words and "--kv-cache-dtype=fp8" in words
    assert not any(word.startswith(("--tensor", "--served", "--port", "--revision")) for word in words)
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_replica_over_two_nodes_is_an_llm_inference_service_alone(make_plan: Any, objects_of: Any) -> None:
    files = render(make_plan(**TWO_NODES), ["kserve"])
    found = objects_of(files["kserve.yaml"])
    spec = found["LLMInferenceService"]["spec"]
    assert "kserve-llm.yaml" not in files and "InferenceService" not in found
    for name in ("kserve.yaml", "PLAN.md"):
        assert "a replica of this plan takes 2 nodes" in files[name]
    assert spec["parallelism"] == {"tensor": 8, "pipeline": 2}
    for role in ("template", "worker"):
        assert spec[role]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_the_presets_are_for_vllm(make_plan: Any) -> None:
    files = render(make_plan("tgi", "cuda"), ["kserve"])
    reason = "LLMInferenceService starts vLLM, not tgi"
    assert "kserve-llm.yaml" not in files and reason in files["kserve.yaml"] and reason in files["PLAN.md"]
    both = render(make_plan(), ["kserve"])
    assert "apply one of the two" in both["kserve.yaml"] and "apply one of the two" in both["kserve-llm.yaml"]
    assert "kserve: " not in both["PLAN.md"]
    assert "no multi-node launch" in str(refused(make_plan("tgi", "cuda", **TWO_NODES), "kserve"))


# --- OpenShift -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_restricted_v2_leaves_user_and_capabilities_to_the_project(
    make_plan: Any, objects_of: Any, variables_of: Any, engine: str
) -> None:
    text = render(make_plan(engine, "cuda"), ["openshift"])["openshift.yaml"]
    found = objects_of(text)
    spec = found["Deployment"]["spec"]["template"]["spec"]
    (server,) = spec["containers"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert server["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    mounts = [mount["mountPath"] for mount in server["volumeMounts"]]
    assert not any(path.startswith("/root") for path in mounts)
    environment = variables_of(text)
    for name, value in environment.items():
        if name in ("HOME", "HF_HOME", "OLLAMA_MODELS", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"):
            assert any(value == path or str(value).startswith(path + "/") for path in mounts), name
    policy = found["NetworkPolicy"]["spec"]
    routers = {"namespaceSelector": {"matchLabels": {"policy-group.network.openshift.io/ingress": ""}}}
    assert routers in policy["ingress"][0]["from"]
    assert {53, 5353} <= {port["port"] for port in policy["egress"][0]["ports"]}  # what its DNS pods listen on
    assert found["Route"]["spec"]["to"]["name"] == found["Service"]["metadata"]["name"]
    assert found["Route"]["spec"]["port"]["targetPort"] == found["Service"]["spec"]["ports"][0]["name"]


def test_red_hats_image_takes_the_place_of_one_that_must_be_root(make_plan: Any, objects_of: Any) -> None:
    def servers(**parts: Any) -> dict[str, dict[str, Any]]:
        found = {}
        for path, text in render(make_plan(**parts), ["openshift"]).items():
            if path.startswith("openshift"):
                container = objects_of(text)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
                found[path] = container | {"said": "not verified there" in text}
        return found

    alone, both = servers(), servers(image={"arbitrary_user": True})
    assert set(alone) == {"openshift.yaml"} and set(both) == {"openshift.yaml", "openshift-redhat.yaml"}
    own = both["openshift.yaml"]
    assert own["image"] == "docker.io/vllm/vllm-openai:v0.33.0" and "command" not in own and not own["said"]
    for other in (alone["openshift.yaml"], both["openshift-redhat.yaml"]):
        assert other["image"].startswith("registry.redhat.io/") and other["command"] == ["vllm", "serve"]
        assert other["said"] and other["args"] == own["args"]


def test_red_hats_older_build_is_not_told_to_drain(make_plan: Any, objects_of: Any, draining: Any) -> None:
    plan = make_plan(image={"arbitrary_user": True}, release={"startup": draining})
    files = render(plan, ["openshift"])
    words = {
        path: objects_of(files[path])["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
        for path in ("openshift.yaml", "openshift-redhat.yaml")
    }
    assert "--shutdown-timeout=30" in words["openshift.yaml"]
    assert [w for w in words["openshift.yaml"] if "shutdown" not in w] == words["openshift-redhat.yaml"]


@pytest.mark.parametrize(
    ("engine", "platform", "reason"),
    [
        ("vllm", "rocm", "SYS_PTRACE"),
        ("vllm", "cpu", "unconfined seccomp"),
        ("tgi", "cuda", "only known to run as root"),
        ("ollama", "metal", "no access to the GPU"),
    ],
)
def test_what_restricted_v2_forbids_is_refused(make_plan: Any, engine: str, platform: str, reason: str) -> None:
    assert reason in str(refused(make_plan(engine, platform), "openshift"))


def test_a_plugin_cannot_be_installed_by_an_assigned_user(make_plan: Any) -> None:
    assert "derive an image" in str(refused(make_plan(choice={"plugin": "vllm-bnb-plugin"}), "openshift"))


# --- Kustomize -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "replicas"), [("vllm", 1), ("vllm", 2), ("ollama", 1)])
def test_kustomize_builds_the_overlay(
    make_plan: Any, objects_of: Any, tmp_path: Path, engine: str, replicas: int
) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    files = render(make_plan(engine, "cuda", replicas=replicas), ["kustomize"])
    for path in ("kustomization.yaml", "k8s.yaml"):
        (tmp_path / path).write_text(files[path])
    done = subprocess.run([kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True, check=True)
    built = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    plain = objects_of(files["k8s.yaml"])
    assert set(built) == set(plain)
    assert "namespace" not in built.pop("PriorityClass")["metadata"]  # an object of the whole cluster
    assert all(document["metadata"]["namespace"] == "llm" for document in built.values())
    ours, theirs = (x["Deployment"]["spec"]["template"]["spec"] for x in (plain, built))
    assert theirs == ours and theirs["priorityClassName"] == plain["PriorityClass"]["metadata"]["name"]
    assert built["Deployment"]["spec"]["replicas"] == replicas
    annotations = built["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations.pop("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false"
    assert annotations == plain["Deployment"]["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("slugs", "file"), [(["hpa"], "hpa.yaml"), (["keda"], "keda.yaml"), (["keda", "hpa"], "hpa.yaml")]
)
def test_kustomize_brings_the_autoscaler_that_sets_the_replicas(
    make_plan: Any, tmp_path: Path, slugs: list[str], file: str
) -> None:
    files = render(make_plan(), ["kustomize", *slugs])
    overlay = yaml.safe_load(files["kustomization.yaml"])
    assert overlay["resources"] == ["k8s.yaml", file] and "replicas" not in overlay
    if (kubectl := shutil.which("kubectl")) is not None:
        for path in ("kustomization.yaml", "k8s.yaml", file):
            (tmp_path / path).write_text(files[path])
        subprocess.run([kubectl, "kustomize", str(tmp_path)], capture_output=True, check=True)


def test_kustomize_pins_a_digest_as_one(make_plan: Any) -> None:
    digest = "sha256:" + "0" * 64
    plan = make_plan(choice={"image": f"vault:5000/vllm@{digest}"})
    (image,) = yaml.safe_load(render(plan, ["kustomize"])["kustomization.yaml"])["images"]
    assert image == {"name": "vault:5000/vllm", "newName": "vault:5000/vllm", "digest": digest}


# --- all -----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_one_word(make_plan: Any, objects_of: Any, checkpoint: str, served: str) -> None:
    plan = make_plan(model={"checkpoint": "x" + checkpoint, "served_name": served})
    files = render(plan, ["kserve", "openshift", "kustomize"])
    for path in ("kserve.yaml", "openshift.yaml"):
        found = objects_of(files[path])
        (spec,) = [s for d in found.values() for s in custom.pods(d)]
        assert tuple(map(expand, spec["containers"][0]["args"])) == plan_launch(plan).args
    model = objects_of(files["kserve-llm.yaml"])["LLMInferenceService"]["spec"]["model"]
    assert model["name"] == served and model["uri"].startswith(f"hf://x{checkpoint}:")
    assert re.fullmatch(r"[a-z0-9-]+", yaml.safe_load(files["kustomization.yaml"])["replicas"][0]["name"])
