"""`endpoints.py`: a managed endpoint of Hugging Face with the planned image and words, by its own client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import names
from planner.render.artifacts import kubernetes
from planner.render.artifacts.docker import headline
from planner.render.charts import why_no_plain_name
from planner.render.launch import plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.scaling import tolerated
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.companion import EndpointInstance
    from planner.spec.plan import Plan

FILE = "endpoints.py"
MAX_NAME = 32
QUEUE_S = 900
"""How long an instance may take to be given, beside the planned start."""
REPOSITORY = "/repository"
"""Where the service puts the model's files."""


def refuses(plan: Plan) -> str | None:
    """An endpoint runs a text model of the Hub on hardware that the service rents."""
    best = plan.best
    if best.engine.name not in ("vllm", "tgi"):
        return f"managed endpoints are planned with vLLM or TGI, not with {best.engine.name}"
    if plan.request.site is not None:
        return (
            "a managed endpoint pulls from public registries and the Hub: it has no mirror, proxy or weights of a site"
        )
    reason = why_no_container(plan) or kubernetes.cluster_cannot(plan) or kubernetes.floating_tag(plan)
    if reason is not None:
        return reason
    if best.engine.plugin or best.quantization.startswith("gguf:"):
        return "a managed container installs no plugin and gets a whole repository, not one GGUF file"
    if plan.resolved.model.modality == "embedding":
        return "embedding models have their own container there"
    return why_no_plain_name(plan) or (None if instance(plan) else _nothing_to_rent(plan))


def instance(plan: Plan) -> tuple[EndpointInstance, int] | None:
    """The smallest rented instance with the planned accelerator that holds a replica, and its device count."""
    from planner.sources.companions import companions

    best, needed = plan.best, plan.best.parallelism.devices_per_replica
    found = [
        (count, row)
        for row in companions().endpoint_instances
        if row.accelerator == best.hardware.accelerator
        for count in row.counts
        if count >= needed
    ]
    if not found:
        return None
    count, row = min(found, key=lambda pair: pair[0])
    return row, count


def _nothing_to_rent(plan: Plan) -> str:
    from planner.sources.companions import companions

    rented = dict.fromkeys(row.accelerator for row in companions().endpoint_instances)
    needed = plan.best.parallelism.devices_per_replica
    return (
        f"Inference Endpoints rents no instance with {needed} x {plan.best.hardware.accelerator or 'CPU'}; "
        f"plan for one of {', '.join(rented)}"
    )


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script."""
    launch, best = plan_launch(plan), plan.best
    chosen = instance(plan)
    assert chosen is not None
    row, count = chosen
    waiting, why = tolerated(plan)
    needed = best.parallelism.devices_per_replica
    note = f"{count} x {row.accelerator}" + (f", of which {needed} are used." if count > needed else ".")
    return {
        FILE: fill(
            "endpoints/endpoints.py.j2",
            title=headline(plan),
            name=names.slug(best.model.served_name, MAX_NAME),
            served_name=launch.served_name,
            budget_s=launch.startup_budget_s + QUEUE_S,
            instance_note=note,
            repository=best.model.checkpoint,
            revision=best.model.revision,
            vendor=row.vendor,
            region=row.region,
            instance_type=row.instance_type,
            instance_size=f"x{count}",
            min_replica=launch.replicas,
            max_replica=2 * launch.replicas,
            why=why,
            waiting=waiting,
            health_path=launch.health_path,
            port=launch.port,
            image=launch.image,
            command=launch.entry,
            args=_local_words(launch.args),
            environment=launch.environment,
        )
    }


def _local_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """The planned words for files that are already there."""
    first = f"--model-id={REPOSITORY}" if words[0].startswith("--") else REPOSITORY
    return (first, *(word for word in words[1:] if not word.startswith(("--revision=", "--model-id="))))


TARGET = Target("endpoints", "Hugging Face Inference Endpoints", (FILE,), refuses, render, default=False)
