"""planner: what to deploy for LLM serving, does it fit, how fast, at what cost.

    import planner
    rec = planner.recommend(model="llama3-70b", gpus="2xA100")

Everything public is in `planner.api`; it is imported when first used, so that `import planner` is
cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.version import __version__

if TYPE_CHECKING:
    from planner.api import Comparison, Estimate, Recommendation, compare, estimate, fit, generate, recommend
    from planner.errors import InfeasibleError, PlannerError, UnknownNameError, UsageError

__all__ = [
    "Comparison",
    "Estimate",
    "InfeasibleError",
    "PlannerError",
    "Recommendation",
    "UnknownNameError",
    "UsageError",
    "__version__",
    "compare",
    "estimate",
    "fit",
    "generate",
    "recommend",
]

_ERRORS = frozenset({"InfeasibleError", "PlannerError", "UnknownNameError", "UsageError"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("planner.errors" if name in _ERRORS else "planner.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
