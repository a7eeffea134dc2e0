"""CPUs: cores, channels and peaks within what exists, and agreeing with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.spec.hardware import Cpu
from planner.upkeep.rules.accelerators import within
from planner.upkeep.shelf import Finding, Shelf, found

_CHANNEL_BYTES = (4, 8)
"""Bytes per transfer of one memory channel: LPDDR's are half as wide as DDR's."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each CPU on its own."""
    for entry, cpu in shelf.of("cpu", Cpu):
        yield from found(entry, "ranges", _ranges(cpu))
        yield from found(entry, "consistency", _consistency(cpu))


def _ranges(c: Cpu) -> Iterator[str]:
    yield from within("cores", c.cores, 1, 512, "")
    yield from within("mem_bandwidth_bytes_per_s", c.mem_bandwidth_bytes_per_s, 10, 2000, "GB/s", 1e9)
    yield from within("fp32_flops_per_s", c.fp32_flops_per_s, 0.1, 50, "TFLOP/s", 1e12)
    for rate in ("bf16_flops_per_s", "int8_ops_per_s"):
        value = getattr(c, rate)
        if value is not None and value < 2 * c.fp32_flops_per_s:
            yield f"{rate} is less than twice the FP32 rate"


def _consistency(c: Cpu) -> Iterator[str]:
    if (c.architecture == "aarch64") != ("neon" in c.isa):
        yield "aarch64 and neon go together"
    if c.memory_channels and c.memory_speed_mt_s:
        per_transfer = c.mem_bandwidth_bytes_per_s / (c.memory_channels * c.memory_speed_mt_s * 1e6)
        if not any(math.isclose(per_transfer, n, rel_tol=1e-3) for n in _CHANNEL_BYTES):
            yield f"bandwidth is {per_transfer:.3g} bytes per transfer and channel, not 4 or 8"
