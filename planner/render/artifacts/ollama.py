"""`Modelfile` and `ollama-create.sh`: a native Ollama with the planned limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import is_local
from planner.render.arguments import ollama as engine
from planner.render.native import memory_advice
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILES = ("Modelfile", "ollama-create.sh")
DEFAULT_PORT = 11434


def refuses(plan: Plan) -> str | None:
    """Only an Ollama plan has a Modelfile."""
    name = plan.best.engine.name
    return None if name == "ollama" else f"the plan's engine is {name}; plan with engine ollama for a Modelfile"


def modelfile(plan: Plan) -> str:
    """The Modelfile, the same for the native server and a container."""
    configuration, resolved = plan.best, plan.resolved
    return fill(
        "ollama/Modelfile.j2",
        origin=f"{configuration.model.checkpoint} ({configuration.quantization})",
        chat=(
            "TEMPLATE and stop words are the tag's own."
            if configuration.model.ollama_tag
            else "No TEMPLATE: Ollama takes the chat template that the GGUF file holds."
        ),
        source=engine.source(configuration),
        parameters=engine.parameters(configuration, resolved),
    )


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The Modelfile and the script that creates and tries the model."""
    configuration, resolved = plan.best, plan.resolved
    environment = engine.environment(configuration, resolved)
    script = fill(
        "ollama/ollama-create.sh.j2",
        title=f"Ollama {configuration.engine.version}, model {configuration.model.served_name}",
        served_name=configuration.model.served_name,
        environment=sorted(environment.items()),
        port=DEFAULT_PORT,
        local_file=engine.source(configuration) if is_local(configuration.model) else None,
        memory=memory_advice(plan),
    )
    return {"Modelfile": modelfile(plan), "ollama-create.sh": script}


TARGET = Target("ollama", "Ollama Modelfile", FILES, refuses, render)
