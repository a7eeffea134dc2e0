"""Measured rows beside what we say of them: fitted, held out, and the band that goes with it.

Makes one `Scored` of each row of `catalog/measurements`; a row that cannot be answered keeps the reason.
What is counted from them is `accuracy.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from planner.errors import PlannerError
from planner.estimate.bands import band
from planner.validate.replay import FAMILIES, Book, Replay

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Machine
    from planner.spec.measurement import HeldOut, MemoryRow, SpeedRow

UNFITTED: Final = "never fitted"
"""Fold of rows that no fit uses: what we say of them is as good as held out."""
SPEED_METRICS: Final = {
    "ttft_ms_mean": "TTFT", "ttft_ms_p50": "TTFT p50", "ttft_ms_p99": "TTFT p99", "itl_ms_mean": "TPOT",
    "itl_ms_p50": "TPOT p50", "itl_ms_p99": "TPOT p99", "output_tokens_per_s": "throughput",
}  # fmt: skip
BATCH_METRICS: Final = {
    "ttft_ms_mean": "prefill", "prefill_s": "prefill", "prefill_tokens_per_s": "prefill", "itl_ms_mean": "decode",
    "decode_tokens_per_s": "decode", "decode_step_ms": "decode", "e2e_s": "end to end",
}  # fmt: skip
BAND_METRICS: Final = {"TTFT": "ttft", "prefill": "prefill"}
"""The band that a metric counts in; all others in that of ITL."""
MEANS: Final = frozenset({"TTFT", "TPOT", "throughput", "prefill", "decode", "end to end"})
"""What the bands are about; percentiles take the band of their mean."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row: what was measured and what we say, both in `unit`. `reason` says why nothing was said.

    `held` maps a kind of fold to the prediction of a fit without it; `band` is the 80 % band of
    true / predicted, in the row's unit.
    """

    row: SpeedRow | MemoryRow
    metric: str
    load: str
    device_class: str
    platform: str
    format_kind: str
    moe: bool
    true: float
    predicted: float
    held: Mapping[str, float]
    band: tuple[float, float] | None = None
    reason: str = ""

    @property
    def error(self) -> float:
        """Relative error of the fitted prediction, signed."""
        return self.predicted / self.true - 1.0

    def held_errors(self) -> dict[str, float]:
        """The same of each held-out one."""
        return {fold: p / self.true - 1.0 for fold, p in self.held.items()}

    def covered(self, fold: str) -> bool | None:
        """Whether the band around the held-out prediction holds the truth; None without a band."""
        if self.band is None:
            return None
        return self.band[0] <= self.true / self.held[fold] <= self.band[1]


def device_class_of(machine: Machine) -> str:
    """The class that errors are counted by: Apple, a CPU architecture, or an architecture and its kind."""
    a = machine.accelerator
    if a is None:
        return f"CPU {machine.cpu.architecture}" if machine.cpu else "CPU"
    if a.platform == "metal":
        return "Apple"
    return a.architecture if a.device_class == "datacenter" else f"{a.architecture} {a.device_class}"


def score_speed(catalog: Catalog, rows: Iterable[SpeedRow], held_out: Iterable[HeldOut]) -> list[Scored]:
    """Every speed row, scored by the calibration that the planner ships."""
    calibration, book = catalog.calibration, Book(catalog)
    replay = Replay(book, calibration)
    held: dict[str, dict[str, float]] = defaultdict(dict)
    for found in held_out:
        held[found.key][found.fold] = found.predicted
    scored = []
    for row in rows:
        try:
            machine, d = book.machine(row), book.deployment(row)
            predicted, reason = replay.predict(row), ""
        except PlannerError as error:
            scored.append(unanswered(row, " ".join(str(error).split())))
            continue
        metric = (SPEED_METRICS if row.load == "closed_loop" else BATCH_METRICS)[row.metric]
        low, high, _ = band(
            calibration, BAND_METRICS.get(metric.split()[0], "itl"), FAMILIES.get(row.engine, row.engine), d,
            replay.step(row).fit,
        )  # fmt: skip
        limits = (1.0 / high, 1.0 / low) if row.metric.endswith("per_s") else (low, high)
        scored.append(Scored(
            row=row, metric=metric, load=row.load, device_class=device_class_of(machine), platform=machine.platform,
            format_kind=d.quantization.kind, moe=d.model.is_moe, true=row.value, predicted=predicted,
            held=held.get(row.key) or {UNFITTED: predicted}, band=limits if metric in MEANS else None, reason=reason,
        ))  # fmt: skip
    return scored


def unanswered(row: SpeedRow | MemoryRow, reason: str) -> Scored:
    """A row that nothing could be said of, and why."""
    load = getattr(row, "load", "")
    return Scored(row, row.metric, load, "", "", "", False, row.value, 0.0, {}, None, reason)
