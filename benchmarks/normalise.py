"""Turn collections of published measurements into catalog/measurements/*.csv.

`python benchmarks/normalise.py FOLDER` reads the collections in FOLDER with the names of
catalog/measurements/names.yaml and what servers.yaml beside it knows of their servers. Every row of a
collection whose model and device are named becomes a row of ours or stands, counted, in left_out.csv with
a reason.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import normalise_memory as memory
import normalise_own
import normalise_speed as speed

from planner.sources.entries import read_yaml
from planner.spec.base import Spec
from planner.spec.measurement import LeftOut

MEASUREMENTS = Path(__file__).resolve().parent.parent / "catalog" / "measurements"


def write(name: str, spec: type[Spec], rows: Iterable[Any]) -> None:
    """One table; columns in the order of the schema, what nobody stated left blank."""
    table = list(rows)
    defaults = {k: f.default for k, f in spec.model_fields.items()}
    with (MEASUREMENTS / name).open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(spec.model_fields)
        for row in table:
            cells = row.model_dump()
            out.writerow(
                ["" if cells[k] == defaults[k] and not cells[k] else _cell(cells[k]) for k in spec.model_fields]
            )
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


def main(truth: Path, own: Path | None) -> None:
    """Write every table."""
    names = read_yaml(MEASUREMENTS / "names.yaml")
    servers = read_yaml(MEASUREMENTS / "servers.yaml")["servers"]
    found: dict[str, list[Any]] = {
        "memory_vllm.csv": [*memory.h200_logs(truth, names), *memory.vllm_logs(truth, names)],
        "memory_llamacpp.csv": list(memory.llamacpp_logs(truth, names)),
        "gguf_sizes.csv": list(memory.gguf_sizes(truth, names)),
    }
    ours = speed.Names(names)
    found |= {
        "vllm_closed_loop.csv": list(speed.vllm_closed_loop(truth, ours, servers)),
        "vllm_h200.csv": list(speed.h200(truth, ours)),
        "nim_closed_loop.csv": list(speed.nim(truth, ours)),
        "tensorrt_llm_static.csv": list(speed.trtllm(truth, ours)),
        "vllm_static_2024.csv": list(speed.argonne(truth, ours)),
        "vllm_mi300x.csv": list(speed.mi300x(truth, ours)),
        "gaudi_static.csv": list(speed.gaudi(truth, ours)),
    }
    if own:
        devices = names["devices"]
        found["vllm_h200_steps.csv"] = list(normalise_own.speed(own / "h200_vllm_steps.csv", devices))
        found["vllm_h100_steps.csv"] = list(normalise_own.speed(own / "h100_vllm_steps.csv", devices))
        found["vllm_h100x2_steps.csv"] = list(normalise_own.speed(own / "h100x2_vllm_steps.csv", devices))
        found["memory_vllm.csv"] += normalise_own.memory(own / "h200_vllm_memory_more.csv", devices)
        found["memory_vllm.csv"] += normalise_own.memory(own / "h100_vllm_memory.csv", devices)
    missing = [LeftOut(**{"model": "", **entry}) for entry in names["left_out_by_hand"]]
    for name, rows in found.items():
        missing += [r for r in rows if isinstance(r, LeftOut)]
        kept = [r for r in rows if not isinstance(r, LeftOut)]
        write(name, type(kept[0]), kept)
    write("left_out.csv", LeftOut, merged(missing))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the collections lie")
    parser.add_argument("--own", type=Path, help="where benchmarks/measure_vllm.py left its tables")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.own)
