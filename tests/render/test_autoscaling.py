"""hpa.yaml and keda.yaml: the engine's own queue, at the plan's own capacity."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.scaling import promql, scaling
from planner.spec.plan import Plan
from planner.validate import custom

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
SCALED = ["vllm", "tgi"]


@pytest.mark.parametrize("engine", SCALED)
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_cluster_accepts_it(make_plan: Any, objects_of: Any, engine: str, replicas: int) -> None:
    files = render(make_plan(engine, "cuda", replicas=replicas), ["hpa", "keda"])
    hpa, keda = objects_of(files["hpa.yaml"]), objects_of(files["keda.yaml"])
    deployment = objects_of(files["k8s.yaml"])["Deployment"]
    assert custom.values_problems("prometheus-adapter", yaml.safe_load(files["prometheus-adapter.yaml"])) == ()
    scaler = hpa["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert keda["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (replicas, 2 * replicas)
    assert hpa["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(("engine", "metric"), [("vllm", "vllm:num_requests_waiting"), ("tgi", "tgi_queue_size")])
def test_each_engine_has_its_own_metric(make_plan: Any, engine: str, metric: str) -> None:
    files = render(make_plan(engine, "cuda"), ["hpa", "keda"])
    (rule,) = yaml.safe_load(files["prometheus-adapter.yaml"])["rules"]["custom"]
    scaler = next(yaml.safe_load_all(files["hpa.yaml"]))
    name = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert rule["name"]["as"] == name == metric.replace(":", "_")
    assert re.fullmatch(rule["name"]["matches"], metric) and rule["seriesQuery"].startswith(metric + "{")
    trigger = next(yaml.safe_load_all(files["keda.yaml"]))["spec"]["triggers"][0]["metadata"]
    assert trigger["query"].startswith(f"sum({metric}{{service=")
    assert ("model_name" in trigger["query"]) is (engine == "vllm")


def test_the_manifests_leave_the_number_of_replicas_to_the_scaler(make_plan: Any, objects_of: Any) -> None:
    """A fixed number would undo the scaler's on every apply, and a volume of one node would strand the second pod."""
    alone = objects_of(render(make_plan(), ["kubernetes"])["k8s.yaml"])
    scaled = objects_of(render(make_plan(), ["kubernetes", "hpa"])["k8s.yaml"])
    assert alone["Deployment"]["spec"]["replicas"] == 1 and "replicas" not in scaled["Deployment"]["spec"]
    assert scaled["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert scaled["Deployment"]["spec"]["strategy"]["type"] == "RollingUpdate"
    assert "topologySpreadConstraints" in scaled["Deployment"]["spec"]["template"]["spec"]


def test_the_threshold_is_what_the_first_token_objective_leaves(make_plan: Any) -> None:
    # 8.2 requests/s in all; p50 of the first token is 46.8 ms
    assert scaling(make_plan(request={"ttft_ms": 2046.8})).waiting == 16
    assert scaling(make_plan(replicas=2, request={"ttft_ms": 2046.8})).waiting == 8
    assert scaling(make_plan(request={"ttft_ms": 40})).waiting == 1
    assert scaling(make_plan(request={"ttft_ms": 1e9})).waiting == 64
    plan = make_plan()
    bare = plan.model_copy(update={"best": plan.best.model_copy(update={"performance": None})})
    assert scaling(bare).waiting == 8


@pytest.mark.parametrize("load_seconds", [1.0, 1700.0, 20000.0])
def test_a_slow_load_stays_within_what_kubernetes_takes(make_plan: Any, objects_of: Any, load_seconds: float) -> None:
    files = render(make_plan(limits={"load_seconds": load_seconds}), ["hpa", "keda"])
    objects_of(files["keda.yaml"])
    behavior = objects_of(files["hpa.yaml"])["HorizontalPodAutoscaler"]["spec"]["behavior"]
    assert 300 <= behavior["scaleDown"]["stabilizationWindowSeconds"] <= 3600
    for direction in behavior.values():
        assert 60 <= direction["policies"][0]["periodSeconds"] <= 1800


@pytest.mark.parametrize("target", ["hpa", "keda"])
@pytest.mark.parametrize(
    ("engine", "reason"),
    [("ollama", "exposes no metrics"), ("llamacpp", "only with --metrics")],
)
def test_an_engine_whose_queue_is_not_seen_is_refused(make_plan: Any, target: str, engine: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, "cuda"), [target])


def test_replicas_spread_drain_and_are_disrupted_one_at_a_time(make_plan: Any, objects_of: Any) -> None:
    one = objects_of(render(make_plan(), ["kubernetes"])["k8s.yaml"])
    many = objects_of(render(make_plan(replicas=3), ["kubernetes"])["k8s.yaml"])
    spec, single = (x["Deployment"]["spec"]["template"]["spec"] for x in (many, one))
    (spread,) = spec["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == many["Deployment"]["spec"]["selector"]["matchLabels"]
    assert many["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == spread["labelSelector"]["matchLabels"]
    assert many["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    wait = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] == single["terminationGracePeriodSeconds"] == 60 + wait
    assert "topologySpreadConstraints" not in single
    assert one["PodDisruptionBudget"]["spec"] == many["PodDisruptionBudget"]["spec"]


def test_only_the_servers_port_is_open_and_weights_can_be_fetched(any_plan: Plan, objects_of: Any) -> None:
    files = render(any_plan)
    if "k8s.yaml" not in files:
        return
    found = objects_of(files["k8s.yaml"])
    policy = found["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == found["Deployment"]["spec"]["selector"]["matchLabels"]
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http"]
    caller = {"matchLabels": {"llm-client": "true"}}
    assert rule["from"] == [{"podSelector": caller}, {"namespaceSelector": caller}]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443}


@pytest.mark.parametrize("target", ["hpa", "keda"])
def test_what_scales_on_metrics_lets_prometheus_read_them(make_plan: Any, objects_of: Any, target: str) -> None:
    files = render(make_plan(), [target])
    (rule,) = objects_of(files["k8s.yaml"])["NetworkPolicy"]["spec"]["ingress"]
    namespace = rule["from"][-1]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert target == "hpa" or f".{namespace}.svc:" in files["keda.yaml"]


@settings(max_examples=20, deadline=None)
@given(NASTY)
def test_a_hostile_name_stays_inside_its_string(make_plan: Any, served: str) -> None:
    files = render(make_plan(model={"served_name": served}), ["keda", "hpa"])
    query = next(yaml.safe_load_all(files["keda.yaml"]))["spec"]["triggers"][0]["metadata"]["query"]
    match = re.fullmatch(
        r'sum\(vllm:num_requests_waiting\{service="[a-z0-9-]+",model_name="((?:[^"\\\n]|\\.)*)"\}\)', query
    )
    assert match is not None
    assert re.sub(r"\\U([0-9a-f]{8})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], match[1]) == served
    assert len(list(yaml.safe_load_all(files["hpa.yaml"]))) == 2


def test_promql_strings_escape_as_go_does() -> None:
    assert promql('a"b\\c\n') == '"a\\"b\\\\c\\U0000000a"'
