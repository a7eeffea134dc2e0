"""catalog/hardening.yaml: the rules of the security pass and their waivers. Read once, never on a cold start."""

from __future__ import annotations

from functools import cache

from planner.errors import CatalogError
from planner.spec.hardening import Hardening


@cache
def hardening() -> Hardening:
    """Rules and waivers. Raises CatalogError when the file is damaged or waives a rule that does not exist."""
    from planner.sources.catalog import load

    found = load().record("hardening", Hardening)
    known = {rule.id for rule in found.rules}
    for waiver in found.waivers:
        if waiver.rule not in known:
            raise CatalogError(f"hardening.yaml waives {waiver.rule!r}, which is no rule")
    return found
