"""Figures as people read them: rounded to what the band supports, with unit and band."""

from __future__ import annotations

from planner.spec.plan import Figure, Percentiles


def short(value: float) -> str:
    """Three significant digits, thousands separated: 0.0123, 12.3, 4,210."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}"


def figure(number: Figure) -> str:
    """Value with its 80 % band and basis: "23.1 ms (20.1–26.2, fitted)"."""
    unit = f" {number.unit}" if number.unit else ""
    if number.basis == "exact":
        return f"{short(number.value)}{unit}"
    return f"{short(number.value)}{unit} ({short(number.low)}–{short(number.high)}, {number.basis})"


def latency(times: Percentiles | None) -> str:
    """p50 with its band, then p99: "45 ms (30–70, inherited), p99 180"; "–" where there is none."""
    if times is None:
        return "–"
    return f"{figure(times.p50)}, p99 {short(times.p99.value)}"


def count(n: int) -> str:
    """Parameters: 70.6 B, 235 M."""
    return f"{n / 1e9:.3g} B" if n >= 1e9 else f"{n / 1e6:.3g} M"
