"""`llama-server.sh`: llama.cpp's own server for a GGUF plan, on any system that it is built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import is_local, llamacpp, own_path
from planner.render.artifacts.docker import headline
from planner.render.native import PORTS, memory_advice
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "llama-server.sh"


def refuses(plan: Plan) -> str | None:
    """A GGUF file that is on the Hub or on this machine, planned for llama.cpp or for Ollama, which runs it inside."""
    best = plan.best
    if best.engine.name not in ("llamacpp", "ollama"):
        return f"llama-server reads GGUF files, and this plan is for {best.engine.name}; plan with engine ollama"
    if best.model.ollama_tag and not is_local(best.model):
        return f"the weights are a tag of Ollama's library, which llama-server cannot fetch; {_instead(plan)}"
    return None


def _instead(plan: Plan) -> str:
    """How to plan with a file that llama-server fetches: the catalog's, in the planned quantization where it has it."""
    files = [c for c in plan.resolved.model.checkpoints if c.repo and c.quantization.startswith("gguf:")]
    if not files:
        return "plan with a GGUF repository"
    chosen = next((c for c in files if c.quantization == plan.best.quantization), files[0])
    return f"plan with --engine llamacpp, which takes {chosen.quantization} from {chosen.repo}"


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script."""
    model = plan.best.model
    words = llamacpp.arguments(plan.best, plan.resolved)
    local = own_path(model) if is_local(model) else None
    if local is not None:
        words = ("--model", local, *words[2:])
    token = "none" if local else {True: "required", None: "optional", False: "none"}[model.gated]
    text = fill(
        "native/llama-server.sh.j2",
        title=headline(plan),
        words=words,
        local_file=local,
        token=token,
        port=PORTS["llamacpp"],
        memory=memory_advice(plan),
    )
    return {FILE: text}


TARGET = Target("llama-server", "llama-server on the machine itself", (FILE,), refuses, render, default=False)
