"""catalog/parsers.yaml: a model family's tool and reasoning parsers. Read once, and only when one is asked for."""

from __future__ import annotations

import re
from functools import cache

from planner.errors import CatalogError
from planner.spec.parsers import ParserFamily, Parsers

_FILE = "parsers"


@cache
def parsers() -> Parsers:
    """All families. Raises CatalogError when the file is damaged."""
    from pydantic import ValidationError

    from planner.sources.catalog import load

    try:
        return Parsers.model_validate(load().document(_FILE))
    except ValidationError as error:
        raise CatalogError(f"{_FILE}.yaml: {' '.join(str(error).split())}") from None


def family_of(model_id: str) -> ParserFamily | None:
    """The first family whose pattern is found in `model_id`; None when nothing is known about it."""
    return next((row for row in parsers().families if re.search(row.ids, model_id, re.IGNORECASE)), None)
