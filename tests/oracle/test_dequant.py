"""Dequantization beside the `gguf` package: equal bit for bit, on random bytes with finite scales."""

from __future__ import annotations

import numpy as np
import pytest

from planner.formats.gguf import TYPES
from planner.formats.quantized import BLOCK_DECODERS, dequantize

gguf = pytest.importorskip("gguf", reason="the oracle needs the gguf package")
SIZES = {name: (block, n_bytes) for name, block, n_bytes in TYPES.values()}


def test_every_type_has_the_size_the_package_says() -> None:
    for kind, (block, n_bytes) in gguf.GGML_QUANT_SIZES.items():
        if kind.name in SIZES:
            assert SIZES[kind.name] == (block, n_bytes), kind.name


@pytest.mark.parametrize("kind", [*BLOCK_DECODERS, "BF16", "F16"])
@pytest.mark.parametrize("seed", range(4))
def test_dequantization_is_bitwise_that_of_the_gguf_package(kind: str, seed: int) -> None:
    from gguf.quants import dequantize as reference

    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (256, SIZES[kind][1]), dtype=np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        theirs = reference(raw, gguf.GGMLQuantizationType[kind])
        ours = dequantize(raw.tobytes(), kind).reshape(theirs.shape)
    finite = np.isfinite(theirs)
    assert finite.mean() > 0.5
    assert np.array_equal(ours[finite].view(np.uint32), theirs[finite].view(np.uint32))
    assert np.array_equal(np.isfinite(ours), finite)
