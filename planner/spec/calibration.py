"""Fitted efficiencies and the error bands that go with them."""

from __future__ import annotations

from planner.spec.base import FigureBasis, Provenance, Spec


class Efficiency(Spec):
    """Coefficients of the operator laws for one engine family on one device or architecture.

    `scope` is an accelerator or CPU id, `architecture/device class`, an architecture or a platform; the
    most specific one that matches is used. What each coefficient means is said in `estimate/ops.py`.
    """

    engine: str
    scope: str
    devices: tuple[str, ...] = ()
    """Accelerators and CPUs whose rows are in the fit; for others of the scope it is inherited."""
    basis: FigureBasis
    coefficients: dict[str, float]
    most_sequences: float | None = None
    """Largest batch of one engine among the fitted rows."""
    longest_tokens: float | None = None
    """Longest context, answer included, among them."""
    provenance: Provenance


class Band(Spec):
    """Relative 80 % band of a metric: true/predicted lies in [low, high] for 80 % of `n` rows.

    Metrics are ttft (under load), prefill (a prompt or a burst alone, where it scatters less) and itl.
    """

    metric: str
    engine: str
    scope: str
    format_kind: str | None = None
    moe: bool | None = None
    """The kind of format and of model that the rows were of; None: all of them."""
    low: float
    high: float
    n: int
    basis: FigureBasis
    provenance: Provenance


class Calibration(Spec):
    """All of `catalog/calibration/`."""

    efficiencies: tuple[Efficiency, ...] = ()
    bands: tuple[Band, ...] = ()
