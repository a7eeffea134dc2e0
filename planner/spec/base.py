"""What all specs share: frozen, no unknown keys, and where each number came from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Basis = Literal["spec", "measured", "derived", "estimated"]
FigureBasis = Literal["exact", "measured", "fitted", "inherited", "uncalibrated", "calibrated here"]


class Spec(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())


class Provenance(Spec):
    """Where a number came from: a URL or document, its ISO date, and how it was obtained."""

    source: str
    date: str
    basis: Basis
    note: str = ""
