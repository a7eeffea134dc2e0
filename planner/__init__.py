"""planner: what to deploy for LLM serving, does it fit, how fast, at what cost.

    import planner
    rec = planner.recommend(model="llama3-70b", gpus="2xA100")

Everything public is in `planner.api`; it is imported when first used, so that `import planner` is
cheap. Two public functions share their name with a room of the house (`planner.estimate`): the
import system binds the room here, and the room then answers a call as the function does.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from planner.version import __version__

if TYPE_CHECKING:
    from planner.answers import Comparison, Estimate, Recommendation
    from planner.api import (
        accuracy,
        calibrate,
        checkpoints,
        compare,
        estimate,
        fit,
        generate,
        migrate,
        probe,
        recommend,
        simulate,
        validate,
    )
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
    "accuracy",
    "calibrate",
    "checkpoints",
    "compare",
    "estimate",
    "fit",
    "generate",
    "migrate",
    "probe",
    "recommend",
    "simulate",
    "validate",
]

_ERRORS = frozenset({"InfeasibleError", "PlannerError", "UnknownNameError", "UsageError"})


class _Room(ModuleType):
    """A subpackage whose name is also a public function's."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module("planner.api"), self.__name__.rpartition(".")[2])(*args, **options)


class _House(ModuleType):
    """This package; it notices when the import system binds such a subpackage."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in __all__ and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _House


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    return getattr(importlib.import_module("planner.errors" if name in _ERRORS else "planner.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
