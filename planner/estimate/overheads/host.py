"""Memory that an operating system keeps where the model shares RAM with it, and Metal's own limit.

Estimates for machines that do little else: CPU hosts, Jetson, GB10, Strix Halo, Apple.
"""

from __future__ import annotations

from planner.spec.hardware import Accelerator
from planner.units import GIB

SYSTEM_FLOOR_BYTES = 3 * GIB // 2
SYSTEM_SHARE = 0.06
"""A DGX Spark with 121.7 GiB shows 112 to 115 GiB free before an engine starts (owners' start-up logs,
2026-08): 0.055 to 0.08 of the total."""
METAL_SMALL_BYTES = 32 * GIB
METAL_SMALL_SHARE = 2 / 3
METAL_LARGE_SHARE = 3 / 4
"""recommendedMaxWorkingSetSize that llama.cpp printed: 0.667 of 16 and 32 GiB, 0.75 of 36 and 96 GiB;
newer macOS gives 0.74 to 0.78 (18, 36, 48 GiB), so these are what any version allows."""


def system_bytes(total_bytes: int) -> int:
    """What the operating system and its services keep of `total_bytes` of RAM."""
    return max(SYSTEM_FLOOR_BYTES, int(total_bytes * SYSTEM_SHARE))


def metal_bytes(ram_bytes: int) -> int:
    """What macOS lets the GPU wire of `ram_bytes` (unless iogpu.wired_limit_mb raises it)."""
    return int(ram_bytes * (METAL_SMALL_SHARE if ram_bytes <= METAL_SMALL_BYTES else METAL_LARGE_SHARE))


def gpu_share_bytes(accelerator: Accelerator, ram_bytes: int | None = None) -> int:
    """Bytes of `accelerator`'s memory that models may use, before an engine's own overheads."""
    total = accelerator.usable_memory_bytes
    if accelerator.platform == "metal":
        return metal_bytes(min(total, ram_bytes or total))
    if accelerator.unified_memory:
        return total - system_bytes(total)
    return total
