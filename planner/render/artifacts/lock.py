"""`plan.yaml`: the plan itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.plan_file import dump_plan
from planner.render.registry import Target

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One file."""
    return {"plan.yaml": dump_plan(plan)}


TARGET = Target("plan", "The plan as a lock file", ("plan.yaml",), lambda plan: None, render, always=True)
