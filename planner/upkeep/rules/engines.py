"""Engine releases, the guide and companions: pinned images, flag lists that are there, names that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.advise.predicates import PREDICATES
from planner.sources.entries import Entry
from planner.spec.engine import EngineRelease
from planner.upkeep.shelf import Finding, Shelf, found

_FLOATING = re.compile(r"(?:^|/)[^/:@]+(?::(?:latest|main|master|nightly|dev|stable|edge))?$")
"""No tag at all, or one that moves."""
_VERSIONED = re.compile(r"/\d+\.\d+(?:\.\d+)?/")
"""Intel's Gaudi images have their version in the path and are all tagged `latest`."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each release, then the documents that name engines, predicates and images."""
    engines: set[str] = set()
    for entry, release in shelf.of("engine", EngineRelease):
        engines.add(release.engine)
        images = (i.reference for i in release.images)
        yield from found(entry, "images", _floating(images))
        flags = release.flags_file
        if flags and not (entry.path.parent / flags).exists():
            yield from found(entry, "links", (f"flags_file {flags!r} is no file beside it",))
    for entry in shelf.kind("document"):
        if "guide" in entry.raw:
            yield from found(entry, "links", _guide(entry, engines))
        if "endpoint_instances" in entry.raw:
            yield from found(entry, "links", _companions(shelf, entry))
            yield from found(entry, "images", _floating(str(i["reference"]) for i in entry.raw.get("images", ())))


def _floating(references: Iterator[str]) -> Iterator[str]:
    for reference in references:
        if _FLOATING.search(reference) and not _VERSIONED.search(reference):
            yield f"{reference} floats: name a tag that stays"


def _guide(entry: Entry, engines: set[str]) -> Iterator[str]:
    for row in entry.raw["guide"]:
        if row.get("engine") not in engines:
            yield f"row {row.get('id')}: no engine {row.get('engine')!r}"
        if row.get("when") not in PREDICATES:
            yield f"row {row.get('id')}: no predicate {row.get('when')!r}"


def _companions(shelf: Shelf, entry: Entry) -> Iterator[str]:
    known = shelf.ids("accelerator")
    for row in entry.raw["endpoint_instances"]:
        if row.get("accelerator") not in known:
            yield f"{row.get('instance_type')}: no accelerator {row.get('accelerator')!r}"
