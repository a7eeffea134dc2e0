"""Safetensors and GGUF files, written: for checkpoints that we make ourselves. The readers are beside this file.

Layouts: huggingface/safetensors' README, and docs/gguf.md of ggml-org/ggml (version 3, little-endian).
Knows nothing of models.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from planner.formats.gguf import MAGIC, TYPES

_NUMBERS: Final = {name: number for number, (name, _, _) in TYPES.items()}
_DTYPES: Final = {
    "float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "uint16": "BF16", "int32": "I32", "int64": "I64",
}  # fmt: skip
ALIGNMENT: Final = 32


@dataclass(frozen=True, slots=True)
class GgufData:
    """A tensor to write: `shape` outermost first, `raw` its bytes in blocks of `kind`."""

    kind: str
    shape: tuple[int, ...]
    raw: bytes


def write_safetensors(
    path: Path, tensors: Mapping[str, npt.NDArray[Any]], dtypes: Mapping[str, str] | None = None
) -> None:
    """`tensors` in their order. uint16 is bf16; `dtypes` names what numpy has no name for (F8_E4M3)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        dtype = (dtypes or {}).get(name) or _DTYPES[value.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    pieces = [struct.pack("<Q", len(raw)), raw, *(np.ascontiguousarray(value).tobytes() for value in tensors.values())]
    _replace(path, b"".join(pieces))


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, GgufData]) -> None:
    """Integers as u32 (i32 in lists), floats as f32, booleans and strings as themselves, lists of one kind.

    An empty list is one of strings.
    """
    head = MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = bytearray()
    for name, tensor in tensors.items():
        head += _text(name) + struct.pack("<I", len(tensor.shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(tensor.shape))
        head += struct.pack("<IQ", _NUMBERS[tensor.kind], len(data))
        data += tensor.raw + bytes(-len(tensor.raw) % ALIGNMENT)
    _replace(path, head + bytes(-len(head) % ALIGNMENT) + bytes(data))


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: object) -> bytes:
    if isinstance(value, list):
        signed = [(5, struct.pack("<i", item)) if type(item) is int else _scalar(item) for item in value]
        kinds = {kind for kind, _ in signed} or {8}
        assert len(kinds) == 1, "a GGUF array holds one kind"
        return struct.pack("<IIQ", 9, kinds.pop(), len(value)) + b"".join(raw for _, raw in signed)
    kind, raw = _scalar(value)
    return struct.pack("<I", kind) + raw


def _scalar(value: object) -> tuple[int, bytes]:
    """GGUF's number of the kind, and the bytes."""
    if isinstance(value, str):
        return 8, _text(value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    assert isinstance(value, int), f"no GGUF kind for {value!r}"
    return 4, struct.pack("<I", value)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)
