"""The hardware files as data: ranges, families, provenance. A new YAML entry is tested for free."""

from __future__ import annotations

import re
from datetime import date

import pytest

from planner.sources.catalog import Catalog, load
from planner.sources.index import fold
from planner.spec.base import Provenance
from planner.spec.hardware import Accelerator, Cpu, Instance, Interconnect
from planner.units import GIB

CATALOG: Catalog = load()
ACCELERATORS = CATALOG.accelerators()
PLANNABLE = tuple(a for a in ACCELERATORS if a.plannable)
CPUS = CATALOG.cpus()
LINKS = CATALOG.interconnects()
INSTANCES = CATALOG.instances()

accelerators = pytest.mark.parametrize("a", ACCELERATORS, ids=lambda a: a.id)
plannable = pytest.mark.parametrize("a", PLANNABLE, ids=lambda a: a.id)
cpus = pytest.mark.parametrize("c", CPUS, ids=lambda c: c.id)


def _sound(provenance: Provenance) -> bool:
    date.fromisoformat(provenance.date)
    return bool(provenance.source) and not re.search(r"(^|\s)/\w+/|shared/|^\W+$", provenance.source)


def test_the_catalog_is_as_wide_as_promised() -> None:
    assert len(PLANNABLE) >= 120
    assert len(CPUS) >= 12
    assert len(INSTANCES) >= 460
    assert len({i.provider for i in INSTANCES}) >= 12
    assert {a.vendor for a in PLANNABLE} == {"nvidia", "amd", "intel", "apple"}


@accelerators
def test_every_accelerator_says_where_its_figures_are_from(a: Accelerator) -> None:
    assert _sound(a.provenance)
    assert all(_sound(p) for p in a.field_provenance.values())
    assert set(a.field_provenance) <= set(Accelerator.model_fields)
    assert all(getattr(a, field) is not None for field in a.field_provenance)


@accelerators
def test_memory_and_bandwidth_are_in_range(a: Accelerator) -> None:
    assert 3 * GIB <= a.memory_bytes <= 512 * GIB
    assert 0.9 * a.memory_bytes <= a.usable_memory_bytes <= 1.02 * a.memory_bytes
    assert 10e9 <= a.mem_bandwidth_bytes_per_s <= 20e12


@plannable
def test_unified_memory_options_end_at_the_largest(a: Accelerator) -> None:
    if a.memory_options_bytes:
        assert a.unified_memory
        assert a.memory_options_bytes == tuple(sorted(set(a.memory_options_bytes)))
        assert a.memory_options_bytes[-1] == a.memory_bytes == a.usable_memory_bytes


@plannable
def test_peaks_are_dense_and_ordered_by_width(a: Accelerator) -> None:
    half = a.bf16_flops_per_s or a.fp16_flops_per_s
    assert half is not None, "a device without a 16-bit rate cannot be planned for"
    if a.compute_capability not in ("6.1",):  # Pascal's consumer dies run FP16 at 1/64
        assert a.fp16_flops_per_s is not None
        assert a.fp32_flops_per_s is None or a.fp16_flops_per_s >= a.fp32_flops_per_s
    if a.fp8_flops_per_s is not None:
        assert 1.0 <= a.fp8_flops_per_s / half <= 2.1
    if a.fp4_flops_per_s is not None and a.fp8_flops_per_s is not None:
        assert 1.9 <= a.fp4_flops_per_s / a.fp8_flops_per_s <= 4.1
    for rate in (a.fp32_flops_per_s, half, a.fp8_flops_per_s, a.int8_ops_per_s, a.fp4_flops_per_s):
        assert rate is None or 0.1e12 <= rate <= 20e15


@plannable
def test_arithmetic_intensity_is_plausible(a: Accelerator) -> None:
    best = max(a.fp16_flops_per_s or 0, a.fp32_flops_per_s or 0)
    assert 8 <= best / a.mem_bandwidth_bytes_per_s <= 1000


@plannable
def test_vendor_platform_and_architecture_agree(a: Accelerator) -> None:
    platforms = {"nvidia": {"cuda"}, "amd": {"rocm"}, "intel": {"gaudi", "xpu"}, "apple": {"metal"}}
    assert a.platform in platforms[a.vendor]
    assert (a.compute_capability is not None) == (a.vendor == "nvidia")
    assert (a.gfx is not None) == (a.vendor == "amd")
    assert (a.kubernetes_resource is None) == (a.vendor == "apple")
    assert a.fp8_flops_per_s is None or a.sm is None or a.sm >= 89
    assert a.fp4_flops_per_s is None or a.sm is None or a.sm >= 100
    assert a.bf16_flops_per_s is None or a.sm is None or a.sm >= 80


