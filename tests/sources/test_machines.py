"""How `gpus` is read: counts, nodes, CPUs, cloud instances, memory, prices, refusals."""

from __future__ import annotations

import pytest

from planner.errors import PlannerError, UnknownNameError, UsageError
from planner.sources.catalog import Catalog, load
from planner.sources.machines import recent, resolve_machine
from planner.spec.hardware import Accelerator, Instance
from planner.units import GIB

CATALOG: Catalog = load()
RENTABLE = tuple(i for i in CATALOG.instances() if i.accelerator and CATALOG.accelerator(i.accelerator).plannable)
PLANNABLE = tuple(a for a in CATALOG.accelerators() if a.plannable)


@pytest.mark.parametrize(
    ("gpus", "label", "count"),
    [
        ("2xA100", "2xA100-SXM4-80GB", 2),
        ("2x A100", "2xA100-SXM4-80GB", 2),
        ("2 X a100", "2xA100-SXM4-80GB", 2),
        ("2×A100", "2xA100-SXM4-80GB", 2),
        ("A100:2", "2xA100-SXM4-80GB", 2),
        ("RTX 4090 x2", "2xRTX-4090", 2),
        ("8xH100-SXM", "8xH100-SXM", 8),
        ("A100", "1xA100-SXM4-80GB", 1),
        ("A100-40GB", "1xA100-SXM4-40GB", 1),
        ("1xM3-Max-64GB", "1xM3-Max-64GB", 1),
        ("2x 7900 XTX", "2xRX-7900-XTX", 2),
        ("7900 XTX", "1xRX-7900-XTX", 1),
        ("4x 4090", "4xRTX-4090", 4),
        ("8xGaudi3", "8xGaudi3", 8),
    ],
)
def test_counts_and_names_are_read_in_every_usual_form(gpus: str, label: str, count: int) -> None:
    machine = resolve_machine(CATALOG, gpus)
    assert (machine.label, machine.count) == (label, count)


@pytest.mark.parametrize("a", PLANNABLE, ids=lambda a: a.id)
def test_the_label_gives_the_same_machine_again(a: Accelerator) -> None:
    count = min(2, a.devices_per_node)
    machine = resolve_machine(CATALOG, f"{count}x{a.id}")
    again = resolve_machine(CATALOG, machine.label)
    assert again.model_dump(exclude={"assumptions"}) == machine.model_dump(exclude={"assumptions"})


def test_links_follow_the_accelerator() -> None:
    machine = resolve_machine(CATALOG, "8xH100-SXM")
    assert machine.link is not None and machine.link.bandwidth_bytes_per_s == 450e9
    assert machine.pcie is not None and machine.pcie.id == "pcie5-x16"
    assert machine.network is None
    assert resolve_machine(CATALOG, "2xL40S").link is None


def test_a_bridge_joins_only_as_many_as_it_can() -> None:
    assert resolve_machine(CATALOG, "2xH100-NVL").link is not None
    four = resolve_machine(CATALOG, "4xH100-NVL")
    assert four.link is None and any("planned over PCIe" in a for a in four.assumptions)


@pytest.mark.parametrize(
    ("gpus", "per_node"), [("16xH100", 8), ("12xH100", 6), ("16xRTX-4090", 8), ("2xM3-Ultra-96GB", 1)]
)
def test_more_than_one_node_is_spread_evenly_and_said(gpus: str, per_node: int) -> None:
    machine = resolve_machine(CATALOG, gpus)
    assert machine.devices_per_node == per_node
    assert machine.network is not None
    assert any(f"nodes of {per_node}" in a for a in machine.assumptions)


@pytest.mark.parametrize("gpus", ["17xH100", "19xRTX-4090"])
def test_a_count_that_no_equal_nodes_give_names_the_nearest(gpus: str) -> None:
    with pytest.raises(UsageError, match=r"evenly over nodes of \d; e\.g\. \d+ or \d+"):
        resolve_machine(CATALOG, gpus)


@pytest.mark.parametrize(
    ("gpus", "cpu", "sockets"),
    [
        ("cpu", "generic-desktop", 1),
        ("CPU:epyc-9654", "epyc-9654", 1),
        ("2xcpu:epyc-9654", "epyc-9654", 2),
        ("cpu:xeon-8480+", "xeon-8480", 1),
        ("cpu:Raspberry Pi 5", "raspberry-pi-5", 1),
    ],
)
def test_cpus_are_machines_without_accelerators(gpus: str, cpu: str, sockets: int) -> None:
    machine = resolve_machine(CATALOG, gpus)
    assert machine.accelerator is None and machine.platform == "cpu"
    assert machine.cpu is not None and machine.cpu.id == cpu
    assert machine.sockets == sockets
    assert machine.ram_bytes == sockets * machine.cpu.cores * 4 * GIB
    assert any("memory assumed" in a for a in machine.assumptions)
    assert resolve_machine(CATALOG, machine.label).cpu == machine.cpu


