"""The catalog's entries by kind, and what a rule says about one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

from planner.sources.entries import Entry
from planner.spec.base import Spec

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: in which file, at which entry, by which rule."""

    file: str
    entry: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """All entries; `of` gives those of a kind that parsed. `today` and `max_age_days` are for rules about dates."""

    entries: tuple[Entry, ...]
    today: date
    max_age_days: int | None = None
    _kinds: dict[str, tuple[Entry, ...]] = field(default_factory=dict)

    def kind(self, kind: str) -> tuple[Entry, ...]:
        """Entries of `kind` that parsed."""
        if kind not in self._kinds:
            self._kinds[kind] = tuple(e for e in self.entries if e.kind == kind and not e.error)
        return self._kinds[kind]

    def of(self, kind: str, spec: type[S]) -> Iterator[tuple[Entry, S]]:
        """Entries of `kind` with their records."""
        for entry in self.kind(kind):
            assert isinstance(entry.record, spec)
            yield entry, entry.record

    def ids(self, kind: str) -> frozenset[str]:
        """Ids of `kind`."""
        return frozenset(entry.id for entry in self.kind(kind))


def shown(path: Path) -> str:
    """`path` from its data folder on: hardware/clouds/aws.yaml, wherever the folder is."""
    parts = path.parts
    for name in ("hardware", "catalog"):
        if name in parts[:-1]:
            at = len(parts) - 1 - parts[::-1].index(name, 1)
            return "/".join(parts[at:])
    return path.name


def found(entry: Entry, rule: str, messages: Iterable[str]) -> Iterator[Finding]:
    """`messages` of `rule` about `entry`."""
    for message in messages:
        yield Finding(shown(entry.path), entry.id, rule, message)
