"""`launchd.plist`: Ollama as a launch agent of macOS, with the planned limits in its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts import ollama
from planner.render.artifacts.docker import headline
from planner.render.native import native, why_not_native
from planner.render.registry import Target
from planner.render.templating import fill
from planner.units import MIB, ceil_div, gib

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "launchd.plist"
SPARE_MIB = 1024
"""Above what the plan takes, when the GPU's limit is raised for it."""


def refuses(plan: Plan) -> str | None:
    """launchd is macOS's, and the server there is Ollama."""
    if plan.best.engine.platform != "metal":
        return f"launchd is macOS's; this plan is for {plan.best.engine.platform}: use target systemd"
    return ollama.refuses(plan) or why_not_native(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The agent, and what creates its model."""
    server = native(plan)
    text = fill(
        "native/launchd.plist.j2",
        title=headline(plan),
        label=f"local.{server.name}",
        words=server.words,
        environment=server.environment,
        grace_s=plan.best.limits.termination_grace_seconds,
        memory=memory_advice(plan),
    )
    return {FILE: text, **ollama.render(plan, slugs)}


def memory_advice(plan: Plan) -> list[str]:
    """What the plan takes of unified memory, and how to raise what macOS lets the GPU have."""
    ledger, accelerator = plan.best.memory, plan.resolved.machine.accelerator
    if accelerator is None or not accelerator.unified_memory:
        return []
    taken = ledger.device_bytes - ledger.bytes_of("free") - ledger.bytes_of("reserved")
    lines = [
        f"Memory:   the plan takes {gib(taken)} of the {gib(accelerator.usable_memory_bytes)} that the GPU may use."
    ]
    if taken > accelerator.usable_memory_bytes * 9 // 10:
        limit_mb = ceil_div(taken, MIB) + SPARE_MIB
        lines.append(f"          To raise that until the next restart: sudo sysctl iogpu.wired_limit_mb={limit_mb}")
    return lines


TARGET = Target("launchd", "launchd agent for Ollama on macOS", (FILE,), refuses, render, default=False)
