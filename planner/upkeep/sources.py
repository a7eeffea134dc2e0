"""Which source a refresh asks, by its kind."""

from __future__ import annotations

from pathlib import Path

from planner.errors import UnknownNameError, UsageError
from planner.sources.index import fold
from planner.upkeep.proposal import Survey
from planner.upkeep.refresh import Source
from planner.upkeep.shelf import Shelf

KINDS = ("models", "accelerators", "prices")


def choose(kind: str, asked: tuple[str, ...], place: str | None, provider: str | None, checkpoints: bool) -> Source:
    """The source of `kind`, bound to what was asked. Raises UsageError when a price list is missing."""
    if kind not in KINDS:
        raise UnknownNameError("kind of fact", kind, KINDS)
    if kind == "prices" and not place:
        raise UsageError("prices need a list: --from FILE or --from https://…")

    def source(shelf: Shelf) -> Survey:
        names = _ids(shelf, kind, asked)
        if kind == "models":
            from planner.upkeep.refresh_models import survey_models

            found = survey_models(shelf, names, Path(place) if place else None, checkpoints=checkpoints)
        elif kind == "accelerators":
            from planner.upkeep.refresh_accelerators import survey_accelerators

            found = survey_accelerators(shelf, names)
        else:
            from planner.upkeep.price_lists import read_prices
            from planner.upkeep.refresh_prices import survey_prices

            found = survey_prices(shelf, read_prices(place or "", provider), names)
        if not found.asked:
            wanted = ", ".join(names) or f"the providers of {place}"
            raise UsageError(f"no catalogued entry to ask about: {wanted}")
        return found

    return source


def _ids(shelf: Shelf, kind: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The entries that `asked` names by id or alias. Raises UnknownNameError for a name that nobody has."""
    one = {"models": "model", "accelerators": "accelerator", "prices": "instance"}[kind]
    known: dict[str, str] = {}
    for entry in shelf.kind(one):
        own = str(getattr(entry.record, "id", entry.id))
        known |= {fold(name): own for name in (entry.id, own, *(entry.names or ()))}
    for name in asked:
        if fold(name) not in known:
            raise UnknownNameError(one, name, known.values())
    return tuple(known[fold(name)] for name in asked)
