"""The seed text checked claim by claim, and told as a page: `python -m planner.validate.seed`.

Knows where the claims are and how to lay them out; what decides a claim is in `seed_checks.py`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from planner.errors import CatalogError, nearest
from planner.sources.catalog import load
from planner.spec.claim import Claim, Verdict
from planner.validate.seed_checks import CHECKS, Finding

_MARKS: dict[Verdict, str] = {"holds": "holds", "changed": "**changed**", "contradicted": "**contradicted**"}
_HEAD = """\
# The seed text, claim by claim

The project started from a short text that compares vLLM, TGI and Ollama. Each of its claims is checked here:
it **holds**, it holds with a change since (**changed**), or arithmetic or a source contradicts it
(**contradicted**). The evidence is computed by the planner, from its catalogs, the engines' own flag lists and
its memory and speed estimates; a claim that cannot be computed names a source. This page is generated from
`catalog/seed_checks.yaml` (`python -m planner.validate.seed > docs/seed-check.md`), and a test fails when it
drifts or when a computed verdict differs from the one recorded.
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim and what its check found; None for a claim that rests on a source."""

    claim: Claim
    finding: Finding | None

    @property
    def agrees(self) -> bool:
        """True when what was computed is what we say."""
        return self.finding is None or self.finding.verdict == self.claim.verdict


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim, in the seed's order. Raises CatalogError for one that nothing backs."""
    found = tuple(Claim.model_validate(row) for row in load().document("seed_checks")["claims"])
    for claim in found:
        if claim.check is None and not claim.source:
            raise CatalogError(f"seed_checks.yaml: {claim.id}: neither a check nor a source backs it")
        if claim.check is not None and claim.check not in CHECKS:
            close = ", ".join(nearest(claim.check, CHECKS)) or ", ".join(sorted(CHECKS))
            raise CatalogError(f"seed_checks.yaml: {claim.id}: unknown check {claim.check!r}; nearest: {close}")
    return found


def run(claim: Claim) -> Checked:
    """Decide one claim. Raises CatalogError when its arguments are not the check's."""
    if claim.check is None:
        return Checked(claim, None)
    try:
        return Checked(claim, CHECKS[claim.check](**claim.arguments))
    except TypeError as error:
        raise CatalogError(f"seed_checks.yaml: {claim.id}: {error}") from error


def generate() -> str:
    """The page, as Markdown."""
    checked = [run(claim) for claim in claims()]
    lines = [_HEAD, _summary(checked), ""]
    for section, rows in groupby(checked, key=lambda c: c.claim.section):
        lines += [f"## {section}", "", "| | claim | verdict | why | evidence |", "|---|---|---|---|---|"]
        lines += [_row(c) for c in rows]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _summary(checked: list[Checked]) -> str:
    counts = {mark: sum(c.claim.verdict == mark for c in checked) for mark in _MARKS}
    computed = sum(c.finding is not None for c in checked)
    told = ", ".join(f"{n} {mark}" for mark, n in counts.items())
    return f"{len(checked)} claims: {told}. {computed} are computed, {len(checked) - computed} rest on a source."


def _row(checked: Checked) -> str:
    claim = checked.claim
    evidence = checked.finding.evidence if checked.finding else claim.source
    cells = (claim.subject, claim.says, _MARKS[claim.verdict], claim.why, evidence)
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(generate())
