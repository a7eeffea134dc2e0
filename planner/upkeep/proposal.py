"""What a source says that the catalog does not: changes to one entry, not yet checked and not yet written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.records import dataclass


@dataclass(frozen=True, slots=True)
class Proposal:
    """New values of one entry by key (`outer.inner` one level down; None takes the key away).

    `key` is the list in the file that holds the entry, `kind` the catalog's name for it. `headline` are
    the changes a person wants to see, without those of provenance.
    """

    path: Path
    key: str
    kind: str
    entry: str
    changes: Mapping[str, Any]
    headline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something a source says that changes nothing: why an entry stays as it is."""

    entry: str
    text: str


@dataclass(frozen=True, slots=True)
class Survey:
    """One source asked about one kind of fact. `asked` counts the entries that it was asked about."""

    proposals: tuple[Proposal, ...]
    remarks: tuple[Remark, ...]
    asked: int
