"""How device names are read: variants, sizes, vendor words, refusals."""

from __future__ import annotations

import pytest

from planner.errors import UnknownNameError, UsageError
from planner.sources.catalog import Catalog, load
from planner.sources.hardware import resolve_accelerator, typed_name
from planner.spec.hardware import Accelerator
from planner.units import GIB

CATALOG: Catalog = load()
PLANNABLE = tuple(a for a in CATALOG.accelerators() if a.plannable)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("a100_sxm4_80gb", "a100-sxm4-80gb"),
        ("A100 80GB PCIe", "a100-pcie-80gb"),
        ("H100-SXM", "h100-sxm"),
        ("H100 NVL", "h100-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("H100-94GB", "h100-nvl"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("RTX-4090", "rtx-4090"),
        ("RTX4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("RTX 4060 Ti 8GB", "rtx-4060-ti-8gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Tesla T4", "t4"),
        ("L40S", "l40s"),
        ("B200", "b200-sxm"),
        ("MI300X", "mi300x"),
        ("AMD Instinct MI300X", "mi300x"),
        ("7900 XTX", "rx-7900-xtx"),
        ("Radeon RX 7900 XTX", "rx-7900-xtx"),
        ("Gaudi3", "gaudi3"),
        ("Intel Gaudi 3", "gaudi3"),
        ("HL-325L", "gaudi3"),
        ("DGX-Spark", "gb10"),
        ("GB10", "gb10"),
        ("Arc A770", "arc-a770"),
    ],
)
def test_a_name_that_means_one_device_is_read_without_assuming(name: str, identifier: str) -> None:
    accelerator, assumption = resolve_accelerator(CATALOG, name)
    assert accelerator.id == identifier
    assert assumption is None


@pytest.mark.parametrize(
    ("name", "identifier", "said"),
    [
        ("A100", "a100-sxm4-80gb", "SXM4 80 GB"),
        ("NVIDIA A100", "a100-sxm4-80gb", "SXM4 80 GB"),
        ("A100-40GB", "a100-sxm4-40gb", "SXM4"),
        ("H100", "h100-sxm", "SXM5"),
        ("H200", "h200-sxm", "SXM5"),
        ("V100", "v100-sxm2-16gb", "SXM2 16 GB"),
        ("RTX 4060 Ti", "rtx-4060-ti-16gb", "16 GB"),
        ("RTX PRO 6000", "rtx-pro-6000-blackwell", "Workstation"),
        ("MI250X", "mi250x", "GCD"),
        ("RTX-4090-24GB", "rtx-4090", "24 GB"),
    ],
)
def test_an_ambiguous_name_is_read_as_the_usual_variant_and_says_so(name: str, identifier: str, said: str) -> None:
    accelerator, assumption = resolve_accelerator(CATALOG, name)
    assert accelerator.id == identifier
    assert assumption is not None and said in assumption


@pytest.mark.parametrize(
    ("name", "identifier", "gib"),
    [
        ("M3-Max-64GB", "m3-max", 64),
        ("Apple M3 Max 128 GB", "m3-max", 128),
        ("M3-Max-36GB", "m3-max-30gpu", 36),
        ("m3 max 14core 96gb", "m3-max-30gpu", 96),
        ("M2-24GB", "m2", 24),
        ("M1-8GB", "m1", 8),
        ("M4-Max-36GB", "m4-max-32gpu", 36),
        ("M3-Ultra-512GB", "m3-ultra", 512),
        ("Strix-Halo-64GB", "strix-halo", 64),
    ],
)
def test_unified_memory_takes_the_size_that_was_named(name: str, identifier: str, gib: int) -> None:
    accelerator, _ = resolve_accelerator(CATALOG, name)
    assert accelerator.id == identifier
    assert accelerator.memory_bytes == accelerator.usable_memory_bytes == gib * GIB


@pytest.mark.parametrize(("name", "gib"), [("M2", 16), ("M3-Max", 48), ("M3 Pro", 18), ("Strix-Halo", 128)])
def test_unified_memory_without_a_size_assumes_one_and_says_so(name: str, gib: int) -> None:
    accelerator, assumption = resolve_accelerator(CATALOG, name)
    assert accelerator.memory_bytes == gib * GIB
    assert assumption is not None and f"{gib} GB" in assumption


def test_m3_max_says_which_of_its_two_chips_was_assumed() -> None:
    _, assumption = resolve_accelerator(CATALOG, "M3-Max-64GB")
    assert assumption is not None and "16-core" in assumption and "30 GPU cores" in assumption


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("M3-Max-65GB", "36, 48, 64, 96, 128 GB"),
        ("M3-Max-30GPU-64GB", "36, 96 GB"),
        ("A100-60GB", "40, 80 GB"),
        ("RTX-4090-48GB", "24 GB"),
        ("L4-48GB", "24 GB"),
    ],
)
def test_a_size_that_is_not_sold_names_those_that_are(name: str, sizes: str) -> None:
    with pytest.raises(UsageError, match=sizes) as error:
        resolve_accelerator(CATALOG, name)
    assert not isinstance(error.value, UnknownNameError)


@pytest.mark.parametrize("name", ["H10", "RTX 4091", "MI300Y", "M9-Max-64GB"])
def test_an_unknown_name_suggests_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match="nearest"):
        resolve_accelerator(CATALOG, name)


@pytest.mark.parametrize("name", ["tpu-v5e", "Trillium", "Inferentia2", "trainium2"])
def test_a_device_that_cannot_be_planned_for_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be planned for: .{20}"):
        resolve_accelerator(CATALOG, name)


@pytest.mark.parametrize(
    "name", ["", "  ", "A100\nrm", "'A100'", "$(reboot)", "`id`", "A100;ls", "x" * 10_000, "Ａ100"]
)
def test_hostile_names_get_one_line(name: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_accelerator(CATALOG, name)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("a", PLANNABLE, ids=lambda a: a.id)
def test_what_we_print_is_read_back_as_the_same_device(a: Accelerator) -> None:
    again, _ = resolve_accelerator(CATALOG, typed_name(a))
    assert (again.id, again.memory_bytes) == (a.id, a.memory_bytes)


@pytest.mark.parametrize("a", PLANNABLE, ids=lambda a: a.id)
def test_every_alias_leads_to_its_device(a: Accelerator) -> None:
    for name in (a.id, *a.aliases):
        assert resolve_accelerator(CATALOG, name)[0].id == a.id
