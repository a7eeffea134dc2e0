"""Files to disk, all or nothing.

Everything is written and synced in a temporary folder beside the target first. A new folder then
appears by one rename. In an existing folder each file is put in place by a rename and what was there
is put back should any step fail. A record (`.planner-files.json`: path → SHA-256) tells later runs
which files are ours: only those, and only as we left them, are replaced or, when no longer part of
the plan, removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from planner.errors import OutputError

RECORD = ".planner-files.json"


def save(files: Mapping[str, str], folder: str | os.PathLike[str], *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write `files` (relative path → text) under `folder`; the paths written, sorted.

    Scripts (`*.sh`) become executable. Raises OutputError when the folder cannot be written, a path
    leaves it, or a file there is not ours or was edited since (`overwrite` replaces those as well).
    """
    given = Path(folder).expanduser()
    root = given.absolute()
    contents = {path: text.encode("utf-8") for path, text in sorted(files.items())}
    for path in contents:
        _check_path(path)
    exists = root.exists()
    if exists and not root.is_dir():
        raise OutputError(f"{root} is a file; name a folder")
    try:
        old = read_record(root)
        _check_existing(root, contents, old, overwrite)
        stale = tuple(_stale(root, contents, old))
        _place(root, exists, contents, stale)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to {root}: {error.strerror or error}") from None
    return tuple(given / path for path in contents)


def _place(root: Path, exists: bool, contents: Mapping[str, bytes], stale: tuple[str, ...]) -> None:
    """Stage everything on the file system of `root`, then rename it into place."""
    record = json.dumps({path: _sha256(data) for path, data in contents.items()}, indent=1) + "\n"
    base = root if exists else root.parent
    base.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".planner-", dir=base))
    try:
        for path, data in {**contents, RECORD: record.encode()}.items():
            _write(stage / "new" / path, data)
        if exists:
            _replace_files(stage, root, (*contents, RECORD), stale)
        else:
            _sync_folders(stage / "new")
            (stage / "new").rename(root)
            _sync(base)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    if (
        not pure.parts
        or pure.is_absolute()
        or pure.as_posix() != path
        or any(part in ("..", ".") or ":" in part or not part.isprintable() for part in pure.parts)
        or "\\" in path
        or path == RECORD
    ):
        raise OutputError(f"refused to write {path!r}: a file's path stays inside the folder")


def read_record(root: Path) -> dict[str, str]:
    """Path → SHA-256 of the files that we last wrote under `root`; empty without a record that can be read."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {path: digest for path, digest in record.items() if isinstance(digest, str)}


def _stale(root: Path, contents: Mapping[str, bytes], old: Mapping[str, str]) -> list[str]:
    """Files of an earlier run, untouched since, that this one no longer has."""
    stale = []
    for path, digest in sorted(old.items()):
        try:
            _check_path(path)
        except OutputError:
            continue
        file = root / path
        plain = not _through_link(root, path) and file.is_file() and not file.is_symlink()
        if path not in contents and plain and _sha256(file.read_bytes()) == digest:
            stale.append(path)
    return stale


def _check_existing(root: Path, contents: Mapping[str, bytes], old: Mapping[str, str], overwrite: bool) -> None:
    """Raise OutputError for a link on the way, or a file that is not ours as we left it."""
    for path, data in contents.items():
        file = root / path
        if _through_link(root, path):
            raise OutputError(f"refused to write {file}: a folder on the way is a link or a file")
        if not file.is_symlink() and not file.exists():
            continue
        if file.is_symlink() or not file.is_file():
            raise OutputError(f"{file} is in the way and is no plain file")
        if overwrite or _sha256(file.read_bytes()) in (old.get(path), _sha256(data)):
            continue
        what = "was changed since planner wrote it" if path in old else "was not written by planner"
        raise OutputError(f"{file} {what}; move it away or save to another folder")


def _through_link(root: Path, path: str) -> bool:
    place = root
    for part in PurePosixPath(path).parts[:-1]:
        place = place / part
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            return True
    return False


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    file.chmod(0o755 if file.suffix == ".sh" else 0o644)


def _replace_files(stage: Path, root: Path, paths: tuple[str, ...], stale: tuple[str, ...]) -> None:
    """Move `paths` from the stage into `root` and `stale` out of it; on any error put all back."""
    undo: list[tuple[Path, Path | None]] = []
    try:
        for number, path in enumerate((*paths, *stale)):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            backup: Path | None = None
            if target.exists() or target.is_symlink():
                backup = stage / f"old-{number}"
                target.rename(backup)
            undo.append((target, backup))
            if path not in stale:
                (stage / "new" / path).rename(target)
        _sync_folders(root)
    except OSError:
        for target, backup in reversed(undo):
            if backup is None:
                target.unlink(missing_ok=True)
            else:
                backup.replace(target)
        raise
    for path in stale:
        _remove_empty(root, (root / path).parent)


def _remove_empty(root: Path, folder: Path) -> None:
    """Remove `folder` and those above it, below `root`, that hold nothing; several stale files may have shared one."""
    while folder != root:
        if folder.is_dir():
            try:
                folder.rmdir()
            except OSError:
                return  # it holds something, or may not be removed: an empty folder does no harm
        folder = folder.parent


def _sync_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
