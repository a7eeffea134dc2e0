"""Plan to files. Knows how artifacts are written, not how the plan came about.

`render(plan)` gives path → text, the same bytes for the same plan; `save` writes them all or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.render.plan_file import dump_plan, load_plan
from planner.render.registry import Target, all_targets, select
from planner.render.write import save

if TYPE_CHECKING:
    from planner.spec.plan import Plan

__all__ = ["Target", "default_files", "dump_plan", "load_plan", "render", "save", "targets"]


def targets() -> tuple[Target, ...]:
    """Every target, in the order of the documentation."""
    return all_targets()


def render(plan: Plan, targets: Sequence[str] | None = None) -> dict[str, str]:
    """Relative path → text, sorted by path.

    Without `targets`, everything that suits the plan's engine and platform. plan.yaml, PLAN.md and
    bench.sh are always there. Raises UnknownNameError for a target that does not exist and
    UsageError for one that this plan cannot have, or for a name that no file can carry safely.
    """
    from planner.render.hostile import refuse_unprintable

    refuse_unprintable(plan)
    targets = [targets] if isinstance(targets, str) else targets
    files: dict[str, str] = {}
    chosen = select(plan, targets)
    slugs = tuple(target.slug for target in chosen)
    for target in chosen:
        for path, text in target.render(plan, slugs).items():
            assert files.get(path, text) == text, f"two targets write {path} differently"
            files[path] = text
    return dict(sorted(files.items()))


def default_files(plan: Plan) -> tuple[str, ...]:
    """Paths that `render(plan)` writes, sorted, without rendering: what `Plan.artifacts` lists."""
    return tuple(sorted({path for target in select(plan) for path in target.paths(plan)}))
