"""The GGUF header: metadata, tensor names, types, shapes and byte ranges, from any range reader.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian). Shapes are
given as numpy has them, outermost first, the reverse of the file's order. Reads in pieces, keeps at most
`MAX_HEADER_BYTES`; turning blocks into numbers is `formats.quantized`. Knows nothing of models.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from planner.errors import FormatError
from planner.formats.reader import RangeReader, read_exactly

MAGIC: Final = b"GGUF"
MAX_HEADER_BYTES: Final = 256 << 20
MAX_TENSORS: Final = 1 << 18
MAX_KEYS: Final = 1 << 16
MAX_DIMS: Final = 4
MAX_ARRAY: Final = 1 << 23
MAX_DEPTH: Final = 4
# ggml type number → (name, elements per block, bytes per block): ggml.h and ggml-common.h of ggml-org/ggml; without
# Q8_1, which exists only while computing
TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}  # fmt: skip
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
Value = int | float | bool | str | list["Value"]


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` outermost first, `offset` from the start of the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors by name, in the file's order."""

    version: int
    metadata: dict[str, Value]
    tensors: dict[str, GgufTensor]

    def text(self, key: str) -> str | None:
        """The string `key`, None when absent. Raises FormatError when it is not a string."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, str):
            raise FormatError(f"GGUF: {key} must be a string, it is {value!r:.60}")
        return value


def read_header(reader: RangeReader) -> GgufHeader:
    """Parse and check everything before the tensor data. Raises FormatError on whatever cannot be true."""
    cursor = _Cursor(reader)
    if cursor.take(4) != MAGIC:
        raise FormatError("GGUF: the file does not start with 'GGUF'")
    version = cursor.number("<I")
    if version not in (2, 3):
        swapped = int.from_bytes(struct.pack("<I", version), "big")
        hint = " (big-endian file)" if swapped in (1, 2, 3) else ""
        raise FormatError(f"GGUF: version {version} is not 2 or 3{hint}")
    n_tensors, n_keys = cursor.number("<Q"), cursor.number("<Q")
    if n_tensors > MAX_TENSORS or n_keys > MAX_KEYS:
        raise FormatError(f"GGUF: {n_tensors} tensors and {n_keys} keys are claimed; limits {MAX_TENSORS}, {MAX_KEYS}")
    metadata: dict[str, Value] = {}
    for _ in range(n_keys):
        key = cursor.text()
        if key in metadata:
            raise FormatError(f"GGUF: key {key[:80]!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("<I"))
    entries = [_entry(cursor) for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise FormatError(f"GGUF: general.alignment {alignment!r:.40} is not a power of two up to 65536")
    start = -(-cursor.position // alignment) * alignment
    return GgufHeader(version, metadata, _placed(entries, start, alignment, reader.size))


def _entry(cursor: _Cursor) -> GgufTensor:
    name = cursor.text()
    n_dims = cursor.number("<I")
    if not 1 <= n_dims <= MAX_DIMS:
        raise FormatError(f"GGUF: tensor {name[:80]!r} has {n_dims} dimensions; 1 to {MAX_DIMS} are possible")
    dims = [cursor.number("<Q") for _ in range(n_dims)]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    if number not in TYPES:
        raise FormatError(f"GGUF: tensor {name[:80]!r} has the unknown type {number}")
    kind, block, block_bytes = TYPES[number]
    elements = 1
    for n in dims:
        elements *= n
    if not 0 < elements <= 1 << 48 or dims[0] % block:
        raise FormatError(f"GGUF: tensor {name[:80]!r} of type {kind} has the impossible shape {dims}")
    return GgufTensor(name, kind, tuple(reversed(dims)), offset, elements // block * block_bytes)


def _placed(entries: list[GgufTensor], start: int, alignment: int, size: int) -> dict[str, GgufTensor]:
    """Tensors with absolute offsets, checked for alignment, overlap, twins and the end of the file."""
    tensors: dict[str, GgufTensor] = {}
    for t in entries:
        if t.name in tensors:
            raise FormatError(f"GGUF: tensor {t.name[:80]!r} occurs twice")
        if t.offset % alignment:
            raise FormatError(f"GGUF: tensor {t.name[:80]!r} starts at {t.offset}, not a multiple of {alignment}")
        if start + t.offset + t.n_bytes > size:
            raise FormatError(
                f"GGUF: tensor {t.name[:80]!r} ends at byte {start + t.offset + t.n_bytes}, the file at {size}"
                " (truncated)"
            )
        tensors[t.name] = GgufTensor(t.name, t.type, t.shape, start + t.offset, t.n_bytes)
    end = start
    for t in sorted(tensors.values(), key=lambda t: t.offset):
        if t.offset < end:
            raise FormatError(f"GGUF: tensor {t.name[:80]!r} overlaps the tensor before it")
        end = t.offset + t.n_bytes
    return tensors


class _Cursor:
    """Sequential reading over a range reader, a piece at a time, never past the limit."""

    PIECE = 1 << 20

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._buffer, self._start = b"", 0
        self.position = 0

    def take(self, length: int) -> bytes:
        if self.position + length > MAX_HEADER_BYTES:
            raise FormatError(f"GGUF: the header is longer than {MAX_HEADER_BYTES} bytes")
        begin = self.position - self._start
        if begin + length > len(self._buffer):
            wanted = max(length, min(self.PIECE, self._reader.size - self.position))
            self._buffer = read_exactly(self._reader, self.position, wanted, "GGUF header")
            self._start, begin = self.position, 0
        self.position += length
        return self._buffer[begin : begin + length]

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Value:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(depth)
        if kind not in _SCALARS:
            raise FormatError(f"GGUF: unknown metadata type {kind}")
        (value,) = struct.unpack(_SCALARS[kind], self.take(struct.calcsize(_SCALARS[kind])))
        return value  # type: ignore[no-any-return]

    def _array(self, depth: int) -> list[Value]:
        kind, count = self.number("<I"), self.number("<Q")
        if count > MAX_ARRAY or depth >= MAX_DEPTH:
            raise FormatError(f"GGUF: an array of {count} elements at depth {depth}; limits {MAX_ARRAY}, {MAX_DEPTH}")
        if kind in _SCALARS:
            form = _SCALARS[kind][1]
            return list(struct.unpack(f"<{count}{form}", self.take(count * struct.calcsize(f"<{form}"))))
        return [self.value(kind, depth + 1) for _ in range(count)]
