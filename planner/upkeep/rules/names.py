"""Ids and aliases: none belongs to two entries of a kind."""

from __future__ import annotations

from collections.abc import Iterator

from planner.sources.index import fold
from planner.upkeep.shelf import Finding, Shelf, found


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Names are compared as the index compares them: case, spaces, `-`, `_` and `:` do not count."""
    owners: dict[tuple[str, str], str] = {}
    seen: set[tuple[str, str]] = set()
    for entry in shelf.entries:
        if entry.error or entry.names is None:
            continue
        if (entry.kind, entry.id) in seen:
            yield from found(entry, "names", (f"{entry.kind} {entry.id!r} is there twice",))
            continue
        seen.add((entry.kind, entry.id))
        for name in dict.fromkeys((entry.id, *entry.names)):
            owner = owners.setdefault((entry.kind, fold(name)), entry.id)
            if owner != entry.id:
                yield from found(entry, "names", (f"the name {name!r} belongs to {owner!r} too",))
