"""USD per million output tokens, from the machine's price by the hour and the planned throughput.

Knows no price list: a machine carries its own price, or none.
"""

from __future__ import annotations

from planner.estimate.bands import inverse
from planner.spec.hardware import Machine
from planner.spec.plan import Cost, Figure, Performance

SECONDS_PER_HOUR = 3600.0


def cost(machine: Machine, performance: Performance | None, devices: int | None = None) -> Cost:
    """Cost of the `devices` (all of `machine` when None) that a deployment occupies.

    A rented instance is paid whole whatever is used of it; other machines by the device.
    """
    if machine.usd_per_hour is None:
        return Cost(usd_per_hour=None, usd_per_million_output_tokens=None, source="no price known for this machine")
    usd = machine.usd_per_hour
    if machine.instance is None and devices is not None:
        usd *= devices / machine.count
    return Cost(
        usd_per_hour=usd,
        usd_per_million_output_tokens=None if performance is None else per_million(usd, performance),
        source=price_source(machine),
    )


def per_million(usd_per_hour: float, performance: Performance) -> Figure | None:
    """USD per million output tokens at full load; None when nothing comes out."""
    rate = performance.output_tokens_per_s
    if rate.value <= 0.0:
        return None
    usd = usd_per_hour / SECONDS_PER_HOUR / rate.value * 1e6
    low, high, n = inverse((rate.low / rate.value, rate.high / rate.value, rate.n))
    unit = "USD per million output tokens"
    return Figure(value=usd, low=usd * low, high=usd * high, unit=unit, basis=rate.basis, n=n)


def price_source(machine: Machine) -> str:
    """Where the hourly price comes from, with its date."""
    instance = machine.instance
    if instance is None:
        return "list price of an instance with this accelerator, per device"
    region = f", {instance.region}" if instance.region else ""
    return f"{instance.provider} {instance.id} on demand{region}, {instance.provenance.date}"
