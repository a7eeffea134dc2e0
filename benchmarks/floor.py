"""Rewrite the floors of catalog/accuracy_floor.yaml: a little above what each slice is today.

`python benchmarks/floor.py` after a refit that made things better; a floor is raised by hand only.
"""

from __future__ import annotations

from pathlib import Path

from planner.api import accuracy
from planner.validate.accuracy import LEAST_FOR_A_FLOOR, Slice

FILE = Path(__file__).resolve().parent.parent / "catalog" / "accuracy_floor.yaml"
ROOM, LEAST_ROOM = 1.1, 0.003
"""A slice may be a tenth worse than today, or this much when it is nearly exact."""


def allowed(value: float) -> float:
    """The floor for an error of `value`."""
    return round(value * ROOM + LEAST_ROOM, 3)


def line(s: Slice) -> str:
    """One floor as YAML."""
    held = max((e.median for fold, e in s.held_out.items() if fold != "never fitted"), default=None)
    tail = f", held_out_median: {allowed(held)}" if held is not None else ""
    return f'  - {{slice: "{s.name}", median: {allowed(s.fitted.median)}, p90: {allowed(s.fitted.p90)}{tail}}}'


def main() -> None:
    """Keep the targets, replace the floors."""
    head = FILE.read_text(encoding="utf-8").split("\nfloors:", 1)[0]
    lines = [line(s) for s in accuracy().slices if s.fitted.n >= LEAST_FOR_A_FLOOR]
    FILE.write_text(head + "\nfloors:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} floors")


if __name__ == "__main__":
    main()
