"""Dequantization against scalar references written from the formats' definitions (the live oracle is tests/oracle)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import FormatError
from planner.formats.gguf import TYPES
from planner.formats.quantized import (
    BLOCK_DECODERS,
    apply_scale,
    dequantize,
    dequantize_awq,
    dequantize_fp4,
    dequantize_gptq,
)

F = np.float32
SIZES = {name: (block, n_bytes) for name, block, n_bytes in TYPES.values()}


def half(raw: bytes) -> np.float32:
    return F(np.frombuffer(raw, "<f2")[0])


def legacy(raw: bytes, kind: str) -> list[float]:
    """Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, one number at a time."""
    d, at = half(raw[:2]), 2
    if kind == "Q8_0":
        return [float(d * F(int.from_bytes(raw[2 + i : 3 + i], "little", signed=True))) for i in range(32)]
    m = F(0)
    if kind.endswith("1"):
        m, at = half(raw[2:4]), 4
    high = 0
    if kind.startswith("Q5"):
        high, at = int.from_bytes(raw[at : at + 4], "little"), at + 4
    out = []
    for i in range(32):
        q = raw[at + i % 16] >> (4 if i >= 16 else 0) & 15
        q |= (high >> i & 1) << 4
        centre = 0 if kind.endswith("1") else 16 if kind.startswith("Q5") else 8
        out.append(float(d * F(q - centre) + m if kind.endswith("1") else d * F(q - centre)))
    return out


def k_quant(raw: bytes, kind: str) -> list[float]:
    """Q4_K and Q5_K, one number at a time."""
    d, dmin, s = half(raw[:2]), half(raw[2:4]), raw[4:16]
    qs = raw[16:] if kind == "Q4_K" else raw[48:]
    out = []
    for i in range(256):
        g = i // 32
        if g < 4:
            scale, least = s[g] & 63, s[g + 4] & 63
        else:
            scale, least = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4, (s[g + 4] >> 4) | (s[g] >> 6) << 4
        q = qs[g // 2 * 32 + i % 32] >> (4 if g % 2 else 0) & 15
        if kind == "Q5_K":
            q |= (raw[16 + i % 32] >> g & 1) << 4
        out.append(float(d * F(scale) * F(q) - dmin * F(least)))
    return out


def q6_k(raw: bytes, _: str) -> list[float]:
    out = []
    d = half(raw[208:])
    for i in range(256):
        part, within = divmod(i, 128)
        low = raw[part * 64 + within % 64] >> (4 if within >= 64 else 0) & 15
        high = raw[128 + part * 32 + within % 32] >> 2 * (within // 32) & 3
        scale = int.from_bytes(raw[192 + i // 16 : 193 + i // 16], "little", signed=True)
        out.append(float(d * F(scale) * F((low | high << 4) - 32)))
    return out


def mxfp4(raw: bytes, _: str) -> list[float]:
    values = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    codes = [raw[1 + i % 16] >> (4 if i >= 16 else 0) & 15 for i in range(32)]
    return [(-1 if c & 8 else 1) * values[c & 7] * 2.0 ** (raw[0] - 127) for c in codes]


REFERENCES: dict[str, Callable[[bytes, str], list[float]]] = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"), legacy),
    **dict.fromkeys(("Q4_K", "Q5_K"), k_quant),
    "Q6_K": q6_k,
    "MXFP4": mxfp4,
}


def finite_block(kind: str, seed: int) -> bytes:
    raw = bytearray(np.random.default_rng(seed).integers(0, 256, SIZES[kind][1], dtype=np.uint8).tobytes())
    places = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}.get(kind, (0,))
    if kind == "MXFP4":
        raw[0] = 120 + seed
        return bytes(raw)
    for n, at in enumerate(places):
        raw[at : at + 2] = np.float16(0.37 * (n + 1) * (-1) ** seed).tobytes()
    return bytes(raw)


@pytest.mark.parametrize("kind", BLOCK_DECODERS)
@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_bitwise_the_scalar_definition(kind: str, seed: int) -> None:
    raw = finite_block(kind, seed) + finite_block(kind, seed + 10)
    size = SIZES[kind][1]
    expected = [x for at in (0, size) for x in REFERENCES[kind](raw[at : at + size], kind)]
    assert dequantize(raw, kind).tolist() == expected


def test_a_type_that_is_not_implemented_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match="IQ2_XS is not implemented"):
        dequantize(bytes(74), "IQ2_XS")


def pack(nibbles: list[int], bits: int = 4) -> int:
    word = sum(q << bits * i for i, q in enumerate(nibbles))
    return word - (1 << 32) if word >= 1 << 31 else word


@given(st.integers(0, 2**32 - 1))
def test_awq_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, out, group = 8, 16, 4
    q, z = rng.integers(0, 16, (rows, out)), rng.integers(0, 16, (rows // group, out))
    scales = rng.standard_normal((rows // group, out)).astype(np.float16).astype(np.float32)
    order = (0, 2, 4, 6, 1, 3, 5, 7)  # AutoAWQ packs column order[i] of eight into nibble i

    def packed(a: np.ndarray) -> np.ndarray:
        words = [[pack([int(row[8 * w + c]) for c in order]) for w in range(out // 8)] for row in a]
        return np.array(words, np.int64).astype(np.int32)

    expected = np.array(
        [[(q[i, o] - z[i // group, o]) * scales[i // group, o] for i in range(rows)] for o in range(out)]
    )
    assert np.array_equal(dequantize_awq(packed(q), packed(z), scales), expected.astype(np.float32))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("act_order", [False, True])
def test_gptq_is_its_definition(bits: int, offset: int, act_order: bool) -> None:
    rng = np.random.default_rng(bits)
    each = 32 // bits
    rows, out, groups = 4 * each, 2 * each, 4
    q, z = rng.integers(0, 1 << bits, (rows, out)), rng.integers(offset, 1 << bits, (groups, out))
    scales = rng.standard_normal((groups, out)).astype(np.float32)
    group = rng.integers(0, groups, rows) if act_order else np.arange(rows) // each
    qweight = np.array(
        [[pack(list(map(int, q[w * each : (w + 1) * each, o])), bits) for o in range(out)] for w in range(4)]
    )
    qzeros = np.array(
        [[pack([int(v) - offset for v in row[w * each : (w + 1) * each]], bits) for w in range(2)] for row in z]
    )
    ours = dequantize_gptq(
        qweight.astype(np.int32), qzeros.astype(np.int32), scales, group if act_order else None,
        bits=bits, zero_offset=offset,
    )  # fmt: skip
    expected = ((q - z[group]).astype(np.float32) * scales[group]).T
    assert np.array_equal(ours, expected)


def test_shapes_that_do_not_match_are_refused() -> None:
    ints, scales = np.zeros((8, 2), np.int32), np.zeros((2, 16), np.float32)
    with pytest.raises(FormatError, match="do not match"):
        dequantize_awq(ints, np.zeros((1, 2), np.int32), scales)
    with pytest.raises(FormatError, match="do not match"):
        dequantize_gptq(ints, np.zeros((1, 2), np.int32), scales)
    with pytest.raises(FormatError, match="g_idx"):
        dequantize_gptq(np.zeros((1, 8), np.int32), np.zeros((1, 1), np.int32), np.ones((1, 8), F), np.full(8, 3))


def test_fp8_scales_are_per_tensor_row_or_block() -> None:
    weight = np.ones((3, 5), np.float32)
    assert apply_scale(weight, np.array(2.0, F)).tolist() == (2 * weight).tolist()
    assert apply_scale(weight, np.array([[1], [2], [3]], F))[:, 0].tolist() == [1, 2, 3]
    blocks = apply_scale(weight, np.array([[1, 2, 3], [4, 5, 6]], F), (2, 2))
    assert blocks.tolist() == [[1, 1, 2, 2, 3], [1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]
    with pytest.raises(FormatError, match="block scales"):
        apply_scale(weight, np.ones((2, 2), F), (2, 2))
    with pytest.raises(FormatError, match="does not fit"):
        apply_scale(weight, np.ones((4,), F))


@pytest.mark.parametrize("kind", ["mxfp4", "nvfp4"])
def test_fp4_is_the_scalar_definition(kind: str) -> None:
    rng = np.random.default_rng(5)
    group = 32 if kind == "mxfp4" else 16
    packed = rng.integers(0, 256, (6, 48), dtype=np.uint8)
    values = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    scales: np.ndarray = rng.integers(110, 140, (6, 96 // group), dtype=np.uint8)
    overall = np.array([3.5], np.float32)
    if kind == "nvfp4":
        scales = rng.choice(np.array([0.25, 1.5, 448], np.float32), (6, 96 // group))
    found = dequantize_fp4(packed, scales, overall if kind == "nvfp4" else None)
    for row in range(6):
        for column in range(96):
            code = int(packed[row, column // 2]) >> 4 * (column % 2) & 15
            scale = scales[row, column // group]
            factor = F(2.0 ** (int(scale) - 127)) if kind == "mxfp4" else F(scale / overall[0])
            assert found[row, column] == F((-1 if code & 8 else 1) * values[code & 7]) * factor


def test_fp4_of_wrong_shapes_is_refused() -> None:
    packed, scales, one = np.zeros((4, 32), np.uint8), np.zeros((4, 2), np.uint8), np.ones(1, np.float32)
    assert not dequantize_fp4(packed, scales).any()
    for wrong in (
        (packed, scales[:, :1], None), (packed[:, :24], scales, None), (packed.astype(np.int32), scales, None),
        (packed, np.zeros((4, 4), np.float32), 0 * one), (packed, np.zeros((4, 4), np.float32), np.ones(2, np.float32)),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            dequantize_fp4(*wrong)
