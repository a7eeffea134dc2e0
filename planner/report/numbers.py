"""Figures as people read them: rounded to what the band supports, with unit and band."""

from __future__ import annotations

from planner.spec.plan import Configuration, Figure, Percentiles
from planner.units import significant as short

__all__ = ["count", "figure", "latency", "short", "speed"]


def figure(number: Figure) -> str:
    """Value with its 80 % band and basis: "23.1 ms (20.1–26.2, fitted)"."""
    unit = f" {number.unit}" if number.unit else ""
    if number.basis == "exact":
        return f"{short(number.value)}{unit}"
    return f"{short(number.value)}{unit} ({short(number.low)}–{short(number.high)}, {number.basis})"


def latency(times: Percentiles | None) -> str:
    """p50 with its band, then p99: "p50 45 ms (30–70, inherited), p99 180 ms"; "–" where there is none."""
    if times is None:
        return "–"
    return f"p50 {figure(times.p50)}, p99 {short(times.p99.value)} {times.p99.unit}"


def speed(c: Configuration) -> list[tuple[str, str]]:
    """(metric, figure) of what `c` does under the load; empty where nothing was estimated."""
    p, price = c.performance, c.cost.usd_per_million_output_tokens
    if p is None:
        return []
    rows = [("TTFT", latency(p.usual_ttft_ms)), ("ITL", latency(p.itl_ms))]
    if p.start_matters:
        rows.insert(1, ("at the start", f"TTFT p99 {short(p.ttft_ms.p99.value)} ms when all users send at once"))
    rows += [("output", figure(p.output_tokens_per_s)), ("requests", figure(p.requests_per_s))]
    if price is not None:
        rows.append(("cost", f"{figure(price)} ({c.cost.source})"))
    return rows


def count(n: int) -> str:
    """Parameters: 70.6 B, 235 M."""
    return f"{n / 1e9:.3g} B" if n >= 1e9 else f"{n / 1e6:.3g} M"
