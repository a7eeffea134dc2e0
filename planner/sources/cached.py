"""What live sources remember: compressed JSON files in the planner's cache folder.

An entry is a fact about something that cannot change (a commit, a digest) or carries when it was learnt.
A folder that cannot be written, or a damaged entry, is no error: the fact is then asked for again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any, Final

from planner.sources.index import cache_folder

MAX_ENTRY_BYTES: Final = 256 << 20
"""Of one entry, unpacked: what a damaged or hostile file may make us allocate."""


def recall(kind: str, *key: str) -> Any | None:
    """The value remembered under `kind` and `key`, None when there is none."""
    try:
        with gzip.open(_path(kind, key), "rb") as file:
            raw = file.read(MAX_ENTRY_BYTES + 1)
        if len(raw) > MAX_ENTRY_BYTES:
            return None
        entry = json.loads(raw)
    except (OSError, EOFError, ValueError, RuntimeError, RecursionError, zlib.error):
        return None
    return entry["value"] if isinstance(entry, dict) and entry.get("key") == [kind, *key] else None


def remember(kind: str, *key: str, value: Any) -> None:
    """Keep `value` (plain JSON data), replacing what was there in one step."""
    try:
        path = _path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                text = json.dumps({"key": [kind, *key], "value": value}, separators=(",", ":"))
                file.write(gzip.compress(text.encode(), 6, mtime=0))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        return


def _path(kind: str, key: tuple[str, ...]) -> Path:
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:40]
    return cache_folder() / "live" / kind / f"{digest}.json.gz"
