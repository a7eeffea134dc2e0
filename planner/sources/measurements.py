"""Measured rows from `catalog/measurements`, held-out predictions from `catalog/calibration`.

The only reader of those CSV files. Files are told apart by their columns: speed rows have a `load`,
memory rows a `what`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from planner.errors import CatalogError
from planner.resources import folder

if TYPE_CHECKING:
    from planner.spec.measurement import HeldOut, LeftOut, MemoryRow, SpeedRow

S = TypeVar("S", "SpeedRow", "MemoryRow", "HeldOut", "LeftOut")


def speed_rows() -> tuple[SpeedRow, ...]:
    """Every measured time and rate. Raises CatalogError for a row that does not parse."""
    from planner.spec.measurement import SpeedRow

    return tuple(row for path in _tables("load") for row in _parsed(path, SpeedRow))


def memory_rows() -> tuple[MemoryRow, ...]:
    """Every measured amount of memory."""
    from planner.spec.measurement import MemoryRow

    return tuple(row for path in _tables("what") for row in _parsed(path, MemoryRow))


def left_out() -> tuple[LeftOut, ...]:
    """What the sources hold and we do not, with the reason."""
    from planner.spec.measurement import LeftOut

    return tuple(row for path in _tables("reason") for row in _parsed(path, LeftOut))


def held_out() -> tuple[HeldOut, ...]:
    """Predictions by fits that had not seen the row (benchmarks/fit.py writes them)."""
    from planner.spec.measurement import HeldOut

    path = folder("catalog") / "calibration" / "held_out.csv"
    return tuple(_parsed(path, HeldOut)) if path.exists() else ()


def _tables(column: str) -> Iterator[Path]:
    for path in sorted((folder("catalog") / "measurements").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            if column in next(csv.reader(file), []):
                yield path


def _parsed(path: Path, spec: type[S]) -> Iterator[S]:
    from pydantic import ValidationError

    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                yield spec.model_validate({k: v for k, v in row.items() if v != "" or k in _TEXT})
            except ValidationError as error:
                first = error.errors()[0]
                raise CatalogError(f"{path.name}:{number}: {first['loc']}: {first['msg']}") from None


_TEXT = frozenset({"engine_version", "url", "source", "model", "accelerator", "metric", "kv_cache_dtype", "date"})
"""Columns in which an empty cell is an empty text, not a missing value."""
