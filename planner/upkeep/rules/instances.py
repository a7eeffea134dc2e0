"""Cloud instances: known accelerators, plausible memory and prices, more of the same device costing more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from planner.sources.entries import Entry
from planner.spec.hardware import Instance
from planner.upkeep.rules.accelerators import within
from planner.upkeep.shelf import Finding, Shelf, found

MOST_OVER_MEDIAN = 6.0
"""How far a price per device may lie from the median of all that offer it: the spread between the dearest
hyperscaler and the cheapest marketplace stays below it."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each instance on its own, against its peers, and in order of size."""
    accelerators = shelf.ids("accelerator")
    rows = list(shelf.of("instance", Instance))
    for entry, i in rows:
        yield from found(entry, "ranges", _ranges(i))
        if i.accelerator is not None and i.accelerator not in accelerators:
            yield from found(entry, "links", (f"no accelerator {i.accelerator!r}",))
        if not i.accelerator_label:
            yield from found(entry, "consistency", ("no accelerator_label",))
    yield from _peers(rows)
    yield from _order(rows)


def _ranges(i: Instance) -> Iterator[str]:
    yield from within("ram_bytes", i.ram_bytes, 4, 6000, "GB", 1e9)
    yield from within("vcpu", i.vcpu, 1, 1024, "")
    yield from within("accelerator_count", i.accelerator_count, 0, 16, "")
    if i.usd_per_hour is not None:
        yield from within("usd_per_hour", i.usd_per_hour / max(i.accelerator_count, 1), 0.03, 40, "USD per device")


def _peers(rows: list[tuple[Entry, Instance]]) -> Iterator[Finding]:
    """A price per device far from everybody else's for the same device."""
    offers: dict[str, list[tuple[Entry, float]]] = defaultdict(list)
    for entry, i in rows:
        if i.accelerator and i.accelerator_count and i.usd_per_hour:
            offers[i.accelerator].append((entry, i.usd_per_hour / i.accelerator_count))
    for accelerator, prices in offers.items():
        middle = median(price for _, price in prices)
        for entry, price in prices:
            if len(prices) >= 3 and not 1 / MOST_OVER_MEDIAN <= price / middle <= MOST_OVER_MEDIAN:
                message = f"{price:.2f} USD/h per {accelerator}; the median is {middle:.2f}"
                yield from found(entry, "prices", (message,))


def _order(rows: list[tuple[Entry, Instance]]) -> Iterator[Finding]:
    """More of a device, cheapest offer against cheapest offer, must cost more (same provider, region, series)."""
    cheapest: dict[tuple[str, str, str | None], dict[int, tuple[float, Entry]]] = defaultdict(dict)
    for entry, i in rows:
        if i.accelerator and i.accelerator_count and i.usd_per_hour:
            sizes = cheapest[i.provider, i.accelerator, i.region]
            offer = (i.usd_per_hour, entry)
            held = sizes.get(i.accelerator_count)
            if held is None or offer[0] < held[0]:
                sizes[i.accelerator_count] = offer
    for (_, accelerator, _), sizes in cheapest.items():
        ordered = sorted(sizes.items())
        for (few, (less, small)), (many, (more, large)) in pairwise(ordered):
            if more <= less:
                message = f"{many} x {accelerator} for {more:g} USD/h, where {small.id} asks {less:g} for {few}"
                yield from found(large, "prices", (message,))
