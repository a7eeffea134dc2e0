"""Prices of catalogued instances against a public price list."""

from __future__ import annotations

from collections.abc import Iterable
from math import isclose
from typing import Any

from planner.spec.hardware import Instance
from planner.upkeep.price_lists import Price
from planner.upkeep.proposal import Proposal, Remark, Survey
from planner.upkeep.shelf import Shelf


def survey_prices(shelf: Shelf, prices: Iterable[Price], names: tuple[str, ...] = ()) -> Survey:
    """What `prices` say of the catalogued instances (`names`: of these instance types only).

    A price counts when it is of the entry's own region, or when one of the two names no region. An
    entry without a price takes the cheapest region and says which. Dates and sources move only with a price
    or when the list confirms it on a later day.
    """
    offers: dict[tuple[str, str], list[Price]] = {}
    for price in prices:
        offers.setdefault((price.provider, price.instance.casefold()), []).append(price)
    providers = {provider for provider, _ in offers}
    proposals: list[Proposal] = []
    remarks: list[Remark] = []
    asked = 0
    for entry, i in shelf.of("instance", Instance):
        if i.provider not in providers or (names and i.id not in names):
            continue
        asked += 1
        held = offers.get((i.provider, i.id.casefold()), [])
        match = _match(i, held)
        if match is None:
            where = f" in {i.region}; listed in {', '.join(sorted({p.region for p in held})[:4])}" if held else ""
            remarks.append(Remark(entry.id, f"the list has no price{where}"))
            continue
        changes, headline = _changes(i, match, shelf)
        if changes:
            proposals.append(Proposal(entry.path, "instances", "instance", i.id, changes, headline))
    return Survey(tuple(proposals), tuple(remarks), asked)


def _match(i: Instance, held: list[Price]) -> Price | None:
    same = [p for p in held if i.region is None or not p.region or p.region == i.region]
    if i.region is not None and any(p.region == i.region for p in same):
        same = [p for p in same if p.region == i.region]
    return min(same, key=lambda p: (p.usd_per_hour, p.region), default=None)


def _changes(i: Instance, price: Price, shelf: Shelf) -> tuple[dict[str, Any], tuple[str, ...]]:
    day = price.date or shelf.today.isoformat()
    moved = i.usd_per_hour is None or not isclose(i.usd_per_hour, price.usd_per_hour, rel_tol=1e-6)
    if not moved and day <= i.provenance.date:
        return {}, ()
    changes: dict[str, Any] = {"date": day}
    if price.source and price.source != i.provenance.source:
        changes["source"] = price.source
    if i.provenance.basis != "spec":
        changes["basis"] = "spec"
    if not moved:
        return changes, (f"{price.usd_per_hour:g} USD/h confirmed on {day}",)
    changes["usd_per_hour"] = price.usd_per_hour
    if i.region is None and price.region:
        changes["region"] = price.region
    if "price" in i.provenance.note or "OLD" in i.provenance.note:
        changes["note"] = None
    was = "no price" if i.usd_per_hour is None else f"{i.usd_per_hour:g} USD/h of {i.provenance.date}"
    return changes, (f"{was} → {price.usd_per_hour:g} USD/h of {day}",)
