"""k8s.yaml against Kubernetes' own schemas, and what the pods need to live."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.render import render
from planner.render.launch import plan_launch
from planner.spec.plan import Plan
from planner.units import MIB

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)


def objects(plan: Plan) -> dict[str, dict[str, Any]]:
    """Kind → object of k8s.yaml."""
    return {doc["kind"]: doc for doc in yaml.safe_load_all(render(plan, ["kubernetes"])["k8s.yaml"])}


def pod(plan: Plan) -> dict[str, Any]:
    spec: dict[str, Any] = objects(plan)["Deployment"]["spec"]["template"]["spec"]
    return spec


def expand(word: str, variables: dict[str, str] | None = None) -> str:
    """Kubernetes' expansion of $(NAME) in commands; `$$` is a literal dollar."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return (variables or {}).get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, word)


def test_kubernetes_accepts_it(any_plan: Plan) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    files = render(any_plan)
    if "k8s.yaml" not in files:
        assert any_plan.best.engine.platform in ("metal", "gaudi")
        return
    documents = list(yaml.safe_load_all(files["k8s.yaml"]))
    assert len(documents) >= 4
    for document in documents:
        for version in ("1.28", "1.35", "1.36", "1.37"):
            validator.validate(document, version, strict=True)
        assert "namespace" not in document["metadata"]


def test_the_validator_would_notice_an_unknown_key(make_plan: Any) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    document = objects(make_plan())["Deployment"]
    document["spec"]["replica"] = 1
    with pytest.raises(validator.ValidationError):
        validator.validate(document, "1.34", strict=True)


