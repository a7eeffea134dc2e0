"""A text file that the user names, read up to a bound: it may be a pipe, or a device that never ends."""

from __future__ import annotations

from pathlib import Path

from planner.errors import UsageError


def read_given(path: Path, most_bytes: int) -> str:
    """The text of `path`. Raises UsageError when it is longer than `most_bytes`, OSError and UnicodeDecodeError."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise UsageError(f"{str(path)!a} is larger than {most_bytes >> 20} MiB, which no such file is")
    return data.decode("utf-8")
