"""catalog/recipes.yaml: which formats a user can make, and with what. Read once, never on a cold start."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from planner.errors import CatalogError

if TYPE_CHECKING:
    from planner.spec.recipe import Recipe, Recipes, RecipeTool

_FILE = "recipes"


@cache
def recipes() -> Recipes:
    """Tools and recipes. Raises CatalogError when the file is damaged."""
    from planner.sources.catalog import load
    from planner.spec.recipe import Recipes

    return load().record(_FILE, Recipes)


def recipe_for(quantization: str) -> Recipe | None:
    """The recipe of a format; None for GGUF (llama-quantize needs only the type) and for what cannot be made."""
    return next((recipe for recipe in recipes().recipes if quantization in recipe.quantizations), None)


def made_path(model_id: str, quantization: str) -> str | None:
    """Where the made checkpoint of a model lies, beside the plan's files; None for a format that no recipe makes."""
    kind = quantization.removeprefix("gguf:")
    gguf = kind != quantization
    if not gguf and recipe_for(quantization) is None:
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_id.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "model"
    return f"./{name}-{kind}" + (".gguf" if gguf else "")


def is_made(model_id: str, checkpoint: str, quantization: str) -> bool:
    """True for a plan whose files load what the user makes first by the recipe."""
    return checkpoint.startswith("./") and checkpoint == made_path(model_id, quantization)


def tool(name: str) -> RecipeTool:
    """The tool with this id. Raises CatalogError when the file lacks it."""
    for found in recipes().tools:
        if found.id == name:
            return found
    raise CatalogError(f"{_FILE}.yaml has no tool {name!r}")
