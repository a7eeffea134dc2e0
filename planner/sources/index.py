"""The compiled catalog: every YAML entry as validated JSON in one SQLite file, found by name.

Built when it is first read (or when a data file or spec changed), kept in the user's cache folder,
and in memory where no folder can be written. Knows how entries are stored; `catalog.py` knows what
they mean.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from planner.errors import CatalogError
from planner.resources import folder

Row = tuple[str, str, str, tuple[str, ...] | None]
"""(kind, id, JSON body, further names it is found by; None: it is never looked up by name)."""


def fold(name: str) -> str:
    """`name` as the index compares it: case, spaces, `-`, `_` and `:` do not count."""
    return "".join(c for c in name.casefold() if c not in " -_:\t")


def fingerprint() -> str:
    """Changes whenever a data file, a spec or a parser changes (paths, sizes and mtimes)."""
    digest = hashlib.sha256(sys.version.encode())
    code = Path(__file__).resolve().parent.parent
    for root, suffix in (
        (folder("hardware"), ".yaml"),
        (folder("catalog"), ".yaml"),
        (code / "spec", ".py"),
        (code / "sources", ".py"),
    ):
        for path, size, modified_ns in sorted(_stamps(str(root), suffix)):
            digest.update(f"{path[len(str(root)) :]}\0{size}\0{modified_ns}\n".encode())
    return digest.hexdigest()[:24]


def _stamps(folder_path: str, suffix: str) -> Iterator[tuple[str, int, int]]:
    """(path, bytes, mtime in ns) of every file below; scandir, for this runs at every start."""
    with os.scandir(folder_path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _stamps(entry.path, suffix)
            elif entry.name.endswith(suffix):
                stat = entry.stat()
                yield entry.path, stat.st_size, stat.st_mtime_ns


def cache_folder() -> Path:
    """Where the index is kept, absolute: PLANNER_CACHE_DIR, else the platform's cache folder."""
    if explicit := os.environ.get("PLANNER_CACHE_DIR"):
        return Path(explicit).absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base).absolute() / "planner" if base else Path.home() / "AppData" / "Local" / "planner"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "planner"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return Path(xdg).absolute() / "planner" if xdg else Path.home() / ".cache" / "planner"


def open_index(rows: Callable[[], Iterable[Row]]) -> sqlite3.Connection:
    """The index for today's data files; `rows` yields them all when it has to be built."""
    try:
        path = cache_folder() / f"catalog-{fingerprint()}.sqlite"
        if not path.exists():
            _build_file(path, rows)
        return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    except (OSError, RuntimeError, sqlite3.Error):  # no home, read-only disk, quota: the answer matters more
        memory = sqlite3.connect(":memory:", check_same_thread=False)
        _fill(memory, rows())
        return memory


def _build_file(path: Path, rows: Callable[[], Iterable[Row]]) -> None:
    """Write the index under a temporary name, then rename; drop indexes of older data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".catalog-", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        connection = sqlite3.connect(temporary)
        try:
            connection.execute("PRAGMA journal_mode=OFF")
            _fill(connection, rows())
        finally:
            connection.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    others = sorted(path.parent.glob("catalog-*.sqlite"), key=lambda p: p.stat().st_mtime)
    for old in others[:-4]:
        old.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    connection.execute("CREATE TABLE entry (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID")
    connection.execute(
        "CREATE TABLE name (kind TEXT, folded TEXT, written TEXT, id TEXT, PRIMARY KEY (kind, folded)) WITHOUT ROWID"
    )
    for kind, identifier, body, names in rows:
        try:
            connection.execute("INSERT INTO entry VALUES (?, ?, ?)", (kind, identifier, body))
        except sqlite3.IntegrityError:
            raise CatalogError(f"{kind} {identifier!r} is in the catalog twice") from None
        own: set[str] = set()
        for written in () if names is None else (identifier, *names):
            folded = fold(written)
            if folded in own:
                continue
            own.add(folded)
            try:
                connection.execute("INSERT INTO name VALUES (?, ?, ?, ?)", (kind, folded, written, identifier))
            except sqlite3.IntegrityError:
                (other,) = connection.execute(
                    "SELECT id FROM name WHERE kind = ? AND folded = ?", (kind, folded)
                ).fetchone()
                raise CatalogError(f"{kind} name {written!r} belongs to both {other!r} and {identifier!r}") from None
    connection.commit()
