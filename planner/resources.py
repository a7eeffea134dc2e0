"""Where the data folders are: packaged in the wheel, or beside the checkout.

Knows three folders by name and nothing of what is in them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from planner.errors import CatalogError

Folder = Literal["hardware", "catalog", "templates"]


@cache
def folder(name: Folder) -> Path:
    """The data folder `name`. Raises CatalogError when the installation is incomplete."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "data" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise CatalogError(f"the data folder {name!r} is missing from this installation")
