"""The safetensors header: names, dtypes, shapes and byte ranges, from any range reader.

Format: 8 bytes little-endian header length, a JSON object, then one gapless buffer
(https://github.com/huggingface/safetensors#format). Reads the header only; turning bytes into numbers is
`formats.arrays`. Knows nothing of models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from planner.errors import FormatError
from planner.formats.reader import RangeReader, read_exactly

MAX_HEADER_BYTES: Final = 24 << 20
MAX_TENSORS: Final = 100_000
"""Of one file; DeepSeek-V3 has 92,000 in 163 files."""
MAX_VALUES: Final = 1 << 20
"""JSON values of a header, ten to a tensor. What a value takes once parsed, not its text, is what fills memory."""
MAX_DIMS: Final = 16
DTYPE_BITS: Final[dict[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `offset` counts from the start of the file, `n_bytes` is what it takes there."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Tensors by name in the header's order, and the free-form metadata."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(reader: RangeReader) -> SafetensorsHeader:
    """Parse and check the header. Raises FormatError on whatever the format does not allow.

    Reads `8 + header length` bytes at most, never tensor data. Refused: a header over 24 MiB or past the end of the
    file, over 100,000 tensors or a million values (some 300 MB once parsed), duplicate names, sizes that do not follow
    from shape and dtype, overlaps and holes.
    """
    length = int.from_bytes(read_exactly(reader, 0, 8, "safetensors length"), "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(f"safetensors: the header claims {length} bytes; at most {MAX_HEADER_BYTES} are read")
    raw = read_exactly(reader, 8, length, "safetensors header")
    if raw.count(b'"dtype"') > MAX_TENSORS:
        raise FormatError(f"safetensors: more than {MAX_TENSORS} tensors in one file")
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise FormatError(f"safetensors: more than {MAX_VALUES} values in the header")
    header = _json(raw)
    metadata = _metadata(header.pop("__metadata__", {}))
    start = 8 + length
    tensors = {name: _tensor(name, entry, start) for name, entry in header.items()}
    end = start
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.n_bytes)):
        if tensor.offset != end:
            how = "overlaps the tensor before it" if tensor.offset < end else "leaves a hole before it"
            raise FormatError(f"safetensors: {tensor.name!r} {how} (starts at {tensor.offset}, expected {end})")
        end = tensor.offset + tensor.n_bytes
    if end != reader.size:
        raise FormatError(f"safetensors: the tensors end at byte {end}, the file at {reader.size} (truncated?)")
    return SafetensorsHeader(tensors, metadata)


def _json(raw: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise FormatError("safetensors: a name occurs twice in the header")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise FormatError(f"safetensors: {constant} in the header")

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"safetensors: the header is not JSON ({str(error)[:80]})") from None
    if not isinstance(header, dict):
        raise FormatError("safetensors: the header is not a JSON object")
    return header


def _metadata(entry: object) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise FormatError("safetensors: __metadata__ must map names to strings")
    return entry


def _tensor(name: str, entry: object, start: int) -> TensorInfo:
    what = f"safetensors: tensor {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{what} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise FormatError(f"{what} has the unknown dtype {str(dtype)[:40]!r}")
    if not _sizes(shape) or len(shape) > MAX_DIMS:
        raise FormatError(f"{what} has the impossible shape {str(shape)[:80]}")
    if not _sizes(offsets) or len(offsets) != 2:
        raise FormatError(f"{what} has the impossible offsets {str(offsets)[:80]}")
    bits = DTYPE_BITS[dtype]
    for n in shape:
        bits *= n
    begin, end = offsets
    if bits != 8 * (end - begin):
        raise FormatError(f"{what} of {dtype} {shape} needs {-(-bits // 8)} bytes, the header gives {end - begin}")
    return TensorInfo(name, dtype, tuple(shape), start + begin, end - begin)


def _sizes(values: object) -> bool:
    """A list of whole numbers from 0 to 2**48 (booleans are not numbers here)."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= 1 << 48 for v in values)