def test_the_server_gets_the_planned_words_and_devices(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda")
    (server,) = pod(plan)["containers"]
    assert tuple(map(expand, server["args"])) == plan_launch(plan).args
    assert "command" not in server
    limits = server["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == server["resources"]["requests"]["nvidia.com/gpu"] == "2"
    assert limits["memory"] == server["resources"]["requests"]["memory"] == "24576Mi"
    assert pod(plan)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert pod(plan)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("engine", "platform", "resource"),
    [("vllm", "rocm", "amd.com/gpu"), ("tgi", "gaudi", "habana.ai/gaudi"), ("vllm", "cpu", None)],
)
def test_the_vendors_own_resource_is_asked_for(
    make_plan: Any, engine: str, platform: str, resource: str | None
) -> None:
    limits = pod(make_plan(engine, platform))["containers"][0]["resources"]["limits"]
    assert set(limits) - {"memory"} == ({resource} if resource else set())


def test_without_a_product_label_the_gpu_must_be_large_enough(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", machine={"device": {"kubernetes_product_label": None}})
    terms = pod(plan)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (expression,) = terms[0]["matchExpressions"]
    assert expression["key"] == "nvidia.com/gpu.memory" and expression["operator"] == "Gt"
    accelerator = plan.resolved.machine.accelerator
    assert accelerator is not None
    assert (
        0.97 * accelerator.usable_memory_bytes / MIB
        < int(expression["values"][0])
        < accelerator.usable_memory_bytes / MIB
    )


@pytest.mark.parametrize(
    ("device", "selector"),
    [
        ({}, {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}),
        (
            {"kubernetes_product_label": None, "usable_memory_bytes": 274861129728},
            {"amd.com/gpu.vram": "256G"},
        ),
        ({"kubernetes_product_label": None, "unified_memory": True}, None),
    ],
)
def test_an_amd_node_is_found_by_product_or_by_the_labellers_rounded_memory(
    make_plan: Any, device: dict[str, Any], selector: dict[str, str] | None
) -> None:
    """ROCm/k8s-device-plugin's node labeller writes whole GiB: 192G, 256G."""
    assert pod(make_plan("vllm", "rocm", machine={"device": device})).get("nodeSelector") == selector


@pytest.mark.parametrize("budget", [61, 905, 7200])
def test_start_up_is_waited_for_as_long_as_planned(make_plan: Any, budget: int) -> None:
    """Liveness probes that start too early kill a model that is still loading."""
    plan = make_plan("vllm", "cuda", limits={"startup_budget_seconds": budget})
    probe = pod(plan)["containers"][0]["startupProbe"]
    assert 0 <= probe["periodSeconds"] * probe["failureThreshold"] - budget < probe["periodSeconds"]
    assert objects(plan)["Deployment"]["spec"]["progressDeadlineSeconds"] > budget


def test_shared_memory_is_a_volume_of_the_planned_size(make_plan: Any) -> None:
    """64 MiB of /dev/shm, a container's default, break tensor parallelism."""
    spec = pod(make_plan("vllm", "cuda", limits={"shm_bytes": 3 * 2**30}))
    (shm,) = [volume for volume in spec["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "3072Mi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_a_service_named_vllm_would_set_the_engines_own_variables(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", model={"served_name": "vllm"})
    assert objects(plan)["Service"]["metadata"]["name"] == "llm-vllm"
    assert pod(plan)["enableServiceLinks"] is False


@pytest.mark.parametrize(("gated", "optional"), [(True, False), (None, True)])
def test_the_token_is_a_secret(make_plan: Any, gated: bool | None, optional: bool) -> None:
    environment = pod(make_plan("vllm", "cuda", model={"gated": gated}))["containers"][0]["env"]
    (token,) = [entry for entry in environment if entry["name"] == "HF_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "hf-token", "key": "token", "optional": optional}


def test_an_open_model_needs_no_secret(make_plan: Any) -> None:
    assert "HF_TOKEN" not in str(objects(make_plan("vllm", "cuda", model={"gated": False})))


def test_the_servers_variables_are_a_config_map(any_plan: Plan, variables_of: Any) -> None:
    """They arrive as they are: Kubernetes expands `$(NAME)` in none of them, and a change makes new pods."""
    text = render(any_plan).get("k8s.yaml")
    if text is None:
        return
    launch, found = plan_launch(any_plan), variables_of(text)
    assert found == {**found, **launch.environment}
    if launch.engine == "vllm":
        mounts = pod(any_plan)["containers"][0]["volumeMounts"]
        assert found["HF_HOME"] in {mount["mountPath"] for mount in mounts if mount.get("subPath") == "weights"}


def test_a_changed_variable_makes_new_pods(make_plan: Any) -> None:
    def checksum(**parts: Any) -> str:
        annotations = objects(make_plan(**parts))["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    assert checksum() == checksum() != checksum(image={"environment": {"X": "1"}})


def test_the_pod_goes_ahead_of_batch_work(make_plan: Any) -> None:
    found = objects(make_plan("vllm", "cuda"))
    assert pod(make_plan("vllm", "cuda"))["priorityClassName"] == found["PriorityClass"]["metadata"]["name"]
    assert found["PriorityClass"]["preemptionPolicy"] == "Never"


def test_pods_are_confined(make_plan: Any) -> None:
    spec = pod(make_plan("vllm", "cuda", image={"user": 2000}))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 2000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = spec["containers"][0]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}
    rocm = pod(make_plan("vllm", "rocm"))
    assert rocm["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
    assert rocm["containers"][0]["securityContext"]["capabilities"]["add"] == ["SYS_PTRACE"]


def test_one_replica_is_recreated_and_several_share_a_volume(make_plan: Any) -> None:
    one, three = objects(make_plan("vllm", "cuda")), objects(make_plan("vllm", "cuda", replicas=3))
    assert one["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert one["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert three["Deployment"]["spec"]["replicas"] == 3
    assert three["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert three["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert one["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "40Gi"


def test_the_service_finds_the_pods(any_plan: Plan) -> None:
    if "k8s.yaml" not in render(any_plan):
        return
    found = objects(any_plan)
    assert found["Service"]["spec"]["selector"] == found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    (port,) = pod(any_plan)["containers"][0]["ports"]
    assert port["containerPort"] == found["Service"]["spec"]["ports"][0]["port"] == plan_launch(any_plan).port


def test_ollama_is_ready_once_its_model_is_loaded(make_plan: Any, bash: str, variables_of: Any) -> None:
    import subprocess

    plan = make_plan("ollama", "cuda")
    found = objects(plan)
    server = pod(plan)["containers"][0]
    assert server["command"] == ["/bin/sh", "/etc/planner/start.sh"]
    assert server["startupProbe"]["exec"]["command"] == ["test", "-f", "/tmp/model-ready"]
    assert found["ConfigMap"]["data"]["Modelfile"] == render(plan)["Modelfile"]
    subprocess.run([bash, "-n"], input=found["ConfigMap"]["data"]["start.sh"], text=True, check=True)
    names = variables_of(render(plan)["k8s.yaml"])
    assert names["MODEL"] == "llama3.1-8b" and names["OLLAMA_NUM_PARALLEL"] == "4"


@pytest.mark.parametrize("engine", ["vllm", "tgi", "llamacpp"])
@settings(max_examples=10, deadline=None)
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_one_word(make_plan: Any, engine: str, checkpoint: str, served: str) -> None:
    plan = make_plan(engine, "cuda", model={"checkpoint": "x" + checkpoint, "served_name": served})
    server = pod(plan)["containers"][0]
    assert tuple(expand(word, {"HOME": "expanded"}) for word in server["args"]) == plan_launch(plan).args
    for document in objects(plan).values():
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])
