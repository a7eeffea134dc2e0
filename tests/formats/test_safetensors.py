"""The safetensors header: what it says is read, and whatever cannot be true is a FormatError."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import FormatError
from planner.formats.arrays import read_array, to_float32
from planner.formats.reader import BytesReader, FileReader
from planner.formats.safetensors import MAX_HEADER_BYTES, MAX_VALUES, read_header


def file(header: Any, data: bytes = b"", length: int | None = None) -> BytesReader:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return BytesReader((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_tensors_and_metadata_are_read() -> None:
    values = np.array([[1.5, -2.0]], np.float32)
    header = {"__metadata__": {"format": "pt"}, "a": tensor(shape=[1, 2]), "b": tensor("F16", [1], [8, 10])}
    reader = file(header, values.tobytes() + np.float16(3).tobytes())
    parsed = read_header(reader)
    assert parsed.metadata == {"format": "pt"}
    assert parsed.tensors["a"].n_elements == 2
    assert np.array_equal(read_array(reader, parsed.tensors["a"]), values)
    assert read_array(reader, parsed.tensors["b"]).tolist() == [3.0]


def test_only_the_header_is_read() -> None:
    class Counting(BytesReader):
        last = 0

        def read(self, offset: int, length: int) -> bytes:
            self.last = max(self.last, offset + length)
            return super().read(offset, length)

    raw = json.dumps({"a": tensor("U8", [1 << 20], [0, 1 << 20])}).encode()
    reader = Counting(len(raw).to_bytes(8, "little") + raw + bytes(1 << 20))
    read_header(reader)
    assert reader.last == 8 + len(raw)


BAD: dict[str, tuple[BytesReader, str]] = {
    "empty": (BytesReader(b""), "outside the file"),
    "length of 2**63": (BytesReader((1 << 63).to_bytes(8, "little")), "header claims"),
    "length over the limit": (BytesReader((MAX_HEADER_BYTES + 1).to_bytes(8, "little")), "header claims"),
    "length past the end": (file({}, length=100), "outside the file"),
    "not JSON": (file(b"{"), "not JSON"),
    "not UTF-8": (file(b'{"\xff":1}'), "not JSON"),
    "many small values": (file(b'{"a":[' + b"[]," * MAX_VALUES + b"1]}"), "values in the header"),
    "too deep": (file(b"[" * 100_000), "not JSON"),
    "not an object": (file([]), "not a JSON object"),
    "twice": (file(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}'), "twice"),
    "NaN in a shape": (file(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}'), "NaN"),
    "float shape": (file({"a": tensor(shape=[2.0])}, bytes(8)), "shape"),
    "negative shape": (file({"a": tensor(shape=[-2])}, bytes(8)), "shape"),
    "huge shape": (file({"a": tensor(shape=[1 << 60])}, bytes(8)), "shape"),
    "shape product": (file({"a": tensor(shape=[1 << 40, 1 << 40])}, bytes(8)), "needs"),
    "boolean shape": (file({"a": tensor("U8", [True], [0, 1])}, bytes(1)), "shape"),
    "unknown dtype": (file({"a": tensor("F31")}, bytes(8)), "unknown dtype"),
    "extra key": (file({"a": tensor() | {"x": 1}}, bytes(8)), "exactly"),
    "size": (file({"a": tensor(shape=[3])}, bytes(8)), "needs 12 bytes"),
    "reversed offsets": (file({"a": tensor(offsets=[8, 0])}, bytes(8)), "needs"),
    "overlap": (file({"a": tensor(), "b": tensor(offsets=[4, 12])}, bytes(12)), "overlaps"),
    "hole": (file({"a": tensor(), "b": tensor(offsets=[12, 20])}, bytes(20)), "hole"),
    "truncated": (file({"a": tensor()}, bytes(4)), "truncated"),
    "trailing bytes": (file({"a": tensor()}, bytes(9)), "truncated"),
    "metadata": (file({"__metadata__": {"a": 1}}), "__metadata__"),
    "a million tensors": (file(b"{" + b'"a":{"dtype":1},' * 300_000 + b'"b":1}'), "more than"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_a_format_error_that_says_what(name: str) -> None:
    reader, complaint = BAD[name]
    with pytest.raises(FormatError, match=complaint.replace("*", r"\*")):
        read_header(reader)


@given(st.binary(max_size=200))
def test_random_bytes_never_crash(data: bytes) -> None:
    try:
        read_header(BytesReader(data))
    except FormatError:
        return


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(position: int, value: int) -> None:
    header = {"a": tensor(), "b": tensor("BF16", [2, 2], [8, 16])}
    raw = json.dumps(header).encode()
    data = bytearray(len(raw).to_bytes(8, "little") + raw + bytes(16))
    data[position % len(data)] = value
    try:
        parsed = read_header(BytesReader(bytes(data)))
    except FormatError:
        return
    assert all(t.offset + t.n_bytes <= len(data) for t in parsed.tensors.values())


def test_a_missing_file_is_a_format_error(tmp_path: Any) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        FileReader(tmp_path / "none.safetensors")


def test_bf16_and_fp8_are_exact() -> None:
    assert to_float32(np.array([0x3FC0, 0xC000], "<u2").tobytes(), "BF16").tolist() == [1.5, -2.0]
    e4m3 = to_float32(bytes([0x00, 0x01, 0x38, 0x7E, 0xFE, 0x7F]), "F8_E4M3")
    assert e4m3[:5].tolist() == [0.0, 2.0**-9, 1.0, 448.0, -448.0] and np.isnan(e4m3[5])
    e5m2 = to_float32(bytes([0x01, 0x3C, 0x7B, 0x7C, 0x7D]), "F8_E5M2")
    assert e5m2[:4].tolist() == [2.0**-16, 1.0, 57344.0, np.inf] and np.isnan(e5m2[4])
