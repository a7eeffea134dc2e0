"""lws.yaml and ray.yaml: one replica over several nodes, and Ray in an image that has it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.artifacts.ray import engine_kwargs
from planner.render.launch import plan_launch
from planner.sources.flags import check_flags, flag_list

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
TWO_NODES = {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}}


def filled(word: str, variables: dict[str, str]) -> str:
    """Kubernetes' expansion of $(NAME); `$$` is a literal dollar."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else variables[m[1]], word)


def group(make_plan: Any, objects_of: Any, **parts: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """(objects, words of the leader, words of a worker) with the controller's variables filled in."""
    found = objects_of(render(make_plan(**(TWO_NODES | parts)), ["lws"])["lws.yaml"])
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    words = []
    for role, index in (("leaderTemplate", "0"), ("workerTemplate", "1")):
        args = template[role]["spec"]["containers"][0]["args"]
        words.append([filled(word, {"LWS_LEADER_ADDRESS": "llm-0.llm.ns", "LWS_WORKER_INDEX": index}) for word in args])
    return found, words[0], words[1]


def test_every_node_joins_the_leader_with_the_planned_words(make_plan: Any, objects_of: Any) -> None:
    found, leader, worker = group(make_plan, objects_of)
    plan = make_plan(**TWO_NODES)
    planned = list(plan_launch(plan).args)
    for words, rank in ((leader, "0"), (worker, "1")):
        assert words[: len(planned)] == planned
        assert {"--nnodes=2", f"--node-rank={rank}", "--master-addr=llm-0.llm.ns"} <= set(words)
        assert check_flags(plan.resolved.engine, words) == ()
    assert flag_list(plan.resolved.engine) is not None
    assert "--headless" in worker and "--headless" not in leader
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 2
    for role in ("leaderTemplate", "workerTemplate"):
        (server,) = template[role]["spec"]["containers"]
        assert server["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert server["env"][0] == {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def test_only_leaders_answer_and_are_probed(make_plan: Any, objects_of: Any) -> None:
    found, _, _ = group(make_plan, objects_of)
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    leader, worker = template["leaderTemplate"], template["workerTemplate"]
    assert found["Service"]["spec"]["selector"] == leader["metadata"]["labels"] != worker["metadata"]["labels"]
    # the controller makes a headless Service of the set's name, and leaves one that is there as it is
    assert found["LeaderWorkerSet"]["metadata"]["name"] != found["Service"]["metadata"]["name"]
    assert "startupProbe" in leader["spec"]["containers"][0]
    assert not {"startupProbe", "livenessProbe", "ports"} & set(worker["spec"]["containers"][0])
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_group_is_drained_together_and_guarded(make_plan: Any, objects_of: Any, draining: Any) -> None:
    found, _, _ = group(make_plan, objects_of, release={"startup": draining})
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    leader, worker = (template[role]["spec"] for role in ("leaderTemplate", "workerTemplate"))
    slept = [int(x["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]) for x in (leader, worker)]
    assert slept[1] == slept[0] + draining.drain_s and all(
        x["terminationGracePeriodSeconds"] > s for x, s in zip((leader, worker), slept, strict=True)
    )
    labels = found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    for role in ("leaderTemplate", "workerTemplate"):
        assert labels.items() <= template[role]["metadata"]["labels"].items()
    policy = found["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    callers, peers = policy["ingress"]
    assert callers["ports"] == [{"port": "http", "protocol": "TCP"}] and "ports" not in peers
    assert peers["from"] == [{"podSelector": {"matchLabels": labels}}] == policy["egress"][0]["to"]


def test_the_nodes_meet_on_the_pods_interface(make_plan: Any, variables_of: Any) -> None:
    plan = make_plan(**TWO_NODES)
    for target in ("lws", "ray"):
        found = variables_of(render(plan, [target])[f"{target}.yaml"])
        assert found["GLOO_SOCKET_IFNAME"] == found["NCCL_SOCKET_IFNAME"] == "eth0"
    assert "NCCL_SOCKET_IFNAME" not in variables_of(render(make_plan(), ["ray"])["ray.yaml"])


def test_rdma_and_a_topology_are_asked_for_where_the_site_has_them(make_plan: Any, objects_of: Any) -> None:
    site = {"rdma": "rdma/ib=8", "topology_key": "cloud.google.com/gke-nodepool"}
    plan = make_plan(**TWO_NODES, request={"site": site})
    files = render(plan, ["lws", "ray", "kserve"])
    group_set = objects_of(files["lws.yaml"])["LeaderWorkerSet"]
    annotations = group_set["metadata"]["annotations"]
    assert annotations == {"leaderworkerset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    template = group_set["spec"]["leaderWorkerTemplate"]
    pool = objects_of(files["ray.yaml"])["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    pods = [template["leaderTemplate"], template["workerTemplate"], pool["template"]]
    for pod in pods:
        (server,) = pod["spec"]["containers"]
        assert server["resources"]["limits"]["rdma/ib"] == server["resources"]["requests"]["rdma/ib"] == "8"
        assert server["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
        assert pod["spec"]["securityContext"]["runAsUser"] == 0  # the capability is no other user's
    ranks = objects_of(files["kserve.yaml"])["LLMInferenceService"]["spec"]
    for rank in (ranks["template"], ranks["worker"]):
        (server,) = rank["containers"]
        leader = template["leaderTemplate"]["spec"]["containers"][0]
        assert server["resources"] == leader["resources"]  # a node's share, not the replica's
        assert server["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
        assert rank["securityContext"]["runAsUser"] == server["securityContext"]["runAsUser"] == 0
    plain = render(make_plan(**TWO_NODES), ["lws"])["lws.yaml"]
    assert "IPC_LOCK" not in plain and "--rdma" in plain and "annotations" not in yaml.safe_load_all(plain)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_topology_draws_the_pods_of_a_replica_together(make_plan: Any, objects_of: Any, replicas: int) -> None:
    site = {"topology_key": "topology.kubernetes.io/rack"}
    files = render(make_plan(**TWO_NODES, replicas=replicas, request={"site": site}), ["ray", "kserve"])
    cluster = objects_of(files["ray.yaml"])["RayService"]["spec"]["rayClusterConfig"]
    affinity = cluster["workerGroupSpecs"][0]["template"]["spec"]["affinity"]["podAffinity"]
    if replicas == 1:
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    else:  # one group of workers: a must would crowd both replicas into one rack
        (wish,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        term = wish["podAffinityTerm"]
    assert ("# Topology:" in files["ray.yaml"]) is (replicas == 2)
    assert term["topologyKey"] == site["topology_key"]
    assert term["labelSelector"]["matchLabels"]["ray.io/group"] == cluster["workerGroupSpecs"][0]["groupName"]
    assert "affinity" not in cluster["headGroupSpec"]["template"]["spec"]
    service = objects_of(files["kserve.yaml"])["LLMInferenceService"]["spec"]
    for role in ("template", "worker"):
        (own,) = service[role]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert own["topologyKey"] == site["topology_key"]
        assert own["matchLabelKeys"] == ["leaderworkerset.sigs.k8s.io/group-key"]


@pytest.mark.parametrize(
    ("engine", "parts", "reason"),
    [
        ("vllm", {}, "fits on a node"),
        ("tgi", TWO_NODES, "no multi-node launch"),
        ("vllm", TWO_NODES | {"parallelism": {"data": 2}}, "data-parallel ranks over nodes"),
        ("vllm", {"tensor": 3, "parallelism": {"pipeline": 3}, "machine": {"devices_per_node": 8}}, "do not divide"),
        ("vllm", TWO_NODES | {"model": {"checkpoint": "/home/me/model"}}, "path of this machine"),
    ],
)
def test_what_lws_cannot_start_is_refused(make_plan: Any, engine: str, parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, "cuda", **parts), ["lws"])


def test_other_devices_are_not_joined_over_nodes(make_plan: Any) -> None:
    with pytest.raises(UsageError, match="not for gaudi"):
        render(make_plan("vllm", "gaudi", **TWO_NODES), ["lws"])


@pytest.mark.parametrize(("parts", "workers"), [({}, 1), ({"replicas": 3}, 3), (TWO_NODES, 2)])
def test_ray_gets_the_planned_options_and_devices(
    make_plan: Any, objects_of: Any, parts: dict[str, Any], workers: int
) -> None:
    plan = make_plan(**parts)
    spec = objects_of(render(plan, ["ray"])["ray.yaml"])["RayService"]["spec"]
    cluster = spec["rayClusterConfig"]
    (pool,) = cluster["workerGroupSpecs"]
    assert pool["replicas"] == pool["maxReplicas"] == workers
    (server,) = pool["template"]["spec"]["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == pool["rayStartParams"]["num-gpus"]
    assert int(pool["rayStartParams"]["num-gpus"]) * workers == plan.best.hardware.count
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    assert (
        "ray" in server["image"]
        and server["image"] == cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    )
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    (config,) = application["args"]["llm_configs"]
    kwargs = config["engine_kwargs"]
    assert kwargs["tensor_parallel_size"] == plan.best.parallelism.tensor
    assert kwargs["max_model_len"] == 8192 and kwargs["gpu_memory_utilization"] == 0.9
    assert config["model_loading_config"]["model_id"] == plan.best.model.served_name
    assert config["deployment_config"]["num_replicas"] == plan.best.parallelism.replicas


def test_rays_head_reads_the_model_as_its_workers_do(make_plan: Any, objects_of: Any) -> None:
    """The application is built there: a gated model's configuration needs the token, and the cache is shared."""
    found = objects_of(render(make_plan(model={"gated": True}), ["ray"])["ray.yaml"])
    cluster = found["RayService"]["spec"]["rayClusterConfig"]
    head, worker = cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]
    ours, theirs = (x["spec"]["containers"][0] for x in (head, worker))
    for key in ("env", "envFrom", "volumeMounts", "image"):
        assert ours[key] == theirs[key], key
    assert "nvidia.com/gpu" not in ours["resources"]["limits"] and "nodeSelector" not in head["spec"]
    for server in (ours, theirs):
        ports = {port["name"]: port["containerPort"] for port in server["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server[probe]["httpGet"]["port"] in ports
    assert theirs["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    policy, labels = found["NetworkPolicy"]["spec"], {"app.kubernetes.io/instance": "llm-llama3-1-8b"}
    assert policy["podSelector"]["matchLabels"] == head["metadata"]["labels"] == worker["metadata"]["labels"] == labels
    operator = policy["ingress"][-1]
    assert 8265 in {port["port"] for port in operator["ports"]}


def test_options_become_keyword_arguments() -> None:
    words = ("m", "--max-model-len=8192", "--enable-expert-parallel", "--dtype=bfloat16", "--host=0.0.0.0", "--x=0.9")
    assert engine_kwargs(words) == {
        "max_model_len": 8192,
        "enable_expert_parallel": True,
        "dtype": "bfloat16",
        "x": 0.9,
    }


def test_a_revision_that_looks_like_a_number_stays_a_string(make_plan: Any) -> None:
    text = render(make_plan(model={"revision": "12345678"}), ["ray"])["ray.yaml"]
    service = next(d for d in yaml.safe_load_all(text) if d["kind"] == "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["llm_configs"][0]["engine_kwargs"]["revision"] == "12345678"


@pytest.mark.parametrize(
    ("platform", "parts", "reason"),
    [("rocm", {}, "built for NVIDIA"), ("cuda", {"choice": {"plugin": "vllm-bnb-plugin"}}, "holds no vLLM plugin")],
)
def test_what_the_image_with_ray_cannot_do_is_refused(
    make_plan: Any, platform: str, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan("vllm", platform, **parts), ["ray"])


@settings(max_examples=10, deadline=None)
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_they_are(make_plan: Any, objects_of: Any, checkpoint: str, served: str) -> None:
    model = {"checkpoint": "x" + checkpoint, "served_name": served}
    _, leader, _ = group(make_plan, objects_of, model=model)
    assert leader[0] == "x" + checkpoint and f"--served-model-name={served}" in leader
    spec = objects_of(render(make_plan(model=model), ["ray"])["ray.yaml"])["RayService"]["spec"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    loading = application["args"]["llm_configs"][0]["model_loading_config"]
    assert loading == {"model_id": served, "model_source": "x" + checkpoint}


def test_a_replica_over_nodes_gets_its_group_of_pods_unasked(make_plan: Any) -> None:
    assert "lws.yaml" in render(make_plan("vllm", "cuda", **TWO_NODES))
    assert "lws.yaml" not in render(make_plan("vllm", "cuda"))


def test_ray_refuses_options_that_its_own_vllm_does_not_know(make_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.render.arguments import vllm

    plan, plain = make_plan("vllm", "cuda"), vllm.arguments
    text = render(plan, ["ray"])["ray.yaml"]
    assert "options are checked against that release" in text and "ray-llm:2.58.0" in text
    monkeypatch.setattr(vllm, "arguments", lambda *a: (*plain(*a), "--option-of-a-later-release=1"))
    with pytest.raises(UsageError, match=r"0\.26\.0: unknown flag --option-of-a-later-release"):
        render(plan, ["ray"])
