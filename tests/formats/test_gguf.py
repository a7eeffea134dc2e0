"""The GGUF header: what it says is read, and whatever cannot be true is a FormatError."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import FormatError
from planner.formats.gguf import MAX_TENSORS, read_header
from planner.formats.reader import BytesReader
from tests.engine.checkpoints import write_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    tensors = {"a.weight": ("F32", np.arange(6.0).reshape(2, 3)), "b.weight": ("Q8_0", np.ones((2, 64)))}
    write_gguf(path, {"general.architecture": "llama", "llama.block_count": 2, "x.eps": 0.5}, tensors)
    return path.read_bytes()


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def start(n_tensors: int = 0, n_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def entry(name: str = "a", dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def key(name: str, kind: int, raw: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + raw


def padded(head: bytes, n_bytes: int) -> BytesReader:
    return BytesReader(head + bytes(-len(head) % 32 + n_bytes))


def test_metadata_and_tensors_are_read(whole: bytes) -> None:
    header = read_header(BytesReader(whole))
    assert header.metadata == {"general.architecture": "llama", "llama.block_count": 2, "x.eps": 0.5}
    assert header.tensors["a.weight"].shape == (2, 3)
    assert header.tensors["b.weight"].n_bytes == 4 * 34
    at = header.tensors["a.weight"].offset
    assert np.frombuffer(whole[at : at + 24], "<f4").tolist() == [0, 1, 2, 3, 4, 5]


BAD: dict[str, tuple[BytesReader, str]] = {
    "empty": (BytesReader(b""), "outside the file"),
    "magic": (BytesReader(b"GGML" + bytes(40)), "does not start"),
    "version": (BytesReader(start(version=9)), "version 9"),
    "big-endian": (BytesReader(b"GGUF" + struct.pack(">I", 3) + bytes(16)), "big-endian"),
    "2**63 tensors": (BytesReader(start(1 << 63)), "are claimed"),
    "too many tensors": (BytesReader(start(MAX_TENSORS + 1)), "are claimed"),
    "2**63 keys": (BytesReader(start(0, 1 << 63)), "are claimed"),
    "tensors past the end": (BytesReader(start(1000)), "outside the file"),
    "string of 2**63": (BytesReader(start(0, 1) + struct.pack("<Q", 1 << 63)), "longer than"),
    "string past the end": (BytesReader(start(0, 1) + struct.pack("<Q", 1000)), "outside the file"),
    "array of 2**62": (BytesReader(start(0, 1) + key("k", 9, struct.pack("<IQ", 4, 1 << 62))), "array of"),
    "array past the end": (BytesReader(start(0, 1) + key("k", 9, struct.pack("<IQ", 4, 1 << 20))), "outside"),
    "nested arrays": (BytesReader(start(0, 1) + key("k", 9, struct.pack("<IQ", 9, 1) * 20)), "depth"),
    "metadata type": (BytesReader(start(0, 1) + key("k", 99, b"")), "unknown metadata type"),
    "key twice": (BytesReader(start(0, 2) + key("k", 0, b"\1") * 2), "twice"),
    "alignment": (BytesReader(start(0, 1) + key("general.alignment", 4, struct.pack("<I", 3))), "power of two"),
    "no dimensions": (BytesReader(start(1) + entry(dims=())), "dimensions"),
    "many dimensions": (BytesReader(start(1) + entry(dims=(1,) * 9)), "dimensions"),
    "zero elements": (padded(start(1) + entry(dims=(0,)), 0), "impossible shape"),
    "huge shape": (padded(start(1) + entry(dims=(1 << 40, 1 << 40)), 0), "impossible shape"),
    "broken block": (padded(start(1) + entry(dims=(33,), kind=8), 99), "impossible shape"),
    "unknown type": (padded(start(1) + entry(kind=77), 128), "unknown type"),
    "unaligned": (padded(start(1) + entry(offset=4), 256), "multiple of"),
    "truncated": (padded(start(1) + entry(), 100), "truncated"),
    "tensor twice": (padded(start(2) + entry() * 2, 256), "twice"),
    "overlap": (padded(start(2) + entry("a") + entry("b", offset=64), 256), "overlaps"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_a_format_error_that_says_what(name: str) -> None:
    reader, complaint = BAD[name]
    with pytest.raises(FormatError, match=complaint):
        read_header(reader)


def test_a_string_where_a_number_is_expected_is_refused(whole: bytes) -> None:
    with pytest.raises(FormatError, match="must be a string"):
        read_header(BytesReader(whole)).text("llama.block_count")


def test_every_truncation_is_refused(whole: bytes) -> None:
    for length in range(0, len(whole) - 24, 7):
        with pytest.raises(FormatError):
            read_header(BytesReader(whole[:length]))


@given(data=st.data())
def test_a_changed_byte_is_read_or_refused(data: st.DataObject, whole: bytes) -> None:
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read_header(BytesReader(bytes(changed)))
    except FormatError:
        return
    assert all(t.offset + t.n_bytes <= len(whole) for t in header.tensors.values())


def test_a_range_reader_is_asked_for_pieces_only(whole: bytes, tmp_path: Path) -> None:
    class Remote(BytesReader):
        most = 0

        def read(self, offset: int, length: int) -> bytes:
            self.most = max(self.most, length)
            return super().read(offset, length)

    reader = Remote(whole + bytes(4 << 20))
    read_header(reader)
    assert reader.most <= 1 << 20


def test_reading_headers_imports_no_numpy() -> None:
    code = (
        "import sys, planner.formats.gguf, planner.formats.safetensors, planner.formats.reader\n"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
