"""A row of the decision guide. The predicate behind `when` is a function in `advise/guide.py`."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Provenance, Spec


class GuideRow(Spec):
    """`when` names a predicate; where it holds, `engine` is required, preferred or avoided.

    `weight` ranks `prefer` rows against each other. `caution` is shown with the plan when the row
    decided.
    """

    id: str
    statement: str
    when: str
    engine: str
    strength: Literal["require", "prefer", "avoid"]
    weight: float = 1.0
    caution: str = ""
    provenance: Provenance
