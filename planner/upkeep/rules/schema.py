"""Entries that do not parse: unknown keys, missing fields, files that are no YAML."""

from __future__ import annotations

from collections.abc import Iterator

from planner.upkeep.shelf import Finding, Shelf, found


def findings(shelf: Shelf) -> Iterator[Finding]:
    """One per entry with an error."""
    for entry in shelf.entries:
        if entry.error:
            yield from found(entry, "schema", (entry.error.removeprefix(f"{entry.path.name}: "),))
