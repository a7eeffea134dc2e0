"""Robust least squares on logarithms of times: what fit.py solves, plan by plan.

Knows rows and coefficients, not which rows go together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from fit_plans import Row

from planner.estimate.efficiency import Fit
from planner.estimate.step import StepModel
from planner.spec.calibration import Calibration
from planner.validate.replay import Book, Replay, batch_figure

Array = Any

METRICS = {
    "ttft_ms_mean": "ttft", "prefill_s": "ttft", "prefill_tokens_per_s": "ttft",
    "itl_ms_mean": "itl", "e2e_s": "itl", "decode_tokens_per_s": "itl", "decode_step_ms": "itl",
}  # fmt: skip
"""Metrics that are fitted, and the band that each counts in."""
CEILING = {
    "mem_fraction": 0.93, "kv_fraction": 0.97, "flop_fraction": 1.9,
    "attention_flop_fraction": 0.9,
    "link_fraction": 1.0, "fp8_mem": 1.05, "int8_mem": 1.05, "int4_mem": 1.05, "fp4_mem": 1.15, "gguf_mem": 1.05,
    "moe_mem": 1.05, "narrow_kv": 1.1, "fp8_flop": 1.15, "fp4_flop": 1.15,
}  # fmt: skip
"""What hardware cannot exceed, with room for errors of a catalogued peak. GeForce peaks are catalogued
with FP32 accumulation; llama.cpp accumulates in FP16, at twice that rate."""
TIGHT = {"link_fraction": 0.15, "activation_passes": 0.3, "slice_passes": 0.3}
"""Priors that rows hardly move: what a link reaches is known from collectives' own benchmarks, and one
collection's servers would else decide it for all."""
DELTA, NOISE = 0.15, 0.15
FULL_WEIGHT_ROWS = 150
"""More rows than these sharpen a fit no further: they share models, and so their errors."""


class Data:
    """Rows, grouped so that a prediction of all of them is a few array operations."""

    def __init__(self, rows: list[Row], book: Book) -> None:
        self.rows, self.book = rows, book
        self.truth = np.array([r.value for r in rows])
        groups: dict[tuple[int, str, str], list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            groups[id(book.deployment(row)), row.load, row.metric].append(i)
        self._groups = list(groups.items())
        self.weight = np.array([_weight(r) for r in rows])
        self._sign = np.array([-1.0 if r.metric.endswith("per_s") else 1.0 for r in rows])

    def predict(self, coefficients: dict[str, float]) -> Array:
        """What the estimator says of each row, in the row's own unit."""
        out = np.zeros(len(self.rows))
        replay = Replay(self.book, Calibration(), Fit(coefficients, "fitted", "", ""))
        for (_, load, metric), at in self._groups:
            rows = [self.rows[i] for i in at]
            step = replay.step(rows[0])
            if load == "closed_loop":
                out[at] = [replay.predict(row) for row in rows]
            else:
                out[at] = _columns(step, load, metric, rows)
        return out

    def errors_of(self, predicted: Array) -> Array:
        """ln(predicted time / measured time) of each row."""
        return self._sign * np.log(predicted / self.truth)

    def residuals(self, coefficients: dict[str, float]) -> Array:
        """The same for what `coefficients` predict."""
        return self.errors_of(self.predict(coefficients))

    def part(self, keep: Callable[[Row], bool]) -> Data:
        """The rows that `keep` holds for."""
        return Data([r for r in self.rows if keep(r)], self.book)


def _columns(step: StepModel, load: str, metric: str, rows: list[Row]) -> Array:
    names = ("concurrency", "input_tokens", "output_tokens", "context_tokens", "step_tokens")
    return batch_figure(step, load, metric, *(np.array([float(getattr(r, name)) for r in rows]) for name in names))


def _weight(row: Row) -> float:
    if row.load == "closed_loop" and row.metric.startswith("ttft"):
        return 0.3  # queueing noise says little about kernels
    if row.load == "closed_loop" and row.output_tokens <= 128:
        return 0.3  # how clients group decides these
    return 1.0


def solve(
    data: Data, free: tuple[str, ...], prior: dict[str, float], sigma: float, rounds: int = 10
) -> dict[str, float]:
    """Levenberg-Marquardt on the logarithms of `free`, pseudo-Huber loss, prior of width `sigma`."""
    if not free or not data.rows:
        return dict(prior)
    start = np.log([prior[k] for k in free])
    width = np.array([min(sigma, TIGHT.get(k, sigma)) for k in free])
    noise = NOISE**2 * max(1.0, len(data.rows) / FULL_WEIGHT_ROWS)

    def values(t: Array) -> dict[str, float]:
        return {**prior, **{k: float(np.exp(x)) for k, x in zip(free, t, strict=True)}}

    def cost(r: Array, t: Array) -> float:
        loss = 2 * DELTA**2 * (np.sqrt(1 + (r / DELTA) ** 2) - 1)
        return float((data.weight * loss).sum() / noise + (((t - start) / width) ** 2).sum())

    roof = np.log([CEILING.get(k, 1e9) for k in free])
    t, damping = np.minimum(start, roof), 1e-2
    r = data.residuals(values(t))
    best = cost(r, t)
    for _ in range(rounds):
        slopes = np.empty((len(r), len(free)))
        for j in range(len(free)):
            moved = t.copy()
            moved[j] -= 0.02
            slopes[:, j] = (data.residuals(values(moved)) - r) / -0.02
        w = data.weight / np.sqrt(1 + (r / DELTA) ** 2) / noise
        curve = (slopes * w[:, None]).T @ slopes + np.diag(1 / width**2)
        gradient = slopes.T @ (w * r) + (t - start) / width**2
        # What stands at its ceiling and would go beyond it stays there, or no step of the others would descend.
        stuck = (t >= roof - 1e-9) & (gradient < 0)
        curve[stuck, :] = curve[:, stuck] = 0.0
        curve[stuck, stuck] = 1.0
        gradient[stuck] = 0.0
        for _ in range(6):
            move = np.clip(-np.linalg.solve(curve + damping * np.diag(np.diag(curve)), gradient), -0.7, 0.7)
            move = np.minimum(t + move, roof) - t
            tried = data.residuals(values(t + move))
            if cost(tried, t + move) < best:
                break
            damping *= 6
        else:
            break
        t, r = t + move, tried
        gain, best, damping = best - cost(r, t), cost(r, t), max(damping / 6, 1e-4)
        if gain < 1e-3 * best:
            break
    return values(t)
