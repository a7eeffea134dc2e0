"""`launchd.plist`: Ollama as a launch agent of macOS, with the planned limits in its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts import ollama
from planner.render.artifacts.docker import headline
from planner.render.native import memory_advice, native, why_not_native
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "launchd.plist"


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


TARGET = Target("launchd", "launchd agent for Ollama on macOS", (FILE, *ollama.FILES), refuses, render, default=False)
