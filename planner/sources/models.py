"""Which model a name means: a catalog alias, a path, an Ollama tag, or a Hub id.

The catalog is asked first and alone for its own names; live sources are imported only for what it does not
have, and for a name with a revision (`qwen3-8b@main`): that is how a catalogued model is looked up live and pinned.
Refuses what cannot be a model name before it goes anywhere near a shell, a path or a template.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

_NAME = re.compile(r"(?:https://huggingface\.co/)?[A-Za-z0-9][A-Za-z0-9._:@\-]*(/[A-Za-z0-9][A-Za-z0-9._:@\-]*)*")
_OLLAMA = "ollama:"


def resolve_model(catalog: Catalog, name: str, *, offline: bool = False) -> tuple[ModelSpec, str | None]:
    """The model that `name` means, and what was assumed (None when the name is exact).

    `offline` (or PLANNER_OFFLINE, HF_HUB_OFFLINE) never touches the network. Raises UsageError for text
    that is no model name, UnknownNameError with the nearest known names for one that nobody has,
    FormatError for damaged files.
    """
    text = name.strip()
    if not text:
        raise UsageError("the model is empty; give a name such as llama3-70b (see `planner models list`)")
    if text.startswith((".", "/", "~")) or (len(text) < 255 and "\0" not in text and _is_path(text)):
        from planner.sources.local import from_path

        return from_path(catalog, text, lambda base: resolve_model(catalog, base, offline=offline)[0]), None
    if len(text) > 200 or not _NAME.fullmatch(text):
        shown = ascii(text if len(text) <= 60 else text[:57] + "...")
        raise UsageError(
            f"{shown} is not a model name; use letters, digits and . _ - : /, e.g. llama3-70b or org/model"
        )
    if text.startswith((f"{_OLLAMA}hf.co/", f"{_OLLAMA}huggingface.co/")):  # Ollama pulls those from the Hub
        return _from_hub(catalog, text.removeprefix(_OLLAMA), offline)
    if text.startswith(_OLLAMA):
        from planner.sources import ollama

        return ollama.resolve(catalog, text.removeprefix(_OLLAMA), offline=offline)
    try:
        model = catalog.model(text)
    except UnknownNameError:
        alias, at, revision = text.partition("@")
        if "/" not in alias:
            if not at:
                raise
            text = f"{catalog.model(alias).id}@{revision}"
        return _from_hub(catalog, text, offline)
    if text.casefold() == model.id.casefold():
        return model, None
    return model, f"model {text} is {model.id} (context {model.context_length:,} tokens)"


def _from_hub(catalog: Catalog, text: str, offline: bool) -> tuple[ModelSpec, str | None]:
    from planner.sources import hub

    if hub.NAME.fullmatch(text) is None:
        raise UnknownNameError("model", text, catalog.names("model"), "a Hub id is org/model")
    return hub.resolve(catalog, text, lambda base: resolve_model(catalog, base, offline=offline)[0], offline=offline)


def _is_path(text: str) -> bool:
    """True for a folder, or a GGUF file, that is there."""
    try:
        path = Path(text)
        return path.is_dir() or (text.casefold().endswith(".gguf") and (path.is_file() or "/" not in text))
    except (OSError, ValueError):
        return False
