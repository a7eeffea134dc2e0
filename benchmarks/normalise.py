"""Turn collections of published measurements into catalog/measurements/*.csv.

`python benchmarks/normalise.py FOLDER` reads the collections in FOLDER with the names of
catalog/measurements/names.yaml. Every row of a collection whose model and device are named becomes a
row of ours or stands, counted, in left_out.csv with a reason.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import normalise_memory as memory

from planner.sources.catalog import read_yaml
from planner.spec.base import Spec
from planner.spec.measurement import LeftOut, MemoryRow, SpeedRow

MEASUREMENTS = Path(__file__).resolve().parent.parent / "catalog" / "measurements"


def write(name: str, spec: type[Spec], rows: Iterable[Any]) -> None:
    """One table; columns in the order of the schema, defaults left blank."""
    table = list(rows)
    defaults = {k: f.default for k, f in spec.model_fields.items()}
    with (MEASUREMENTS / name).open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(spec.model_fields)
        for row in table:
            cells = row.model_dump()
            out.writerow(["" if cells[k] == defaults[k] else _cell(cells[k]) for k in spec.model_fields])
    print(f"{name}: {len(table)} rows")


def _cell(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) else value


def merged(entries: Iterable[LeftOut]) -> list[LeftOut]:
    """Equal entries once, with their rows counted."""
    counted: Counter[tuple[Any, ...]] = Counter()
    for e in entries:
        counted[e.file, e.model, e.accelerator, e.metric, e.kind, e.reason] += e.rows
    return [
        LeftOut(file=k[0], model=k[1], accelerator=k[2], metric=k[3], rows=n, kind=k[4], reason=k[5])
        for k, n in sorted(counted.items())
    ]


def main(truth: Path) -> None:
    """Write every table."""
    names = read_yaml(MEASUREMENTS / "names.yaml")
    found: dict[str, list[Any]] = {
        "memory_vllm.csv": [*memory.h200_logs(truth, names), *memory.vllm_logs(truth, names)],
        "memory_llamacpp.csv": list(memory.llamacpp_logs(truth, names)),
        "gguf_sizes.csv": list(memory.gguf_sizes(truth, names)),
    }
    missing: list[LeftOut] = []
    for name, rows in found.items():
        missing += [r for r in rows if isinstance(r, LeftOut)]
        kept = [r for r in rows if not isinstance(r, LeftOut)]
        write(name, MemoryRow if isinstance(kept[0], MemoryRow) else SpeedRow, kept)
    write("left_out.csv", LeftOut, merged(missing))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the collections lie")
    main(parser.parse_args().folder)
