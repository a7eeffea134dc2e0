"""A claim of the seed text, and what we hold of it. The check behind `check` is in `validate/`."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Spec

Verdict = Literal["holds", "changed", "contradicted"]
Argument = bool | int | float | str | tuple[str, ...]


class Claim(Spec):
    """`says` is the claim in short. `verdict` is ours: it holds, it holds with a change since, or
    arithmetic or a source contradicts it. `check` names the function that decides it by computing;
    a claim without one rests on `source`.
    """

    id: str
    section: str
    subject: str
    says: str
    verdict: Verdict
    why: str
    check: str | None = None
    arguments: dict[str, Argument] = {}
    source: str = ""
