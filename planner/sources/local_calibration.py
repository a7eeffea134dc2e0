"""What was measured on this user's own deployments: one JSON file of corrections, read on every plan.

Kept as `calibration.json` in PLANNER_DATA_DIR, else the platform's data folder. A store that is not there costs one
`stat`; a damaged one is an error that names the file, because silently planning without it would change
every figure. Knows nothing of how a correction is measured or used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from planner.errors import FormatError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.spec.hardware import Machine
    from planner.spec.local import LocalCorrection

MAX_STORE_BYTES: Final = 4 << 20


def store_path() -> Path:
    """Where corrections are kept, whether or not there are any."""
    if explicit := os.environ.get("PLANNER_DATA_DIR"):
        return Path(explicit) / "calibration.json"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        folder = Path(base) if base else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        xdg = os.environ.get("XDG_DATA_HOME")
        folder = Path(xdg) if xdg else Path.home() / ".local" / "share"
    return folder / "planner" / "calibration.json"


def read() -> tuple[LocalCorrection, ...]:
    """Every correction, in the order of their names; none without a store. Raises FormatError for a damaged one."""
    try:
        path = store_path()
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # RuntimeError: there is no home
        return ()
    except OSError as error:
        raise FormatError(f"local calibration {str(path)!a} cannot be read: {error.strerror}") from None
    return _read(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=1)
def _read(path: Path, *_state: int) -> tuple[LocalCorrection, ...]:
    """The store at `path`, parsed once for each state of the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_STORE_BYTES + 1)
    except OSError as error:
        raise FormatError(f"local calibration {str(path)!a} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_STORE_BYTES:
        raise FormatError(f"local calibration {str(path)!a} is larger than {MAX_STORE_BYTES >> 20} MiB")
    return _parsed(path, raw)


def _parsed(path: Path, raw: bytes) -> tuple[LocalCorrection, ...]:
    from pydantic import ValidationError

    from planner.spec.local import STORE_VERSION, LocalStore

    way_out = "repair or delete it, or pass --no-local-calibration"
    try:
        data = json.loads(raw)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != STORE_VERSION:
            raise FormatError(
                f"local calibration {str(path)!a} has schema_version {version!r}; this planner reads {STORE_VERSION}; "
                f"{way_out}"
            )
        return LocalStore.model_validate(data).corrections
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"local calibration {str(path)!a} is damaged at {where}: {first['msg']}; {way_out}") from None
    except (ValueError, RecursionError):
        raise FormatError(f"local calibration {str(path)!a} is not valid JSON; {way_out}") from None


def write(corrections: Sequence[LocalCorrection]) -> Path:
    """Replace the store in one step; an empty one is removed. Raises OutputError."""
    import tempfile

    from planner.spec.local import STORE_VERSION, LocalStore

    try:
        path = store_path()
    except RuntimeError:
        raise OutputError("there is no home folder to keep a local calibration in; set PLANNER_DATA_DIR") from None
    try:
        if not corrections:
            path.unlink(missing_ok=True)
            return path
        ordered = tuple(sorted(corrections, key=lambda c: c.name))
        store = LocalStore(schema_version=STORE_VERSION, corrections=ordered)
        text = json.dumps(store.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"local calibration {str(path)!a} cannot be written: {error.strerror}") from None
    return path


def corrected(machine: Machine, wanted: bool | None = None) -> Machine:
    """`machine` with what was measured here on its device; as it is when `wanted` is False or nothing was."""
    if wanted is False:
        return machine
    own = tuple(c for c in read() if c.device == machine.device_id)
    return machine.model_copy(update={"corrections": own}) if own else machine


def sha256(corrections: Sequence[LocalCorrection]) -> str | None:
    """Hash of the corrections that a plan rests on; None without any."""
    if not corrections:
        return None
    plain = [c.model_dump(mode="json") for c in corrections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
