"""Order within a family: what must grow from one part to the next, and between variants of one part.

Families are data (hardware/families.yaml); variants of one part are told by its name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from planner.sources.entries import Entry
from planner.spec.hardware import Accelerator, Family
from planner.upkeep.shelf import Finding, Shelf, found

_SIZE = re.compile(r"-\d+gb$")


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Families as listed, then memory variants of one part."""
    parts = {entry.id: (entry, record) for entry, record in shelf.of("accelerator", Accelerator)}
    for entry, family in shelf.of("family", Family):
        yield from _family(entry, family, parts)
    yield from _variants(parts)


def _family(entry: Entry, family: Family, parts: dict[str, tuple[Entry, Accelerator]]) -> Iterator[Finding]:
    yield from found(entry, "links", (f"no accelerator {m!r}" for m in family.members if m not in parts))
    known = [m for m in family.members if m in parts]
    for field in family.grows:
        for low, high in pairwise(known):
            small, large = getattr(parts[low][1], field, None), getattr(parts[high][1], field, None)
            if small is None or large is None or small >= large:
                yield from found(
                    parts[high][0], "families", (f"{field} {_shown(large)} is not above {_shown(small)} of {low}",)
                )


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _variants(parts: dict[str, tuple[Entry, Accelerator]]) -> Iterator[Finding]:
    """`x-40gb` and `x-80gb`: the one with more memory is newer or better, never slower to read it."""
    by_part: dict[str, list[Accelerator]] = defaultdict(list)
    for _, record in parts.values():
        if _SIZE.search(record.id):
            by_part[_SIZE.sub("", record.id)].append(record)
    for variants in by_part.values():
        ordered = sorted(variants, key=lambda a: a.memory_bytes)
        for small, large in pairwise(ordered):
            if large.memory_bytes > small.memory_bytes and (
                large.mem_bandwidth_bytes_per_s < small.mem_bandwidth_bytes_per_s
            ):
                message = f"more memory than {small.id}, and slower to read"
                yield from found(parts[large.id][0], "families", (message,))
