"""Accelerators, CPUs, links and the machine they make up. SI units; FLOP/s are dense peaks."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Provenance, Spec
from planner.spec.local import LocalCorrection

Vendor = Literal["nvidia", "amd", "intel", "apple", "google", "aws"]
Platform = Literal["cuda", "rocm", "gaudi", "xpu", "metal", "cpu", "tpu", "neuron"]
DeviceClass = Literal["datacenter", "workstation", "consumer", "embedded", "apple", "integrated", "cpu"]


class Accelerator(Spec):
    """One accelerator as its driver reports it.

    `usable_memory_bytes` is what the driver (or Metal, CUDA runtime) reports as total;
    `memory_bytes` is the label. Peaks are dense FLOP/s per device, None where the format has no
    hardware path or nobody published a figure. `memory_options_bytes` lists the sizes a chip with
    unified memory is sold with (Apple, Strix Halo); for those `memory_bytes` is the largest.
    """

    id: str
    name: str
    vendor: Vendor
    platform: Platform
    device_class: DeviceClass
    architecture: str
    compute_capability: str | None = None
    gfx: str | None = None
    memory_bytes: int
    usable_memory_bytes: int
    memory_options_bytes: tuple[int, ...] = ()
    unified_memory: bool = False
    mem_bandwidth_bytes_per_s: float
    fp32_flops_per_s: float | None = None
    tf32_flops_per_s: float | None = None
    fp16_flops_per_s: float | None = None
    bf16_flops_per_s: float | None = None
    fp8_flops_per_s: float | None = None
    int8_ops_per_s: float | None = None
    fp4_flops_per_s: float | None = None
    gpu_cores: int | None = None
    cpu_cores: int | None = None
    link: str | None = None
    """Device-to-device link, a key of interconnects.yaml; None means through the host's PCIe."""
    pcie: str | None = None
    """Host link, a key of interconnects.yaml."""
    network: str | None = None
    """Usual link between nodes, a key of interconnects.yaml."""
    devices_per_node: int = 8
    tdp_w: float | None = None
    release_year: int | None = None
    kubernetes_resource: str | None = None
    """Extended resource name, e.g. nvidia.com/gpu."""
    multiprocessors: int | None = None
    """Streaming multiprocessors, of devices that run as MIG slices: a slice has some of them."""
    part: Literal["", "MIG", "virtual GPU"] = ""
    """What is planned for is a slice of the device, and how it is cut; empty: all of it."""
    kubernetes_product_label: str | None = None
    """Value of the vendor's product label on a node, e.g. NVIDIA-A100-SXM4-80GB."""
    aliases: tuple[str, ...] = ()
    assumed_aliases: dict[str, str] = {}
    """Those of `aliases` that could mean another variant too → what is said when one is read so."""
    plannable: bool = True
    refused_because: str = ""
    provenance: Provenance
    field_provenance: dict[str, Provenance] = {}

    @property
    def sm(self) -> int | None:
        """Compute capability as an integer (8.0 → 80), None when not NVIDIA."""
        if self.compute_capability is None:
            return None
        major, minor = self.compute_capability.split(".")
        return int(major) * 10 + int(minor)

    @property
    def is_slice(self) -> bool:
        """True of a part of a device: a process sees one, and none reaches another's memory, so no model is split."""
        return bool(self.part)

    @property
    def lacks_bf16(self) -> bool:
        """True of NVIDIA GPUs before Ampere (Volta, Turing): 16-bit weights run in float16 there."""
        return self.sm is not None and self.sm < 80


class Cpu(Spec):
    """One CPU socket. `isa` names what kernels may use (avx2, avx512, amx, neon, sve2 …)."""

    id: str
    name: str
    vendor: str
    cores: int
    memory_channels: int | None = None
    memory_speed_mt_s: int | None = None
    mem_bandwidth_bytes_per_s: float
    isa: tuple[str, ...]
    fp32_flops_per_s: float
    bf16_flops_per_s: float | None = None
    int8_ops_per_s: float | None = None
    architecture: Literal["x86_64", "aarch64"] = "x86_64"
    release_year: int | None = None
    aliases: tuple[str, ...] = ()
    cpuid: tuple[str, ...] = ()
    """Family and model as x86's CPUID numbers them in decimal, e.g. "25/1": shared by a generation's parts."""
    provenance: Provenance
    field_provenance: dict[str, Provenance] = {}


class Interconnect(Spec):
    """A link, per device: unidirectional bytes/s into or out of one device, and latency."""

    id: str
    name: str
    bandwidth_bytes_per_s: float
    latency_s: float
    max_devices: int | None = None
    """How many devices it can join (a bridge joins two); None: all of a node."""
    reduces: bool = False
    """True when its switch adds up what passes through it (NVLink SHARP)."""
    provenance: Provenance


class Family(Spec):
    """Accelerators in order: each field of `grows` must rise from one of `members` to the next."""

    id: str
    grows: tuple[str, ...]
    members: tuple[str, ...]
    provenance: Provenance


class Instance(Spec):
    """One rentable machine. Price is on-demand USD per hour, None where nobody publishes one."""

    provider: str
    id: str
    accelerator: str | None = None
    """Id of an Accelerator of this catalog, None for a CPU instance or one we cannot plan for."""
    accelerator_label: str = ""
    accelerator_count: int = 0
    accelerator_share: float = 1.0
    """Of one device, where what is rented is a part of it (a virtual GPU)."""
    cpu: str | None = None
    """Id of a Cpu of this catalog, of an instance without accelerators."""
    cores: int | None = None
    """Physical cores behind the vCPUs, of an instance with `cpu`: half as many where a core runs two threads."""
    vcpu: int | None = None
    ram_bytes: int | None = None
    usd_per_hour: float | None = None
    region: str | None = None
    refused_because: str = ""
    """What keeps it from being planned for, where its accelerator alone does not say."""
    provenance: Provenance


class Machine(Spec):
    """What the request's `gpus` resolved to.

    `count` accelerators in all, `devices_per_node` in each host. `accelerator` is None for a
    CPU-only machine. `ram_bytes` is the host memory of one node. `assumptions` says what was
    ambiguous and how it was read.
    """

    label: str
    """As the user would type it to get exactly this machine, e.g. 2xA100-SXM4-80GB."""
    accelerator: Accelerator | None
    count: int
    devices_per_node: int
    link: Interconnect | None = None
    pcie: Interconnect | None = None
    slices: tuple[str, ...] = ()
    """Of a device in slices each one's name in a container runtime, CARD:PLACE; empty where devices are whole."""
    network: Interconnect | None = None
    """Between nodes; only when count > devices_per_node."""
    cpu: Cpu | None = None
    sockets: int = 1
    ram_bytes: int | None = None
    instance: Instance | None = None
    usd_per_hour: float | None = None
    """Of the whole machine (all nodes)."""
    free_memory_bytes: int | None = None
    """Least free memory on any one device when it was looked at; None when nobody looked."""
    assumptions: tuple[str, ...] = ()
    corrections: tuple[LocalCorrection, ...] = ()
    """What this user measured on the device (`planner calibrate`)."""

    @property
    def device_id(self) -> str:
        """Catalog id of the accelerator or CPU; `cpu` for one that is not catalogued."""
        return self.accelerator.id if self.accelerator else self.cpu.id if self.cpu else "cpu"

    @property
    def platform(self) -> Platform:
        """The software platform that an engine needs an image or build for."""
        return self.accelerator.platform if self.accelerator else "cpu"

    @property
    def device_class(self) -> DeviceClass:
        """Class of the device that runs the model."""
        return self.accelerator.device_class if self.accelerator else "cpu"
