"""The security pass: each rule notices its fault, each waiver is used and has a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from planner.render import render
from planner.sources.hardening import hardening
from planner.spec.plan import Plan
from planner.validate.lint.hardening import _HOLDS, Review, review

PlanNamed = Callable[[str], Plan]


def test_every_rule_of_the_file_has_its_predicate_and_every_waiver_its_reason() -> None:
    book = hardening()
    assert {rule.id for rule in book.rules} == set(_HOLDS)
    assert len({rule.id for rule in book.rules}) == len(book.rules) >= 25
    assert all(waiver.because.endswith(".") and len(waiver.because) > 20 for waiver in book.waivers)


def test_our_own_files_pass(each_plan: Plan) -> None:
    found = review(render(each_plan), each_plan)
    assert [str(finding) for finding in found.failed] == []
    assert found.checked > 0 or each_plan.best.engine.platform == "metal"


def test_the_cuda_server_is_not_root(plan_named: PlanNamed) -> None:
    found = review(render(plan_named("vllm-h100")), plan_named("vllm-h100"))
    assert not {"non-root", "seccomp", "network-policy"} & {finding.rule.id for finding in found.waived}


def deployment(files: dict[str, str], change: Callable[[dict[str, Any], dict[str, Any]], object]) -> dict[str, str]:
    """`files` with the pod and container of k8s.yaml changed."""
    documents = list(yaml.safe_load_all(files["k8s.yaml"]))
    (pod,) = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    change(pod, pod["containers"][0])
    return {"k8s.yaml": yaml.safe_dump_all(documents)}


FAULTS: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "no-privileged-container": lambda pod, c: c["securityContext"].update(privileged=True),
    "no-privilege-escalation": lambda pod, c: c["securityContext"].pop("allowPrivilegeEscalation"),
    "all-capabilities-dropped": lambda pod, c: c["securityContext"]["capabilities"].pop("drop"),
    "no-capability-added": lambda pod, c: c["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "requests-and-memory-limit": lambda pod, c: c["resources"]["limits"].pop("memory"),
    "pinned-tag": lambda pod, c: c.update(image="vllm/vllm-openai:latest"),
    "probes": lambda pod, c: c.pop("livenessProbe"),
    "no-host-port": lambda pod, c: c["ports"][0].update(hostPort=80),
    "no-secret-in-environment": lambda pod, c: c.setdefault("env", []).append({"name": "API_KEY", "value": "x"}),
    "non-root": lambda pod, c: pod["securityContext"].pop("runAsNonRoot"),
    "seccomp": lambda pod, c: pod.update(securityContext={"runAsNonRoot": True}),
    "no-token-mounted": lambda pod, c: pod.pop("automountServiceAccountToken"),
    "own-service-account": lambda pod, c: pod.pop("serviceAccountName"),
    "no-host-namespace": lambda pod, c: pod.update(hostIPC=True),
    "no-host-path": lambda pod, c: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_fails_by_its_rule(plan_named: PlanNamed, rule: str) -> None:
    plan = plan_named("vllm-h100")
    found = review(deployment(render(plan), FAULTS[rule]), plan)
    assert {finding.rule.id for finding in found.failed} == {rule}


def found_in(text: str, plan: Plan, path: str = "x.yaml") -> Review:
    return review({path: text}, plan)


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({"kind": "Secret", "stringData": {"token": "x"}}, "no-secret-data"),
        ({"kind": "ClusterRoleBinding"}, "no-rights-granted"),
        ({"kind": "Service", "spec": {"type": "LoadBalancer"}}, "not-exposed"),
        ({"kind": "Deployment", "spec": {}}, "network-policy"),
    ],
)
def test_objects_that_open_the_cluster_fail(plan_named: PlanNamed, document: dict[str, Any], rule: str) -> None:
    text = yaml.safe_dump({"apiVersion": "v1", "metadata": {"name": "x"}} | document)
    assert [finding.rule.id for finding in found_in(text, plan_named("vllm-h100")).failed] == [rule]


@pytest.mark.parametrize(
    ("service", "rules"),
    [
        ({"privileged": True}, {"compose-not-privileged", "compose-no-new-privileges"}),
        (
            {"volumes": ["/var/run/docker.sock:/s"], "security_opt": ["no-new-privileges:true"]},
            {"compose-not-privileged"},
        ),
        ({"ports": ["8000:8000"], "security_opt": ["no-new-privileges:true"]}, {"compose-loopback"}),
    ],
)
def test_compose_services_that_open_the_machine_fail(
    plan_named: PlanNamed, service: dict[str, Any], rules: set[str]
) -> None:
    text = yaml.safe_dump({"services": {"server": service}})
    failed = found_in(text, plan_named("vllm-h100"), "compose.yaml").failed
    assert {finding.rule.id for finding in failed} == rules
