"""An engine that is started on the machine itself, without a container: program, words, environment.

Knows which engines install natively and where; nothing of service managers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from planner.records import dataclass
from planner.render import names
from planner.render.arguments import container_model_path, is_local
from planner.render.launch import builder

if TYPE_CHECKING:
    from planner.spec.plan import Plan

PORTS = {"vllm": 8000, "ollama": 11434, "llamacpp": 8080}
HEALTH = {"vllm": "/health", "ollama": "/api/version", "llamacpp": "/health"}
LOOPBACK = "127.0.0.1"


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
    if best.engine.name not in PORTS:
        return f"{best.engine.name} is distributed as a container; use target docker or compose"
    if best.engine.name == "vllm" and best.engine.platform == "metal":
        return "vLLM has no release for macOS; plan with engine ollama"
    if best.parallelism.replicas > 1:
        return f"one unit is one server, and this plan runs {best.parallelism.replicas} replicas: use target compose"
    if machine.accelerator is not None and best.parallelism.devices_per_replica > machine.devices_per_node:
        return "one replica takes several nodes: use target lws"
    return None


def native(plan: Plan) -> Native:
    """The server of a plan that `why_not_native` lets through."""
    best, resolved = plan.best, plan.resolved
    engine, port = builder(best.engine.name), PORTS[best.engine.name]
    inside, own = container_model_path(best.model), str(Path(best.model.checkpoint).expanduser())
    words = [
        {inside: own, f"--model={inside}": f"--model={own}"}.get(word, word) if is_local(best.model) else word
        for word in engine.arguments(best, resolved)
    ]
    listen = [word.replace("0.0.0.0", LOOPBACK) for word in engine.listen(port)]
    environment = dict(engine.environment(best, resolved))
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