@plannable
def test_links_are_in_the_catalog(a: Accelerator) -> None:
    for link in (a.link, a.pcie, a.network):
        assert link is None or CATALOG.interconnect(link).id == link
    assert a.devices_per_node == 1 or a.pcie is not None
    assert a.network is not None


@accelerators
def test_ambiguous_names_are_names_of_the_device(a: Accelerator) -> None:
    own = {fold(n) for n in (a.id, *a.aliases)}
    assert {fold(n) for n in a.assumed_aliases} <= own
    assert a.plannable == (a.refused_because == "")


def test_no_two_accelerators_answer_to_one_name() -> None:
    owner: dict[str, str] = {}
    for a in ACCELERATORS:
        for name in {fold(n) for n in (a.id, *a.aliases)}:
            assert owner.setdefault(name, a.id) == a.id


@pytest.mark.parametrize(
    ("name", "gib_low", "gib_high"),
    [
        ("h100-sxm", 79.1, 79.25),
        ("a100-sxm4-80gb", 79.1, 79.25),
        ("a100-sxm4-40gb", 39.4, 39.6),
        ("rtx-4090", 23.5, 23.65),
        ("rtx-3090", 23.5, 23.6),
        ("l4", 22.0, 22.2),
        ("t4", 14.6, 14.75),
        ("h200-sxm", 139.75, 139.85),
        ("mi300x", 191.7, 192.0),
        ("gaudi2", 94.6, 94.65),
    ],
)
def test_usable_memory_is_what_engines_log(name: str, gib_low: float, gib_high: float) -> None:
    assert gib_low <= CATALOG.accelerator(name).usable_memory_bytes / GIB <= gib_high


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("h100-sxm", "NVIDIA-H100-80GB-HBM3"),
        ("h200-sxm", "NVIDIA-H200"),
        ("a100-sxm4-80gb", "NVIDIA-A100-SXM4-80GB"),
        ("l4", "NVIDIA-L4"),
        ("t4", "Tesla-T4"),
        ("rtx-4090", "NVIDIA-GeForce-RTX-4090"),
    ],
)
def test_product_label_is_what_gpu_feature_discovery_writes(name: str, label: str) -> None:
    assert CATALOG.accelerator(name).kubernetes_product_label == label


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.id)
def test_links_are_in_range(link: Interconnect) -> None:
    assert _sound(link.provenance)
    assert 1e9 <= link.bandwidth_bytes_per_s <= 1e12
    assert 0.5e-6 <= link.latency_s <= 100e-6


@cpus
def test_cpus_are_in_range(c: Cpu) -> None:
    assert _sound(c.provenance) and all(_sound(p) for p in c.field_provenance.values())
    assert 1 <= c.cores <= 256
    assert 10e9 <= c.mem_bandwidth_bytes_per_s <= 1e12
    assert 0.1e12 <= c.fp32_flops_per_s <= 50e12
    assert c.bf16_flops_per_s is None or c.bf16_flops_per_s >= 2 * c.fp32_flops_per_s
    assert c.int8_ops_per_s is None or c.int8_ops_per_s >= 2 * c.fp32_flops_per_s
    assert (c.architecture == "aarch64") == ("neon" in c.isa)
    assert ("amx_bf16" in c.isa) == (c.bf16_flops_per_s is not None and c.bf16_flops_per_s >= 8 * c.fp32_flops_per_s)


@cpus
def test_cpu_bandwidth_is_channels_times_speed(c: Cpu) -> None:
    if c.memory_channels and c.memory_speed_mt_s:
        per_channel = c.mem_bandwidth_bytes_per_s / (c.memory_channels * c.memory_speed_mt_s * 1e6)
        assert per_channel == pytest.approx(8) or per_channel == pytest.approx(4)  # LPDDR channels are half as wide


@pytest.mark.parametrize("i", INSTANCES, ids=lambda i: f"{i.provider}-{i.id}")
def test_instances_are_sound(i: Instance) -> None:
    assert _sound(i.provenance)
    assert i.accelerator_label or i.cpu
    if i.accelerator is not None:
        assert CATALOG.accelerator(i.accelerator).id == i.accelerator
        assert 1 <= i.accelerator_count <= 16
        assert 0 < i.accelerator_share <= 1
        if i.usd_per_hour is not None:
            assert 0.05 <= i.usd_per_hour / i.accelerator_count <= 40
    if i.cpu is not None:
        assert i.accelerator is None and CATALOG.cpu(i.cpu).id == i.cpu
        assert i.cores is not None and i.vcpu in (i.cores, 2 * i.cores)
    assert i.ram_bytes is None or 4e9 <= i.ram_bytes <= 6e12
