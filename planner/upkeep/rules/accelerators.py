"""Accelerators and links: figures within what exists, peaks in order, vendor and platform agreeing."""

from __future__ import annotations

from collections.abc import Iterator

from planner.sources.index import fold
from planner.spec.hardware import Accelerator, Interconnect
from planner.units import GIB
from planner.upkeep.shelf import Finding, Shelf, found

PLATFORMS = {
    "nvidia": {"cuda"}, "amd": {"rocm"}, "intel": {"gaudi", "xpu"}, "apple": {"metal"}, "google": {"tpu"},
    "aws": {"neuron"},
}  # fmt: skip
SLOW_HALF = frozenset({"6.1"})
"""Compute capabilities whose FP16 runs slower than FP32 (Pascal's consumer dies)."""


def findings(shelf: Shelf) -> Iterator[Finding]:
    """Each accelerator on its own, then each link."""
    links = shelf.ids("interconnect")
    for entry, a in shelf.of("accelerator", Accelerator):
        yield from found(entry, "ranges", _ranges(a))
        yield from found(entry, "consistency", _consistency(a))
        if a.plannable:
            yield from found(entry, "ranges", _peaks(a))
            yield from found(entry, "consistency", _platform(a))
        named = (a.link, a.pcie, a.network)
        missing = [name for name in named if name is not None and name not in links]
        yield from found(entry, "links", (f"no interconnect {name!r}" for name in missing))
    for entry, link in shelf.of("interconnect", Interconnect):
        yield from found(entry, "ranges", _link(link))


def within(what: str, value: float | None, low: float, high: float, unit: str, scale: float = 1.0) -> Iterator[str]:
    """A message when `value` (None: nothing to say) is outside [low, high] × scale; shown in `unit`."""
    if value is not None and not low <= value / scale <= high:
        yield f"{what} {value / scale:,.6g} {unit} is outside {low:g} to {high:g}"


def _ranges(a: Accelerator) -> Iterator[str]:
    yield from within("memory_bytes", a.memory_bytes, 3, 512, "GiB", GIB)
    yield from within("usable share of memory", a.usable_memory_bytes / max(a.memory_bytes, 1), 0.9, 1.02, "")
    yield from within("mem_bandwidth_bytes_per_s", a.mem_bandwidth_bytes_per_s, 10, 20_000, "GB/s", 1e9)
    yield from within("tdp_w", a.tdp_w, 5, 3000, "W")
    yield from within("release_year", a.release_year, 2012, 2030, "")
    yield from within("devices_per_node", a.devices_per_node, 1, 72, "")
    for rate in ("fp32_flops", "tf32_flops", "fp16_flops", "bf16_flops", "fp8_flops", "int8_ops", "fp4_flops"):
        yield from within(f"{rate}_per_s", getattr(a, f"{rate}_per_s"), 0.1, 20_000, "T/s", 1e12)


def _peaks(a: Accelerator) -> Iterator[str]:
    half = a.bf16_flops_per_s or a.fp16_flops_per_s
    if half is None:
        yield "no 16-bit rate: it cannot be planned for"
        return
    if a.compute_capability not in SLOW_HALF:
        if a.fp16_flops_per_s is None:
            yield "no FP16 rate"
        elif a.fp32_flops_per_s is not None and a.fp16_flops_per_s < a.fp32_flops_per_s:
            yield "FP16 is slower than FP32"
    if a.fp8_flops_per_s is not None:
        yield from within("FP8 over 16-bit", a.fp8_flops_per_s / half, 1.0, 2.1, "times")
    if a.fp4_flops_per_s is not None and a.fp8_flops_per_s is not None:
        yield from within("FP4 over FP8", a.fp4_flops_per_s / a.fp8_flops_per_s, 1.9, 4.1, "times")
    best = max(a.fp16_flops_per_s or 0, a.fp32_flops_per_s or 0)
    if best and a.mem_bandwidth_bytes_per_s > 0:
        yield from within("peak over bandwidth", best / a.mem_bandwidth_bytes_per_s, 8, 1000, "FLOP/byte")


def _consistency(a: Accelerator) -> Iterator[str]:
    if a.plannable != (a.refused_because == ""):
        yield "plannable and refused_because contradict each other"
    own = {fold(n) for n in (a.id, *a.aliases)}
    yield from (f"{n!r} of assumed_aliases is no alias" for n in a.assumed_aliases if fold(n) not in own)
    yield from (
        f"field_provenance names {field!r}, which is not set"
        for field in a.field_provenance
        if getattr(a, field, None) is None
    )
    if a.memory_options_bytes:
        ordered = tuple(sorted(set(a.memory_options_bytes)))
        if not a.unified_memory or a.memory_options_bytes != ordered or ordered[-1] != a.memory_bytes:
            yield "memory_options_bytes must rise to memory_bytes, on a chip with unified memory"


def _platform(a: Accelerator) -> Iterator[str]:
    if a.platform not in PLATFORMS[a.vendor]:
        yield f"platform {a.platform} is not one of {a.vendor}"
    if (a.compute_capability is not None) != (a.vendor == "nvidia"):
        yield "compute_capability is for NVIDIA, and needed there"
    if (a.gfx is not None) != (a.vendor == "amd"):
        yield "gfx is for AMD, and needed there"
    for peak, sm in (("bf16_flops", 80), ("fp8_flops", 89), ("fp4_flops", 100)):
        if a.sm is not None and a.sm < sm and getattr(a, f"{peak}_per_s") is not None:
            yield f"{peak}_per_s needs compute capability {sm // 10}.{sm % 10}, not {a.compute_capability}"
    if a.devices_per_node > 1 and a.pcie is None:
        yield "several devices in a node need a pcie link"


def _link(link: Interconnect) -> Iterator[str]:
    yield from within("bandwidth_bytes_per_s", link.bandwidth_bytes_per_s, 1, 1000, "GB/s", 1e9)
    yield from within("latency_s", link.latency_s, 0.5, 100, "us", 1e-6)
    yield from within("max_devices", link.max_devices, 2, 1024, "")
