"""catalog/parsers.yaml: a model family's tool and reasoning parsers. Read once, and only when one is asked for."""

from __future__ import annotations

import re
from functools import cache

from planner.spec.parsers import ParserFamily, Parsers


@cache
def parsers() -> Parsers:
    """All families. Raises CatalogError when the file is damaged."""
    from planner.sources.catalog import load

    return load().record("parsers", Parsers)


def family_of(model_id: str) -> ParserFamily | None:
    """The first family whose pattern is found in `model_id`; None when nothing is known about it."""
    return next((row for row in parsers().families if re.search(row.ids, model_id, re.IGNORECASE)), None)
