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
    assert "startupProbe" in leader["spec"]["containers"][0]
    assert not {"startupProbe", "livenessProbe", "ports"} & set(worker["spec"]["containers"][0])
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


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
    service = list(yaml.safe_load_all(text))[-1]
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
