"""A part of a device: the cores of a socket that a guest has, the share of a GPU that a slice or a virtual GPU is.

Knows how figures shrink with the part. Which parts there are is the host's (`detect`) or the catalog's (instances).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from planner.spec.hardware import Accelerator, Cpu

CORE_BYTES_PER_S: Final = 12e9
"""What one core is taken to draw from memory (estimated: single-core STREAM of server parts is 10 to 25 GB/s)."""


def with_cores(cpu: Cpu, cores: int) -> tuple[Cpu, list[str]]:
    """`cpu` with the peaks and the bandwidth that `cores` of one socket can use, and what was assumed."""
    if cores == cpu.cores:
        return cpu, []
    scale = cores / cpu.cores
    said = [f"peaks scaled from {cpu.cores} to {cores} cores per socket (derived)"]
    bandwidth = min(cpu.mem_bandwidth_bytes_per_s, cores * CORE_BYTES_PER_S)
    if bandwidth < cpu.mem_bandwidth_bytes_per_s:
        said.append(
            f"{cores} cores draw about {bandwidth / 1e9:.0f} of the socket's"
            f" {cpu.mem_bandwidth_bytes_per_s / 1e9:.0f} GB/s (12 GB/s a core, estimated)"
        )
    update = {
        "cores": cores,
        "mem_bandwidth_bytes_per_s": bandwidth,
        "fp32_flops_per_s": cpu.fp32_flops_per_s * scale,
        "bf16_flops_per_s": cpu.bf16_flops_per_s and cpu.bf16_flops_per_s * scale,
        "int8_ops_per_s": cpu.int8_ops_per_s and cpu.int8_ops_per_s * scale,
    }
    return cpu.model_copy(update=update), said


def share_of(
    accelerator: Accelerator, share: float, compute: float, memory_bytes: int, how: Literal["MIG", "virtual GPU"]
) -> Accelerator:
    """`share` of the bandwidth, `compute` of every peak, `memory_bytes` in all, and no link; `how` it is shared."""
    peaks = (
        "fp32_flops_per_s", "tf32_flops_per_s", "fp16_flops_per_s", "bf16_flops_per_s",
        "fp8_flops_per_s", "int8_ops_per_s", "fp4_flops_per_s",
    )  # fmt: skip
    scaled = {name: value * compute for name in peaks if (value := getattr(accelerator, name)) is not None}
    return accelerator.model_copy(
        update={
            **scaled,
            "name": f"{accelerator.name} ({how}, {share:.3g} of it)",
            "memory_bytes": memory_bytes,
            "usable_memory_bytes": memory_bytes,
            "mem_bandwidth_bytes_per_s": accelerator.mem_bandwidth_bytes_per_s * share,
            "link": None,
            "part": how,
        }
    )
