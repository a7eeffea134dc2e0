"""What we write in a format reads back near what it was, and where the gguf package writes it too, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gguf
import numpy as np
import pytest

from planner.errors import FormatError
from planner.formats import quantize as q
from planner.formats.arrays import Floats, to_float32
from planner.formats.quantized import apply_scale, dequantize, dequantize_awq, dequantize_fp4, dequantize_gptq

WEIGHT = np.random.default_rng(3).standard_normal((48, 512)).astype(np.float32)


def through_awq(w: Floats) -> Floats:
    a = q.quantize_awq(w, 64)
    return dequantize_awq(a["qweight"], a["qzeros"], a["scales"].astype(np.float32))


def through_gptq(w: Floats, bits: int) -> Floats:
    a = q.quantize_gptq(w, 64, bits)
    parts = (a["qweight"], a["qzeros"], a["scales"].astype(np.float32))
    consecutive = dequantize_gptq(*parts, bits=bits)
    assert np.array_equal(dequantize_gptq(*parts, a["g_idx"], bits=bits), consecutive)
    return consecutive


def through_fp8(w: Floats, block: tuple[int, int] | None = None, per_row: bool = False) -> Floats:
    codes, scale = q.quantize_fp8(w, block, per_row)
    return apply_scale(to_float32(codes.tobytes(), "F8_E4M3").reshape(w.shape), scale, block)


def through_int8(w: Floats) -> Floats:
    codes, scale = q.quantize_int8(w)
    return np.asarray(codes * scale, np.float32)


def through_fp4(w: Floats, kind: str) -> Floats:
    a = q.quantize_fp4(w, kind)
    scale = a["weight_scale"]
    if kind == "nvfp4":
        scale = to_float32(scale.tobytes(), "F8_E4M3").reshape(scale.shape)
    return dequantize_fp4(a["weight_packed"], scale, a.get("weight_global_scale"))


def through_gguf(w: Floats, kind: str) -> Floats:
    return dequantize(q.quantize_gguf(w, kind), kind).reshape(w.shape)


# Root mean square error on unit normal numbers: a step of the format over the square root of twelve, about.
FORMATS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "awq": (through_awq, 0.10),
    "gptq-int4": (lambda w: through_gptq(w, 4), 0.10),
    "gptq-int8": (lambda w: through_gptq(w, 8), 0.006),
    "fp8": (through_fp8, 0.03),
    "fp8 per row": (lambda w: through_fp8(w, per_row=True), 0.03),
    "fp8 per block": (lambda w: through_fp8(w, (32, 100)), 0.03),
    "int8": (through_int8, 0.01),
    "mxfp4": (lambda w: through_fp4(w, "mxfp4"), 0.13),
    "nvfp4": (lambda w: through_fp4(w, "nvfp4"), 0.11),
    **{
        kind: (partial(through_gguf, kind=kind), limit)
        for kind, limit in {
            "F32": 1e-7, "F16": 3e-4, "BF16": 2e-3, "Q8_0": 0.006, "Q4_0": 0.095, "Q4_1": 0.085, "Q5_0": 0.05,
            "Q5_1": 0.042, "Q4_K": 0.085, "Q5_K": 0.042, "Q6_K": 0.022, "MXFP4": 0.13,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix_reads_back_near_itself(name: str) -> None:
    through, limit = FORMATS[name]
    for scale in (1.0, 3e-3):
        error = float(np.sqrt(((through(WEIGHT * np.float32(scale)) / np.float32(scale) - WEIGHT) ** 2).mean()))
        assert error <= limit


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_stay_zeros(name: str) -> None:
    assert not FORMATS[name][0](np.zeros((16, 256), np.float32) if "block" not in name else 0 * WEIGHT).any()


def test_there_is_an_error_limit_for_every_gguf_type() -> None:
    assert set(q.GGUF_KINDS) <= FORMATS.keys()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_blocks_decode_as_those_of_the_gguf_package(kind: str) -> None:
    from gguf.quants import dequantize as reference
    from gguf.quants import quantize

    number = gguf.GGMLQuantizationType[kind]
    ours = np.frombuffer(q.quantize_gguf(WEIGHT, kind), np.uint8).reshape(len(WEIGHT), -1)
    theirs = quantize(WEIGHT, number).view(np.uint8).reshape(len(WEIGHT), -1)
    assert ours.shape == theirs.shape
    a, b = (reference(x.view(np.float32 if kind == "F32" else np.uint8), number).reshape(WEIGHT.shape)
            for x in (ours.copy(), theirs.copy()))  # fmt: skip
    assert np.sqrt(((a - WEIGHT) ** 2).mean()) <= 1.02 * np.sqrt(((b - WEIGHT) ** 2).mean())


def test_e4m3_is_the_nearest_of_all_codes() -> None:
    values = np.concatenate([WEIGHT.reshape(-1)[:2000] * 100, [0, -0.0, 448, -448, 1e9, 2**-9, 2**-10, 2**-11]])
    table = to_float32(bytes(range(127)), "F8_E4M3")
    found = to_float32(q.e4m3(values.astype(np.float32)).tobytes(), "F8_E4M3")
    best = np.abs(table[None, :] - np.abs(values.astype(np.float32))[:, None]).min(axis=1)
    assert np.array_equal(np.abs(np.abs(found) - np.abs(values.astype(np.float32))), best)


def test_what_does_not_fit_a_block_is_refused() -> None:
    for attempt in (
        lambda: q.quantize_awq(WEIGHT, 100),
        lambda: q.quantize_gguf(WEIGHT[:, :96], "Q4_K"),
        lambda: q.quantize_gguf(WEIGHT, "IQ2_XS"),
        lambda: q.quantize_awq(WEIGHT[:20], 64),
    ):
        with pytest.raises(FormatError):
            attempt()
