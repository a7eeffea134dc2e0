"""How far a figure may be off: 80 % bands from cross-validated residuals, nearest class first."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from planner.estimate.efficiency import Fit, scopes
from planner.spec.base import FigureBasis
from planner.spec.calibration import Band, Calibration
from planner.spec.plan import Figure

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment

UNCALIBRATED_BAND: Final = (0.4, 2.5)
"""true / predicted where nobody measured anything like it."""
_WIDEN: Final = 1.5
"""A band of another device, engine or class is this many times as wide (in its logarithm)."""
STAND_INS: Final = {"prefill": ("prefill", "ttft")}
"""Metrics whose band another's may stand in for at the same place."""


def band(calibration: Calibration, metric: str, engine: str, d: Deployment, fit: Fit) -> tuple[float, float, int]:
    """(low, high, rows): true/predicted of `metric` lies between them for 80 % of cases."""
    found = _nearest(calibration, STAND_INS.get(metric, (metric,)), fit.lines or (engine,), d)
    if found is None or fit.basis == "uncalibrated":
        return (*UNCALIBRATED_BAND, 0)
    if fit.basis == "fitted":
        return found.low, found.high, found.n
    return min(found.low**_WIDEN, 0.85), max(found.high**_WIDEN, 1.18), found.n


def _nearest(calibration: Calibration, metrics: tuple[str, ...], lines: tuple[str, ...], d: Deployment) -> Band | None:
    """The band of the most specific scope; among relatives the engine's own comes first, then its own kind's."""
    table = {(b.scope, b.engine, b.metric, b.format_kind, b.moe): b for b in calibration.bands if b.metric in metrics}
    own = (d.quantization.kind, d.model.is_moe)
    for place in product(scopes(d.machine), lines, metrics):
        found = table.get((*place, *own)) or table.get((*place, None, None))
        if found is not None:
            return found
    return None


def figure(value: float, unit: str, limits: tuple[float, float, int], basis: FigureBasis) -> Figure:
    """`value` with its band, `basis` said; bands always hold the value itself."""
    low, high, n = limits
    return Figure(value=value, low=value * min(low, 1.0), high=value * max(high, 1.0), unit=unit, basis=basis, n=n)


def inverse(limits: tuple[float, float, int]) -> tuple[float, float, int]:
    """The band of a rate, from the band of the time that it is the inverse of."""
    low, high, n = limits
    return 1.0 / high, 1.0 / low, n
