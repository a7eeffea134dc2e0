"""Values of options that say more than their type."""

from __future__ import annotations

from pathlib import Path

from planner.errors import UsageError


def folder(text: str) -> Path:
    """A folder to write in; an empty name, as of a variable that is not set, is not the current one."""
    if not text.strip():
        raise UsageError("needs a folder, such as out")
    return Path(text)
