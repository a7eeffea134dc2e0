"""How far a figure may be off: 80 % bands from cross-validated residuals, nearest class first."""

from __future__ import annotations

from typing import Final

from planner.estimate.efficiency import Fit, scopes
from planner.spec.base import FigureBasis
from planner.spec.calibration import Band, Calibration
from planner.spec.hardware import Machine
from planner.spec.plan import Figure

UNCALIBRATED_BAND: Final = (0.4, 2.5)
"""true / predicted where nobody measured anything like it."""
_WIDEN: Final = 1.5
"""A band of another device, engine or class is this many times as wide (in its logarithm)."""
SLOWEST_METRIC: Final = "ttft"


def band(calibration: Calibration, metric: str, engine: str, machine: Machine, fit: Fit) -> tuple[float, float, int]:
    """(low, high, rows): true/predicted of `metric` lies between them for 80 % of cases."""
    found = _nearest(calibration, metric, fit.lines or (engine,), scopes(machine))
    if found is None or fit.basis == "uncalibrated":
        return (*UNCALIBRATED_BAND, 0)
    if fit.basis == "fitted":
        return found.low, found.high, found.n
    return min(found.low**_WIDEN, 0.85), max(found.high**_WIDEN, 1.18), found.n


def _nearest(calibration: Calibration, metric: str, lines: tuple[str, ...], names: tuple[str, ...]) -> Band | None:
    """The band of the most specific scope; among relatives the engine's own comes first."""
    table = {(b.scope, b.engine): b for b in calibration.bands if b.metric == metric}
    for scope in names:
        for relative in lines:
            if (scope, relative) in table:
                return table[scope, relative]
    return None


def figure(value: float, unit: str, limits: tuple[float, float, int], basis: FigureBasis) -> Figure:
    """`value` with its band, `basis` said; bands always hold the value itself."""
    low, high, n = limits
    return Figure(value=value, low=value * min(low, 1.0), high=value * max(high, 1.0), unit=unit, basis=basis, n=n)


def inverse(limits: tuple[float, float, int]) -> tuple[float, float, int]:
    """The band of a rate, from the band of the time that it is the inverse of."""
    low, high, n = limits
    return 1.0 / high, 1.0 / low, n