def test_plain_cpu_says_what_it_took_and_ram_is_taken_as_given() -> None:
    machine = resolve_machine(CATALOG, "cpu", ram="48GiB")
    assert machine.ram_bytes == 48 * GIB
    assert any("Generic desktop" in a for a in machine.assumptions)
    assert not any("memory assumed" in a for a in machine.assumptions)


@pytest.mark.parametrize("i", RENTABLE, ids=lambda i: f"{i.provider}-{i.id}")
def test_every_rentable_instance_is_a_machine(i: Instance) -> None:
    machine = resolve_machine(CATALOG, f"{i.provider}:{i.id}")
    assert machine.instance == i
    assert machine.accelerator is not None and machine.accelerator.id == i.accelerator
    assert machine.count == machine.devices_per_node == i.accelerator_count
    assert (machine.usd_per_hour, machine.ram_bytes) == (i.usd_per_hour, i.ram_bytes)


def test_several_instances_multiply_devices_and_price() -> None:
    one, two = (resolve_machine(CATALOG, g) for g in ("aws:p5.48xlarge", "2xaws:p5.48xlarge"))
    assert (one.count, two.count, two.devices_per_node) == (8, 16, 8)
    assert one.usd_per_hour is not None and two.usd_per_hour == pytest.approx(2 * one.usd_per_hour)
    assert two.network is not None


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        ("aws:g4ad.xlarge", "radeon-pro-v520"),
        ("aws:inf2.xlarge", "Neuron"),
        ("aws:dl2q.24xlarge", "qualcomm"),
        ("azure:Standard_NP10s", "FPGA"),
        ("azure:Standard_NC6_Promo", "K80"),
        ("azure:Standard_NV8ads_V710_v5", "1/3 of an AMD Radeon Pro V710"),
        ("azure:Standard_NV24s_v3", "retired"),
        ("azure:Standard_NC128ds_xl_RTXPRO6000BSE_v6", "no longer be created"),
    ],
)
def test_instances_without_a_plannable_gpu_are_refused_by_name(gpus: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be planned for: .*{reason}"):
        resolve_machine(CATALOG, gpus)


def test_a_share_of_a_gpu_is_that_share_of_its_memory_bandwidth_and_peaks() -> None:
    half, whole = (resolve_machine(CATALOG, g).accelerator for g in ("aws:g6f.4xlarge", "aws:g6.4xlarge"))
    assert half is not None and whole is not None and half.id == whole.id
    assert half.usable_memory_bytes == whole.usable_memory_bytes // 2
    assert half.mem_bandwidth_bytes_per_s == whole.mem_bandwidth_bytes_per_s / 2
    assert half.fp8_flops_per_s is not None and whole.fp8_flops_per_s is not None
    assert half.fp8_flops_per_s == whole.fp8_flops_per_s / 2
    assert half.kubernetes_product_label is None, "a virtual GPU's label is another"
    assert any("0.5 of NVIDIA L4" in a for a in resolve_machine(CATALOG, "aws:g6f.4xlarge").assumptions)


@pytest.mark.parametrize(
    ("gpus", "cpu", "cores", "sockets"),
    [
        ("aws:c7i.4xlarge", "xeon-8488c", 8, 1),
        ("aws:c7i.48xlarge", "xeon-8488c", 48, 2),
        ("aws:m7a.4xlarge", "epyc-9r14", 16, 1),
        ("aws:m8g.48xlarge", "graviton4", 96, 2),
        ("gcp:c3-standard-176", "xeon-8480", 44, 2),
        ("azure:Standard_E96as_v6", "epyc-9654", 48, 1),
    ],
)
def test_an_instance_without_accelerators_is_cores_of_its_processor(
    gpus: str, cpu: str, cores: int, sockets: int
) -> None:
    machine, whole = resolve_machine(CATALOG, gpus), CATALOG.cpu(cpu)
    assert machine.accelerator is None and machine.platform == "cpu" and machine.cpu is not None
    assert (machine.cpu.id, machine.cpu.cores, machine.sockets) == (cpu, cores, sockets)
    assert machine.cpu.mem_bandwidth_bytes_per_s == min(whole.mem_bandwidth_bytes_per_s, cores * 12e9)
    assert machine.cpu.fp32_flops_per_s == pytest.approx(whole.fp32_flops_per_s * cores / whole.cores)
    assert machine.instance is not None
    assert (machine.usd_per_hour, machine.ram_bytes) == (machine.instance.usd_per_hour, machine.instance.ram_bytes)
    assert any(f"{cores * sockets} cores of {sockets} x {whole.name}" in a for a in machine.assumptions)


def test_an_instance_without_accelerators_is_planned_alone() -> None:
    with pytest.raises(UsageError, match=r"for one host; ask for aws:c7i\.4xlarge"):
        resolve_machine(CATALOG, "2xaws:c7i.4xlarge")


def test_price_is_the_cheapest_recent_offer_of_exactly_this_device() -> None:
    machine = resolve_machine(CATALOG, "2xA100-SXM4-80GB")
    offers = [
        i.usd_per_hour / i.accelerator_count
        for i in CATALOG.instances()
        if i.accelerator == "a100-sxm4-80gb" and i.usd_per_hour and i.provenance.date >= "2026"
    ]
    assert machine.usd_per_hour == pytest.approx(2 * min(offers))
    said = next(a for a in machine.assumptions if a.startswith("price:"))
    assert f"on demand {min(offers):.2f} USD/h" in said and "2026-" in said


def test_old_prices_and_parts_of_a_device_do_not_make_its_list_price() -> None:
    offers = CATALOG.instances_with("a100-pcie-80gb")
    assert any(i.provenance.date < "2025-06" for i in offers), "the catalog keeps what was listed then"
    assert {i.provenance.date[:4] for i in recent([i for i in offers if i.usd_per_hour])} == {"2026"}
    price = resolve_machine(CATALOG, "1xL4").usd_per_hour
    shares = [i for i in CATALOG.instances_with("l4") if i.accelerator_share < 1.0]
    assert price is not None and any(i.usd_per_hour is not None and i.usd_per_hour < price for i in shares)
    assert resolve_machine(CATALOG, "RTX-4090").usd_per_hour is None


def test_unified_memory_is_the_ram() -> None:
    assert resolve_machine(CATALOG, "1xM3-Max-64GB").ram_bytes == 64 * GIB
    by_ram = resolve_machine(CATALOG, "1xM3-Max", ram="64GB")
    assert by_ram.label == "1xM3-Max-64GB" and by_ram.ram_bytes == 64 * GIB
    with pytest.raises(UsageError, match="one memory of 64 GiB"):
        resolve_machine(CATALOG, "1xM3-Max-64GB", ram="32GiB")


def test_host_memory_of_a_gpu_machine_is_unknown_unless_given() -> None:
    assert resolve_machine(CATALOG, "2xA100").ram_bytes is None
    assert resolve_machine(CATALOG, "2xA100", ram="512GiB").ram_bytes == 512 * GIB


@pytest.mark.parametrize("ram", ["-5", "0GiB", "48", "48G", "1000TiB", "9" * 500 + "GiB", ""])
def test_bad_ram_is_refused(ram: str) -> None:
    with pytest.raises(UsageError):
        resolve_machine(CATALOG, "2xA100", ram=ram)


@pytest.mark.parametrize("gpus", ["0xA100", "-1xA100", "1.5xA100", "1025xA100", "9" * 60 + "xA100", "A100:0", "99xcpu"])
def test_impossible_counts_are_refused(gpus: str) -> None:
    with pytest.raises(UsageError, match=r"count must be|at most 8 sockets"):
        resolve_machine(CATALOG, gpus)


@pytest.mark.parametrize("gpus", ["1xA100+1xL4", "1xA100 + 1xL4", "A100+L4", "1xA100,1xL4"])
def test_mixed_machines_are_refused(gpus: str) -> None:
    with pytest.raises(UsageError, match="mixes accelerators"):
        resolve_machine(CATALOG, gpus)


@pytest.mark.parametrize(
    ("gpus", "hint"),
    [("2xH10", "H100"), ("azzure:x", "azure"), ("aws:p5.48xlrge", "p5.48xlarge"), ("cpu:epyc-9655", "epyc-9654")],
)
def test_unknown_names_suggest_known_ones(gpus: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=hint):
        resolve_machine(CATALOG, gpus)


@pytest.mark.parametrize(
    "gpus",
    [
        "",
        " ",
        "x",
        "2x",
        "2x2x",
        "'A100'",
        '2x"A100"',
        "2xA100\n",
        "a\nb",
        "$(reboot)",
        "`id`",
        "../../etc/passwd",
        "x" * 10_000,
        "2x" * 5_000,
        "\x00",
        "{{7*7}}",
        "A100;rm -rf",
        "aws:",
        ":",
        "+",
        "cpu:$(id)",
        "A100+",
        "(((((",
        "1x" + "(" * 90,
    ],
)
def test_hostile_text_gets_one_short_line_or_a_machine(gpus: str) -> None:
    try:
        machine = resolve_machine(CATALOG, gpus)
    except PlannerError as error:
        assert isinstance(error, UsageError)
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert machine.label == "2xA100-SXM4-80GB"  # outer white space does not count
