"""Which model a name means: a catalog alias, a Hub id of the catalog, or a local directory.

Refuses what cannot be a model name before it goes anywhere near a shell, a path or a template.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import FormatError, UsageError

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]*(/[A-Za-z0-9][A-Za-z0-9._:\-]*)*")
_MAX_CONFIG_BYTES = 4 << 20


def resolve_model(catalog: Catalog, name: str) -> tuple[ModelSpec, str | None]:
    """The model that `name` means, and what was assumed (None when the name is exact).

    Raises UsageError for text that is no model name, UnknownNameError with the nearest known names
    for one that no catalog has, FormatError for a directory whose config.json is damaged.
    """
    text = name.strip()
    if not text:
        raise UsageError("the model is empty; give a name such as llama3-70b (see `planner models list`)")
    if text.startswith((".", "/", "~")) or (len(text) < 255 and "\0" not in text and _is_directory(text)):
        return _from_directory(text), None
    if len(text) > 200 or not _NAME.fullmatch(text):
        shown = ascii(text if len(text) <= 60 else text[:57] + "...")
        raise UsageError(
            f"{shown} is not a model name; use letters, digits and . _ - : /, e.g. llama3-70b or org/model"
        )
    model = catalog.model(text)
    if text.casefold() == model.id.casefold():
        return model, None
    return model, f"model {text} is {model.id} (context {model.context_length:,} tokens)"


def _is_directory(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def _from_directory(text: str) -> ModelSpec:
    """A local checkpoint directory: its config.json, read within a bounded size."""
    from planner.sources.hf_config import parse_config
    from planner.spec.base import Provenance

    try:
        folder = Path(text).expanduser()
        path = folder / "config.json"
        if not path.is_file():
            raise UsageError(f"{text[:80]!a} has no config.json; give a model name or a checkpoint directory")
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise FormatError("config.json is larger than 4 MiB, which no model configuration is")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{text[:80]!a} cannot be read: {type(error).__name__}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, (UsageError, FormatError)):
            raise
        raise FormatError("config.json is not valid JSON") from None
    if not isinstance(data, dict):
        raise FormatError("config.json is not a JSON object")
    provenance = Provenance(source="config.json of a local directory", date="1970-01-01", basis="spec")
    return parse_config(data, id=folder.resolve().name, provenance=provenance)
