"""Measured rows: they parse, name catalogued models, devices and formats, and are positive."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from planner.sources.index import fold
from planner.upkeep.shelf import Finding, Shelf, shown


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Every CSV of catalog/measurements beside the catalog's own files."""
    roots = dict.fromkeys(e.path.parent for e in shelf.kind("document"))
    known = {kind: _names(shelf, kind) for kind in ("model", "accelerator", "cpu", "format")}
    for root in roots:
        for path in sorted((root / "measurements").glob("*.csv")):
            yield from _table(path, known)


def _names(shelf: Shelf, kind: str) -> frozenset[str]:
    return frozenset(fold(n) for e in shelf.kind(kind) for n in (e.id, *(e.names or ())))


def _table(path: Path, known: dict[str, frozenset[str]]) -> Iterator[Finding]:
    columns = (("model", ("model",)), ("accelerator", ("accelerator", "cpu")), ("quantization", ("format",)))
    names: dict[tuple[str, str], bool] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "value" not in (rows.fieldnames or ()):
            return
        for number, row in enumerate(rows, 2):
            for column, kinds in columns:
                name = (row.get(column) or "").removeprefix("cpu:")
                if name and (column, name) not in names:
                    names[column, name] = any(fold(name) in known[kind] for kind in kinds)
                if name and not names[column, name]:
                    yield Finding(shown(path), f"line {number}", "links", f"no {column} {name!r} in the catalog")
            try:
                positive = float(row["value"]) > 0
            except (TypeError, ValueError):
                positive = False
            if not positive:
                yield Finding(shown(path), f"line {number}", "ranges", f"value {row['value']!r} is not positive")
