"""Cloud instances: known devices, plausible memory and prices, more of the same device costing more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from planner.sources.entries import Entry
from planner.spec.hardware import Cpu, Instance
from planner.upkeep.rules.accelerators import within
from planner.upkeep.shelf import Finding, Shelf, found

MOST_OVER_MEDIAN = 6.0
"""How far a price per device may lie from the median of all that offer it: the spread between the dearest
hyperscaler and the cheapest marketplace stays below it."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each instance on its own, against its peers, and in order of size."""
    accelerators = shelf.ids("accelerator")
    cpus = {cpu.id: cpu for _, cpu in shelf.of("cpu", Cpu)}
    rows = list(shelf.of("instance", Instance))
    for entry, i in rows:
        yield from found(entry, "ranges", _ranges(i))
        if i.accelerator is not None and i.accelerator not in accelerators:
            yield from found(entry, "links", (f"no accelerator {i.accelerator!r}",))
        if i.cpu is not None and i.cpu not in cpus:
            yield from found(entry, "links", (f"no CPU {i.cpu!r}",))
        yield from found(entry, "consistency", _consistent(i, cpus.get(i.cpu or "")))
    yield from _peers(rows)
    yield from _order(rows)


def _ranges(i: Instance) -> Iterator[str]:
    yield from within("ram_bytes", i.ram_bytes, 4, 6000, "GB", 1e9)
    yield from within("vcpu", i.vcpu, 1, 1024, "")
    yield from within("accelerator_count", i.accelerator_count, 0, 16, "")
    yield from within("accelerator_share", i.accelerator_share, 0.05, 1, "of a device")
    if i.usd_per_hour is not None:
        yield from within("usd_per_hour", i.usd_per_hour / _devices(i), 0.03, 40, "USD per device")


def _devices(i: Instance) -> float:
    """What its price is divided by: whole accelerators, or the part of one; 1 without any."""
    return max(i.accelerator_count, 1) * i.accelerator_share


def _consistent(i: Instance, cpu: Cpu | None) -> Iterator[str]:
    """Either accelerators or a CPU; a part of one accelerator only; cores that the vCPUs and the sockets can be."""
    if i.cpu is None and not i.accelerator_label:
        yield "no accelerator_label"
    if i.cpu is not None and i.accelerator is not None:
        yield "both an accelerator and a CPU to plan with"
    if i.accelerator_share < 1.0 and i.accelerator_count != 1:
        yield f"{i.accelerator_share:g} of {i.accelerator_count} accelerators"
    if cpu is None:
        return
    if i.cores is None or i.vcpu is None or i.ram_bytes is None:
        yield "a CPU instance needs vcpu, cores and ram_bytes"
    elif i.vcpu not in (i.cores, 2 * i.cores):
        yield f"{i.vcpu} vCPUs are neither one nor two for each of {i.cores} cores"
    elif i.cores % -(-i.cores // cpu.cores):
        yield f"{i.cores} cores are not alike on {-(-i.cores // cpu.cores)} sockets of {cpu.cores}"


def _peers(rows: list[tuple[Entry, Instance]]) -> Iterator[Finding]:
    """A price per device far from everybody else's for the same device."""
    offers: dict[str, list[tuple[Entry, float]]] = defaultdict(list)
    for entry, i in rows:
        if i.accelerator and i.accelerator_count and i.usd_per_hour:
            offers[i.accelerator].append((entry, i.usd_per_hour / _devices(i)))
    for accelerator, prices in offers.items():
        middle = median(price for _, price in prices)
        for entry, price in prices:
            if len(prices) >= 3 and not 1 / MOST_OVER_MEDIAN <= price / middle <= MOST_OVER_MEDIAN:
                message = f"{price:.2f} USD/h per {accelerator}; the median is {middle:.2f}"
                yield from found(entry, "prices", (message,))


def _order(rows: list[tuple[Entry, Instance]]) -> Iterator[Finding]:
    """More of a device, cheapest offer against cheapest offer, must cost more (same provider, region, series).

    Parts of an accelerator come with machines of their own kind, and are no cheaper than a whole one elsewhere.
    """
    cheapest: dict[tuple[str, str, str | None], dict[int, tuple[float, Entry]]] = defaultdict(dict)
    for entry, i in rows:
        device, amount = (i.cpu, i.cores or 0) if i.cpu else (i.accelerator, i.accelerator_count)
        if device and amount and i.usd_per_hour and i.accelerator_share == 1.0:
            sizes = cheapest[i.provider, device, i.region]
            offer = (i.usd_per_hour, entry)
            held = sizes.get(amount)
            if held is None or offer[0] < held[0]:
                sizes[amount] = offer
    for (_, device, _), sizes in cheapest.items():
        ordered = sorted(sizes.items())
        for (few, (less, small)), (many, (more, large)) in pairwise(ordered):
            if more <= less:
                message = f"{many} x {device} for {more:g} USD/h, where {small.id} asks {less:g} for {few}"
                yield from found(large, "prices", (message,))
