"""catalog/companions.yaml: images and instances of third-party targets. Read once, never on a cold start."""

from __future__ import annotations

from functools import cache

from planner.errors import CatalogError
from planner.spec.companion import CompanionImage, Companions

_FILE = "companions.yaml"


@cache
def companions() -> Companions:
    """The whole file. Raises CatalogError when it is damaged."""
    from pydantic import ValidationError

    from planner.sources.catalog import load

    try:
        return Companions.model_validate(load().document("companions"))
    except ValidationError as error:
        raise CatalogError(f"{_FILE}: {' '.join(str(error).split())}") from None


def companion_image(name: str) -> CompanionImage:
    """The image with this id. Raises CatalogError when the file lacks it."""
    for image in companions().images:
        if image.id == name:
            return image
    raise CatalogError(f"{_FILE} has no image {name!r}")
