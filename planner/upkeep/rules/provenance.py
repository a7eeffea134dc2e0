"""Where facts are from: a public source, an ISO date that is not too old, a basis that explains itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from itertools import chain

from pydantic import BaseModel

from planner.spec.base import Provenance
from planner.upkeep.shelf import Finding, Shelf, found

_PATH = re.compile(r"(?:^|[\s(])(?:/[A-Za-z]\w*/|~/|\.\.?/|[A-Z]:\\)\S*|file://\S*|localhost|127\.0\.0\.1")
"""A path of somebody's machine instead of a source that another person can open."""
FIRST_DATE = date(2012, 1, 1)
"""No fact of this catalog can be older: the year of the first CUDA device that it knows."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Every provenance inside every record, nested ones included."""
    for entry in shelf.entries:
        if entry.record is not None:
            held = list(_provenances("", entry.record))
            messages = chain.from_iterable(_wrong(shelf, where, p) for where, p in held)
            yield from found(entry, "provenance", dict.fromkeys(messages))
            stale = chain.from_iterable(_stale(shelf, where, p) for where, p in held)
            yield from found(entry, "age", dict.fromkeys(stale))


def _provenances(where: str, value: object) -> Iterator[tuple[str, Provenance]]:
    if isinstance(value, Provenance):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _provenances(_joined(where, name), getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _provenances(_joined(where, str(name)), inner)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for i, inner in enumerate(value):
            yield from _provenances(f"{where}[{_label(inner, i)}]", inner)


def _joined(where: str, name: str) -> str:
    if name in ("provenance", "field_provenance"):
        return where
    return f"{where}.{name}" if where else name


def _label(record: object, i: int) -> str:
    names = (getattr(record, field, None) for field in ("id", "repo", "ollama_tag", "reference"))
    return str(next((name for name in names if name), i))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _wrong(shelf: Shelf, where: str, p: Provenance) -> Iterator[str]:
    of = f"{where}: " if where else ""
    if len(p.source.strip()) < 4:
        yield f"{of}no source"
    elif match := _PATH.search(p.source):
        yield f"{of}the source names a place on one machine ({match[0].strip()})"
    day = _day(p.date)
    if day is None:
        yield f"{of}{p.date!r} is no ISO date"
    elif day > shelf.today:
        yield f"{of}dated {p.date}, which is yet to come"
    elif day < FIRST_DATE:
        yield f"{of}dated {p.date}, before {FIRST_DATE}"
    if p.basis == "estimated" and not p.note.strip() and " " not in p.source.strip():
        yield f"{of}estimated, and neither note nor source says how"


def _stale(shelf: Shelf, where: str, p: Provenance) -> Iterator[str]:
    day = _day(p.date)
    if shelf.max_age_days is None or day is None:
        return
    age = (shelf.today - day).days
    if age > shelf.max_age_days:
        yield f"{where + ': ' if where else ''}{age} days old ({p.date}); at most {shelf.max_age_days}"
