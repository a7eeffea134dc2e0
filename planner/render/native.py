"""An engine that is started on the machine itself, without a container: program, words, environment.

Knows which engines install natively and where, and what a Mac lets its GPU have; nothing of service managers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from planner.estimate.overheads.host import gpu_share_bytes
from planner.records import dataclass
from planner.render import names, placement
from planner.render.arguments import container_model_path, is_local, own_path
from planner.render.launch import OWN_TARGETS, builder, why_other_targets
from planner.render.quoting import printable
from planner.units import MIB, ceil_div, gib

if TYPE_CHECKING:
    from planner.spec.plan import Plan

PORTS = {"vllm": 8000, "ollama": 11434, "llamacpp": 8080}
HEALTH = {"vllm": "/health", "ollama": "/api/version", "llamacpp": "/health"}
LOOPBACK = "127.0.0.1"
SPARE_MIB = 1024
"""Above what the plan takes, when the GPU's limit on a Mac is raised for it."""


@dataclass(frozen=True, slots=True)
class Native:
    """One server on this machine. `words` follow the program; it listens on the loopback address only."""

    name: str
    engine: str
    words: tuple[str, ...]
    environment: dict[str, str]
    port: int
    health_url: str


def why_not_native(plan: Plan) -> str | None:
    """Why this plan is not started without a container; None when it is."""
    best, machine = plan.best, plan.resolved.machine
    if best.engine.name in OWN_TARGETS:
        return why_other_targets(best.engine.name)
    if best.engine.name not in PORTS:
        return f"{best.engine.name} is distributed as a container; use target docker or compose"
    if best.engine.name == "vllm" and best.engine.platform == "metal":
        return "vLLM has no release for macOS; plan with engine ollama"
    if is_local(best.model) and not Path(own_path(best.model)).is_absolute():
        return (
            f"the weights are a relative path ({printable(best.model.checkpoint)[:80]}), which a service does not "
            "know: plan with the absolute one"
        )
    if (reason := placement.why_no_weights(plan) or placement.why_not_on_docker(plan)) is not None:
        return reason
    if best.parallelism.replicas > 1:
        return f"one unit is one server, and this plan runs {best.parallelism.replicas} replicas: use target compose"
    if machine.accelerator is not None and best.parallelism.devices_per_replica > machine.devices_per_node:
        return "one replica takes several nodes: use target lws"
    return None


def native(plan: Plan) -> Native:
    """The server of a plan that `why_not_native` lets through."""
    best, resolved, site = placement.placed(plan), plan.resolved, plan.request.site
    engine, port = builder(best.engine.name), PORTS[best.engine.name]
    words = list(engine.arguments(best, resolved))
    if is_local(best.model):
        inside, own = container_model_path(best.model), own_path(best.model)
        words = [{inside: own, f"--model={inside}": f"--model={own}"}.get(word, word) for word in words]
    listen = [word.replace("0.0.0.0", LOOPBACK) for word in engine.listen(port)]
    certificates = site.ca_bundle if site is not None and site.ca_bundle is not None else ""
    environment = {**engine.environment(best, resolved), **placement.environment(site, certificates)}
    if best.engine.name == "ollama":
        environment["OLLAMA_HOST"] = f"{LOOPBACK}:{port}"
    return Native(
        name=f"llm-{names.slug(best.model.served_name)}",
        engine=best.engine.name,
        words=(*words, *listen),
        environment=dict(sorted(environment.items())),
        port=port,
        health_url=f"http://{LOOPBACK}:{port}{resolved.engine.health_path or HEALTH[best.engine.name]}",
    )


def downloads(plan: Plan) -> bool:
    """True when the first start fetches the weights, for which the planned budget has room."""
    site = plan.request.site
    return not is_local(placement.placed(plan).model) and (site is None or site.reaches_hub)


def memory_advice(plan: Plan) -> list[str]:
    """What the plan takes of unified memory, and how to raise what macOS lets the GPU have."""
    ledger, accelerator = plan.best.memory, plan.resolved.machine.accelerator
    if accelerator is None or not accelerator.unified_memory:
        return []
    taken = ledger.device_bytes - ledger.bytes_of("free") - ledger.bytes_of("reserved")
    share = gpu_share_bytes(accelerator, plan.best.hardware.ram_bytes)
    lines = [f"Memory:   the plan takes {gib(taken)} of the {gib(share)} that the GPU may use."]
    if accelerator.platform == "metal" and taken > share * 9 // 10:
        limit_mb = ceil_div(taken, MIB) + SPARE_MIB
        lines.append(f"          To raise that until the next restart: sudo sysctl iogpu.wired_limit_mb={limit_mb}")
    return lines
