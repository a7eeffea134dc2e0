"""Where the bytes of a file come from: memory, a local file, or anything that reads a range (a Hub URL).

Knows ranges and sizes; knows nothing of what the bytes mean.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from planner.errors import FormatError


class RangeReader(Protocol):
    """`size` bytes in all; `read` gives exactly `length` of them from `offset`, or fewer at the end."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...


class BytesReader:
    """A file that is already in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FileReader:
    """A local file, read by position; safe to share between threads. Close it, or use it in `with`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise FormatError(f"{self.path.name}: cannot be read ({error.strerror or error})") from None

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        while length > 0 and (part := os.pread(self._file.fileno(), min(length, 1 << 30), offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_exactly(reader: RangeReader, offset: int, length: int, what: str) -> bytes:
    """`length` bytes at `offset`, checked against the file's size before anything is allocated."""
    if offset < 0 or length < 0 or offset + length > reader.size:
        raise FormatError(
            f"{what}: bytes {offset}..{offset + length} lie outside the file of {reader.size} bytes"
            " (truncated download or damaged header)"
        )
    data = reader.read(offset, length)
    if len(data) != length:
        raise FormatError(f"{what}: {length} bytes at {offset} were asked for, {len(data)} came (truncated)")
    return data
