"""`nim-operator.yaml`: NIMCache and NIMService of NVIDIA's operator, and what guards the pods that it makes.

Facts: the types of k8s-nim-operator 3.1 (api/apps/v1alpha1) and its documentation, by which a model-free NIM runs on
one node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import names, placement, pod
from planner.render.arguments import nim as arguments
from planner.render.artifacts import kubernetes, nim
from planner.render.artifacts.docker import headline
from planner.render.launch import PROBE_PERIOD_S, find_image
from planner.render.registry import Target
from planner.render.templating import fill
from planner.units import GIB, MIB, ceil_div

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "nim-operator.yaml"
LIVE_PATH = "/v1/health/live"
PULL_SECRET = "ngc-secret"
"""Of NVIDIA's registry, where no mirror has its own."""


def refuses(plan: Plan) -> str | None:
    """The cache fetches `organisation/model` from the Hub; the service joins repository and tag itself."""
    reason = nim.refuses(plan)
    if reason is not None:
        return reason
    if "/" not in plan.best.model.checkpoint:
        return "NIMCache asks for an organisation and a model, and this checkpoint names no organisation"
    if names.split_reference(plan.best.engine.image or "")[2]:
        return "NIMService takes a repository and a tag, not a digest"
    return None


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file for `kubectl apply -f`."""
    best, limits, parallel = plan.best, plan.best.limits, plan.best.parallelism
    image = find_image(best, plan.resolved)
    assert image is not None
    reference = placement.mirrored(plan, best.engine.image or image.reference)
    repository, tag, _ = names.split_reference(reference)
    namespace, _, model = best.model.checkpoint.partition("/")
    environment = {
        **image.environment,
        **arguments.environment(best, plan.resolved),
        **placement.environment(plan.request.site),
    }
    del environment["NIM_MODEL_PATH"]  # the cache is mounted in its place
    name = f"llm-{names.slug(best.model.served_name)}"
    text = fill(
        "nim/nim-operator.yaml.j2",
        title=headline(plan),
        verified=best.engine.image_verified or image.verified,
        name=name,
        labels={"app.kubernetes.io/name": "nim", "app.kubernetes.io/instance": name},
        namespace=namespace,
        model=model,
        revision=best.model.revision,
        image=reference,
        pull_secret=plan.request.site.pull_secret
        if plan.request.site and plan.request.site.pull_secret
        else PULL_SECRET,
        repository=repository,
        tag=tag,
        disk_gib=max(1, ceil_div(limits.disk_bytes, GIB)),
        access_mode="ReadWriteMany" if parallel.replicas > 1 else "ReadWriteOnce",
        shm_mib=ceil_div(limits.shm_bytes or 64 * MIB, MIB),
        memory_mib=ceil_div(limits.host_memory_bytes, MIB),
        replicas=parallel.replicas,
        environment=environment,
        token=nim.token(plan),
        fetching=placement.environment(plan.request.site),
        selector=pod.node_selector(plan),
        cpu_request=parallel.devices_per_replica + 2,
        devices=parallel.devices_per_replica,
        health_path=plan.resolved.engine.health_path or nim.DEFAULT_HEALTH,
        live_path=LIVE_PATH,
        probe_period_s=PROBE_PERIOD_S,
        startup_failures=max(1, ceil_div(limits.startup_budget_seconds, PROBE_PERIOD_S)),
        port=image.port,
        launch={"name": name, "egress_ports": placement.egress_ports(plan.request.site)},
        caller=pod.CALLER,
        # what the operator's Deployment selects its pods by
        policy_labels={"app": name},
        entry_port="api",
        peers=False,
        operator_rules=(),
        open_to=kubernetes.MONITORING,
        dns_ports=(pod.DNS_PORT,),
    )
    return {FILE: text}


TARGET = Target("nim-operator", "NVIDIA NIM Operator (NIMCache, NIMService)", (FILE,), refuses, render, default=False)
