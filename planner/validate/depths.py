"""The depths of a validation, each usable alone: lint, simulate, smoke."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import UnknownNameError, UsageError
from planner.validate.verdict import Check, Verdict, of_depth

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def validate(
    plan: Plan, folder: Path | None = None, only: str | Sequence[str] | None = None, checkpoint: Path | None = None
) -> Verdict:
    """The verdict over `plan`, and over its files in `folder` as they lie there.

    `checkpoint` is what the smoke test runs in place of a twin. Raises UsageError when no smoke test is asked for.
    """
    chosen = tuple(DEPTHS) if only is None else (only,) if isinstance(only, str) else tuple(only)
    for name in chosen:
        if name not in DEPTHS:
            raise UnknownNameError("depth", name, DEPTHS, f"a validation has {', '.join(DEPTHS)}")
    if checkpoint is not None and "smoke" not in chosen:
        raise UsageError(f"a checkpoint is for the smoke test; this validation has {', '.join(chosen)} alone")
    best = plan.best
    subject = f"{best.engine.name} {best.engine.version} serving {best.model.checkpoint} on {best.hardware.label}"
    checks = [of_depth(name, depth(plan, folder, checkpoint)) for name, depth in DEPTHS.items() if name in chosen]
    return Verdict(subject, tuple(check for part in checks for check in part))


def _lint(plan: Plan, folder: Path | None, _: Path | None) -> tuple[Check, ...]:
    from planner.render.write import read_record
    from planner.validate.lint import lint, read_folder

    if folder is None:
        return lint(plan)
    return lint(plan, read_folder(folder), read_record(folder).keys())


def _simulate(plan: Plan, folder: Path | None, _: Path | None) -> tuple[Check, ...]:
    from planner.sources.catalog import load
    from planner.validate.simulate import simulate

    return simulate(plan, load())


def _smoke(plan: Plan, folder: Path | None, checkpoint: Path | None) -> tuple[Check, ...]:
    if "numpy" not in sys.modules:  # BLAS threads only wait for each other on matrices this small: five times slower
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, "1")
    from planner.sources.catalog import load
    from planner.validate.smoke import smoke

    return smoke(plan, load(), checkpoint)


DEPTHS: dict[str, Callable[[Plan, Path | None, Path | None], tuple[Check, ...]]] = {
    "lint": _lint,
    "simulate": _simulate,
    "smoke": _smoke,
}
