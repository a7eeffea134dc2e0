"""What the vendors' tools print becomes a machine of the catalog's parts.

Longer than 400 lines because every case is a machine made by `tools`, and test folders are no packages to share it
from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from planner.errors import PlannerError, UnknownNameError, UsageError
from planner.sources.detect import amd, apple, cpu, detect, inspect, intel, kubernetes, nvidia
from planner.sources.detect.found import Device, Run, run_command
from planner.sources.detect.machine import find_accelerator
from planner.sources.machines import resolve_machine
from planner.units import GIB

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

FIXTURES = Path(__file__).parent / "fixtures"
MIB = 1 << 20


def recorded(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def tools(**outputs: str) -> Run:
    """A machine on which only these commands answer, by a name for each."""
    commands: dict[str, Sequence[str]] = {
        "nvidia": nvidia.QUERY, "csv": nvidia.CSV_QUERY, "topo": nvidia.TOPOLOGY, "tree": nvidia.DEVICE_TREE,
        "list": nvidia.LIST,
        "amd": amd.STATIC, "amd_metric": amd.METRIC, "rocm": amd.ROCM, "gaudi": intel.GAUDI, "xpu": intel.XPU,
        "xpu0": (*intel.XPU[:2], "-d", "0", "-j"), "displays": apple.DISPLAYS, "memsize": apple.MEMORY,
        "wired": apple.WIRED, "vm_stat": apple.VM_STAT, "lscpu": cpu.LSCPU, "meminfo": cpu.MEMINFO,
        "version": cpu.VERSION, "dockerenv": cpu.CONTAINER, "memory_max": cpu.CGROUP2[0], "cpu_max": cpu.CGROUP2[1],
        "v1_memory": cpu.CGROUP1[0], "v1_quota": cpu.CGROUP1[1], "v1_period": cpu.CGROUP1[2],
        "kubectl": kubernetes.NODES,
    }  # fmt: skip
    answers = {tuple(commands[name]): text for name, text in outputs.items()}
    return lambda command: answers.get(tuple(command))


HOST = {"lscpu": recorded("lscpu-epyc-7763.json"), "meminfo": recorded("meminfo.txt")}
RAM = 528237568 << 10


def test_every_recorded_output_names_its_source() -> None:
    listed = {line.split("`")[1] for line in recorded("README.md").splitlines() if line.startswith("- `")}
    assert listed == {p.name for p in FIXTURES.iterdir()} - {"README.md"}
    for line in recorded("README.md").splitlines():
        if line.startswith("- `"):
            assert line.partition(": ")[2].startswith(("https://", "synthetic", "recorded"))


# -- NVIDIA ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "id", "total_mib", "driver"),
    [
        ("nvidia-a10g.xml", "a10g", 23028, "515.105.01"),
        ("nvidia-t4.xml", "t4", 15843, ""),
        ("nvidia-rtx-3090.xml", "rtx-3090", 24576, ""),
    ],
)
def test_nvidia_devices_keep_the_memory_their_driver_reports(
    catalog: Catalog, file: str, id: str, total_mib: int, driver: str
) -> None:
    machine = detect(tools(nvidia=recorded(file), **HOST), catalog=catalog)
    assert machine.accelerator is not None
    assert machine.accelerator.id == id
    assert (machine.count, machine.ram_bytes) == (1, RAM)
    assert abs(machine.accelerator.usable_memory_bytes / MIB - total_mib) < 0.1 * total_mib
    assert (
        machine.free_memory_bytes is not None and machine.free_memory_bytes <= machine.accelerator.usable_memory_bytes
    )
    assert any(note.startswith(f"driver {driver}") and "CUDA" in note for note in machine.assumptions)


def test_a_device_that_is_not_catalogued_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UnknownNameError, match=r"'NVIDIA RTX 4000 SFF Ada Generation'; nearest: NVIDIA RTX 4000 Ada"):
        detect(tools(nvidia=recorded("nvidia-rtx-4000-sff-ada.xml"), **HOST), catalog=catalog)


def test_mig_slices_are_planned_as_their_share(catalog: Catalog) -> None:
    machine = detect(tools(nvidia=recorded("nvidia-a100-mig.xml"), **HOST), catalog=catalog)
    whole = catalog.accelerator("a100-sxm4-80gb")
    assert machine.accelerator is not None
    assert machine.count == 4 and machine.link is None
    assert machine.accelerator.usable_memory_bytes == 19968 * MIB
    assert machine.accelerator.mem_bandwidth_bytes_per_s == whole.mem_bandwidth_bytes_per_s / 4
    assert whole.bf16_flops_per_s is not None and machine.accelerator.bf16_flops_per_s is not None
    assert machine.accelerator.bf16_flops_per_s == pytest.approx(whole.bf16_flops_per_s * 14 / 108)
    assert any("0.25 of the device's bandwidth and 0.13 of its peaks" in note for note in machine.assumptions)
    assert any("runs as 4 MIG slices" in note for note in machine.assumptions)
    card = resolve_machine(catalog, "1xA100-SXM4-80GB")
    assert (machine.label, machine.usd_per_hour) == (card.label, card.usd_per_hour)
    assert machine.slices == ("0:0", "0:1", "0:2", "0:3") and card.slices == ()
    assert machine.accelerator.is_slice and not whole.is_slice


LISTED = "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d)\n" + "".join(
    f"  MIG 1g.20gb     Device  {i}: (UUID: MIG-{i})\n" for i in range(4)
)


@pytest.mark.parametrize(
    ("listed", "resource"),
    [
        (LISTED, "nvidia.com/mig-1g.20gb"),
        (LISTED.replace("1g.20gb ", "1g.20gb+me "), "nvidia.com/mig-1g.20gb.me"),
        (LISTED.replace("  MIG 1g.20gb     Device  3", "  3"), None),
        ("", None),
    ],
)
def test_a_slice_is_asked_for_by_its_size_where_the_driver_tells_it(
    catalog: Catalog, listed: str, resource: str | None
) -> None:
    machine = detect(tools(nvidia=recorded("nvidia-a100-mig.xml"), list=listed, **HOST), catalog=catalog)
    assert machine.accelerator is not None
    assert machine.accelerator.kubernetes_resource == resource


def test_slices_hold_copies_and_never_parts_of_a_model(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner import api
    from planner.render.artifacts.kubernetes import cluster_cannot
    from planner.render.launch import plan_launch
    from planner.sources import detect as package

    answers = tools(nvidia=recorded("nvidia-a100-mig.xml"), list=LISTED, **HOST)
    machine = detect(answers, catalog=catalog)
    monkeypatch.setattr(package, "detect", lambda **_: machine)
    plan = api.recommend(model="llama3-8b", gpus="detect").plan
    for configuration in (plan.best, *plan.alternatives):
        assert (configuration.parallelism.devices_per_replica, configuration.parallelism.replicas) == (1, 4)
    assert cluster_cannot(plan) is None
    assert plan_launch(plan).local_devices == (("0:0",), ("0:1",), ("0:2",), ("0:3",))
    assert machine.accelerator is not None
    nameless = machine.accelerator.model_copy(update={"kubernetes_resource": None})
    resolved = plan.resolved.model_copy(update={"machine": machine.model_copy(update={"accelerator": nameless})})
    assert "resource of a MIG slice" in (cluster_cannot(plan.model_copy(update={"resolved": resolved})) or "")
    for asked in ({"tensor_parallel": 2}, {"pipeline_parallel": 2}, {"data_parallel": 2}):
        with pytest.raises(UsageError, match="is a slice that shares no memory"):
            api.recommend(model="llama3-8b", gpus="detect", **asked)
    with pytest.raises(PlannerError, match="one ollama server sees one slice"):
        api.recommend(model="llama3-8b", gpus="detect", engine="ollama")


@pytest.mark.parametrize(
    ("file", "count", "linked"),
    [("nvidia-topo-4090x8.txt", 8, False), ("nvidia-topo-a100x4.txt", 4, True), ("nvidia-topo-pcie-x5.txt", 5, False),
     ("nvidia-topo-a100x4.txt", 8, None)],
)  # fmt: skip
def test_topology_says_whether_all_are_linked(file: str, count: int, linked: bool | None) -> None:
    assert nvidia.parse_topology(recorded(file), count) is linked


def test_devices_without_nvlink_are_planned_over_pcie(catalog: Catalog) -> None:
    one = "NVIDIA H100 80GB HBM3, 81559, 80123, 580.65.06\n"
    linked = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV18\t0-1\nGPU1\tNV18\t X \t0-1\n"
    machine = detect(tools(csv=recorded("nvidia-query-h100.csv"), topo=linked, **HOST), catalog=catalog)
    assert machine.accelerator is not None
    assert (machine.count, machine.accelerator.usable_memory_bytes) == (2, 81559 * MIB)
    assert machine.accelerator.id.startswith("h100-sxm")
    assert machine.link is not None
    cut = detect(tools(csv=one * 2, topo=linked.replace("NV18", "SYS"), **HOST), catalog=catalog)
    assert cut.link is None and any("planned over PCIe" in note for note in cut.assumptions)


def test_memory_in_use_by_others_is_said(catalog: Catalog) -> None:
    machine = detect(tools(csv="NVIDIA H100 80GB HBM3, 81559, 20000, 580.65.06\n", **HOST), catalog=catalog)
    assert machine.free_memory_bytes == 20000 * MIB
    assert any(note.startswith("only 19.53 GiB of 79.65 GiB are free") for note in machine.assumptions)


def test_a_jetson_shares_the_hosts_memory(catalog: Catalog) -> None:
    meminfo = "MemTotal:       64349516 kB\nMemAvailable:   60000000 kB\n"
    machine = detect(
        tools(tree=recorded("device-tree-orin.txt"), lscpu=HOST["lscpu"], meminfo=meminfo), catalog=catalog
    )
    assert machine.accelerator is not None and machine.accelerator.id == "jetson-agx-orin-64gb"


# -- AMD, Intel, Apple ----------------------------------------------------------------------------


def test_amd_smi_names_devices_and_what_is_free(catalog: Catalog) -> None:
    run = tools(amd=recorded("amd-smi-static-mi355x.json"), amd_metric=recorded("amd-smi-metric-mi355x.json"), **HOST)
    machine = detect(run, catalog=catalog)
    assert machine.accelerator is not None
    assert (machine.accelerator.id, machine.count) == ("mi355x", 8)
    assert machine.accelerator.usable_memory_bytes == 294896 * MIB
    assert machine.free_memory_bytes == (294896 - 283) * MIB


def test_rocm_smi_is_read_where_amd_smi_is_missing(catalog: Catalog) -> None:
    found = amd.parse_rocm_smi(recorded("rocm-smi-mi100.json"))
    assert found is not None
    assert [(d.name, d.total_bytes) for d in found.devices] == [("Arcturus GL-XL [Instinct MI100]", 34342961152)] * 4
    assert found.driver == "6.3.6"
    run = tools(rocm=recorded("rocm-smi-rx6700xt.json"), **HOST)
    with pytest.raises(UnknownNameError, match="unknown accelerator 'Navi 22"):
        detect(run, catalog=catalog)


def test_gaudi_is_found_by_its_card_number(catalog: Catalog) -> None:
    machine = detect(tools(gaudi=recorded("hl-smi-gaudi2.csv"), **HOST), catalog=catalog)
    assert machine.accelerator is not None
    assert (machine.accelerator.id, machine.count) == ("gaudi2", 8)
    assert machine.accelerator.usable_memory_bytes == 98304 * MIB
    assert "driver 1.19.0-561fb0f" in machine.assumptions


def test_intel_gpus_are_asked_one_by_one_for_memory(catalog: Catalog) -> None:
    run = tools(xpu=recorded("xpu-smi-flex170.json"), xpu0=recorded("xpu-smi-flex170-detail.json"), **HOST)
    machine = detect(run, catalog=catalog)
    assert machine.accelerator is not None and machine.accelerator.id == "gpu-flex-170"
    assert machine.accelerator.usable_memory_bytes == 14942253056
    found = intel.probe(tools(xpu=recorded("xpu-smi-discovery.json")))
    assert found is not None and found.devices[0].name == "Intel(R) Graphics [0x020a]"


@pytest.mark.parametrize(("file", "gib", "cores", "chip"), [
    ("apple-displays-m3-max.json", 64, 40, "Apple M3 Max"), ("apple-displays-m1-pro.json", 32, 16, "Apple M1 Pro"),
])  # fmt: skip
def test_an_apple_chip_is_its_cores_and_its_memory(
    catalog: Catalog, file: str, gib: int, cores: int, chip: str
) -> None:
    run = tools(displays=recorded(file), memsize=str(gib * GIB), wired="49152", vm_stat=recorded("apple-vm-stat.txt"))
    machine = detect(run, catalog=catalog)
    assert machine.accelerator is not None
    assert machine.accelerator.name.startswith(chip) and machine.accelerator.gpu_cores == cores
    assert machine.accelerator.usable_memory_bytes == gib * GIB == machine.ram_bytes
    assert machine.free_memory_bytes == (65536 + 131072 + 1024 + 2048) * 16384
    assert "iogpu.wired_limit_mb is 49152: the GPU may use 48.0 GiB" in machine.assumptions


@pytest.mark.parametrize(
    ("vendor", "name", "mib", "identifier"),
    [
        ("nvidia", "NVIDIA GeForce RTX 3080", 12288, "rtx-3080-12gb"),
        ("nvidia", "NVIDIA GeForce RTX 3080", 10240, "rtx-3080"),
        ("nvidia", "NVIDIA GeForce RTX 4060 Ti", 8188, "rtx-4060-ti-8gb"),
        ("nvidia", "NVIDIA A100-SXM4-40GB", 40960, "a100-sxm4-40gb"),
        ("nvidia", "NVIDIA B300 SXM6 AC", 275040, "b300-sxm"),
        ("nvidia", "NVIDIA GH200 120GB", 97871, "gh200-96gb"),
        ("nvidia", "NVIDIA GH200 480GB", 97871, "gh200-96gb"),
        ("nvidia", "NVIDIA GH200 144G HBM3e", 146831, "gh200-144gb"),
        ("amd", "AMD Instinct MI250X / MI250", 65520, "mi250x"),
        ("amd", "AMD INSTINCT MI250X (MCM) OAM AC MBA", 65520, "mi250x"),
        ("amd", "AMD Instinct MI300X OAM", 196592, "mi300x"),
    ],
)
def test_names_that_drivers_give_are_the_part_with_that_memory(
    catalog: Catalog, vendor: str, name: str, mib: int, identifier: str
) -> None:
    assert find_accelerator(catalog, Device(vendor, name, mib * MIB), mib * MIB, None).id == identifier


def test_memory_that_no_variant_has_does_not_change_the_part(catalog: Catalog) -> None:
    odd = 40000 * MIB
    assert find_accelerator(catalog, Device("nvidia", "NVIDIA GeForce RTX 3080", odd), odd, None).id == "rtx-3080"


# -- processors and their limits ------------------------------------------------------------------


def test_a_catalogued_processor_is_found_in_its_full_name(catalog: Catalog) -> None:
    machine = detect(tools(**HOST), catalog=catalog)
    assert machine.cpu is not None and machine.cpu.id == "epyc-7763"
    assert (machine.sockets, machine.cpu.cores, machine.ram_bytes) == (2, 64, RAM)
    assert any("8 NUMA nodes" in note for note in machine.assumptions)
    nested = detect(tools(lscpu=recorded("lscpu-nested-8480.json"), meminfo=HOST["meminfo"]), catalog=catalog)
    assert nested.cpu is not None and (nested.cpu.id, nested.cpu.cores, nested.sockets) == ("xeon-8480", 56, 2)


def test_a_guest_that_hides_its_model_is_known_by_its_cpuid(catalog: Catalog) -> None:
    machine = detect(tools(lscpu=recorded("lscpu-kvm-epyc.json"), meminfo=HOST["meminfo"]), catalog=catalog)
    assert machine.cpu is not None and (machine.cpu.id, machine.cpu.cores) == ("epyc-7763", 2)
    assert machine.cpu.mem_bandwidth_bytes_per_s == 24e9
    notes = " ".join(machine.assumptions)
    assert "is read as AMD EPYC 7763 (Milan): the same family and model (CPUID 25/1)" in notes
    assert "peaks scaled from 64 to 2 cores" in notes and "2 cores draw about 24 of the socket's 205 GB/s" in notes


def lscpu(name: str, flags: str = "avx2", cores: int = 32, more: dict[str, str] | None = None) -> str:
    """What `lscpu -J` prints of such a processor (synthetic)."""
    fields = {"Architecture": "x86_64", "CPU(s)": str(cores), "Model name": name, "Flags": flags,
              "Core(s) per socket": str(cores), "Socket(s)": "1", **(more or {})}  # fmt: skip
    return json.dumps({"lscpu": [{"field": f"{key}:", "data": value} for key, value in fields.items()]})


@pytest.mark.parametrize(
    ("name", "flags", "more", "identifier"),
    [
        ("AMD EPYC Processor", "avx2", {}, "epyc-7763"),
        ("AMD EPYC 7R13 Processor", "avx2", {}, "epyc-7763"),
        ("AMD EPYC 7B12", "avx2", {}, "epyc-7763"),
        ("AMD EPYC 9B14", "avx2 avx512f avx512_bf16 avx512_vnni", {}, "epyc-9654"),
        ("AMD EPYC 9475F 48-Core Processor", "avx2 avx512f avx512_bf16 avx512_vnni", {}, "epyc-9755"),
        ("AMD EPYC-Genoa Processor", "avx2 avx512f avx512_bf16 avx512_vnni", {}, "epyc-9654"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "avx2 avx512f", {}, "xeon-8375c"),
        ("Intel(R) Xeon(R) Processor @ 2.00GHz", "avx2 avx512f", {"CPU family": "6", "Model": "143"}, "xeon-8488c"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "avx2 avx512f avx512_vnni", {}, "xeon-8375c"),
        ("Intel(R) Xeon(R) Platinum 8470", "avx2 avx512f avx512_bf16 avx512_vnni amx_bf16 amx_int8", {}, "xeon-8488c"),
        ("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.60GHz", "avx512f amx_bf16", {"Model": "207", "CPU family": "6"},
         "xeon-8592"),
        ("Intel(R) Xeon(R) 6972P", "avx2 avx512f amx_bf16 amx_int8", {}, "xeon-6980p"),
        ("Neoverse-N1", "asimd asimddp", {}, "altra-q80"),
        ("Neoverse-V1", "asimd sve bf16 i8mm", {}, "graviton3"),
    ],
)  # fmt: skip
def test_a_server_part_without_an_entry_is_read_as_the_nearest(
    catalog: Catalog, name: str, flags: str, more: dict[str, str], identifier: str
) -> None:
    machine = detect(tools(lscpu=lscpu(name, flags, more=more), meminfo=HOST["meminfo"]), catalog=catalog)
    assert machine.cpu is not None and machine.cpu.id == identifier
    assert any(name in note for note in machine.assumptions)


@pytest.mark.parametrize(
    ("name", "cores", "identifier"),
    [("Intel(R) Core(TM) i7-12700", 12, "generic-desktop"), ("QEMU Virtual CPU version 2.5+", 4, "generic-desktop"),
     ("Montage Jintide C5318Y", 24, "generic-server"), ("", 2, "generic-desktop")],
)  # fmt: skip
def test_a_processor_of_no_known_line_is_generic_and_says_so(
    catalog: Catalog, name: str, cores: int, identifier: str
) -> None:
    machine = detect(tools(lscpu=lscpu(name, cores=cores), meminfo=HOST["meminfo"]), catalog=catalog)
    assert machine.cpu is not None and machine.cpu.id == identifier
    assert any("is not catalogued; memory bandwidth assumed" in note for note in machine.assumptions)


@pytest.mark.parametrize("version", [1, 2])
def test_cgroup_limits_bound_memory_and_cores(catalog: Catalog, version: int) -> None:
    limits = (
        {"memory_max": f"{32 * GIB}\n", "cpu_max": "400000 100000\n"}
        if version == 2
        else {"v1_memory": f"{32 * GIB}\n", "v1_quota": "400000\n", "v1_period": "100000\n"}
    )
    machine = detect(tools(dockerenv="/.dockerenv\n", **HOST, **limits), catalog=catalog)
    assert machine.cpu is not None
    assert (machine.ram_bytes, machine.cpu.cores) == (32 * GIB, 2)
    assert machine.free_memory_bytes == 32 * GIB
    assert {
        "runs in a container",
        "a cgroup limits memory to 32.0 GiB",
        "a cgroup limits the CPU to 4 of 128 cores",
    } <= set(machine.assumptions)


@pytest.mark.parametrize(("memory", "cpu_max"), [("max\n", "max 100000\n"), ("9223372036854771712\n", "max")])
def test_no_limit_is_no_limit(memory: str, cpu_max: str) -> None:
    assert cpu.limits(tools(memory_max=memory, cpu_max=cpu_max)) == (None, None)


def test_wsl_is_said(catalog: Catalog) -> None:
    version = "Linux version 5.15.153.1-microsoft-standard-WSL2 (gcc 11.2.0)"
    machine = detect(tools(version=version, **HOST), catalog=catalog)
    assert any("WSL" in note for note in machine.assumptions)


# -- clusters -------------------------------------------------------------------------------------


def test_a_clusters_largest_pool_is_the_machine(catalog: Catalog) -> None:
    machine = detect(tools(kubectl=recorded("kubectl-nodes.json")), catalog=catalog, cluster=True)
    assert machine.accelerator is not None
    assert (machine.accelerator.id, machine.count, machine.devices_per_node) == ("a100-sxm4-80gb", 16, 8)
    assert machine.ram_bytes == 1056000 * MIB and machine.network is not None
    assert "driver 550.54.15" in machine.assumptions
    assert any("what pods already hold is not subtracted" in note for note in machine.assumptions)
    assert any("1 nodes of 1 × Tesla-T4" in note for note in machine.assumptions)


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(UsageError, match="kubectl get nodes does not answer"):
        inspect(tools(), cluster=True)
    with pytest.raises(UsageError, match="did not print a list of nodes"):
        kubernetes.parse_nodes("error: connection refused")


# -- nothing, nonsense ----------------------------------------------------------------------------


def test_a_machine_that_tells_nothing_is_asked_for_a_name(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="could be detected; name the machine with --gpus"):
        detect(tools(), catalog=catalog)


PARSERS: dict[str, Callable[[str], object]] = {
    "nvidia xml": nvidia.parse_xml, "nvidia csv": nvidia.parse_csv, "amd": amd.parse_amd_smi,
    "rocm": amd.parse_rocm_smi, "gaudi": intel.parse_gaudi, "xpu": lambda text: intel.parse_xpu(text, []),
    "apple": apple.parse_displays, "vm_stat": apple.parse_vm_stat,
    "topology": lambda text: nvidia.parse_topology(text, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "text",
    ["", "N/A", "{}", "[]", "null", "[1, 2]", '{"gpu_data": 7}', '{"device_list": [7]}', '{"card0": []}', "<a/>",
     "[" * 50_000, "No devices were found", '{"SPDisplaysDataType": [{"_name": 3}]}'],
)  # fmt: skip
def test_nonsense_is_nothing(name: str, text: str) -> None:
    assert not PARSERS[name](text)


def test_commands_that_are_missing_or_fail_are_nothing() -> None:
    assert run_command(("no-such-command-here",)) is None
    assert run_command(("false",)) is None
    assert run_command(("echo", "here")) == "here\n"


def test_gpus_detect_means_this_machine(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tools(nvidia=recorded("nvidia-a10g.xml"), **HOST)
    monkeypatch.setattr("planner.sources.detect.machine.run_command", run)
    machine = resolve_machine(catalog, "detect")
    assert machine.accelerator is not None and machine.accelerator.id == "a10g"
    assert resolve_machine(catalog, "detect", "48GiB").ram_bytes == 48 * GIB
