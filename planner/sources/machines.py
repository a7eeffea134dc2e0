"""What `gpus` means: `2xA100`, `1xM3-Max-64GB`, `cpu:epyc-9654`, `aws:p5.48xlarge` → a Machine.

Knows counts, nodes, links, host memory and list prices. Device names are `hardware.py`'s; whether a
model fits is nobody's here.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from planner.errors import PlannerError, UnknownNameError, UsageError
from planner.sources.hardware import HardwareCatalog, checked_text, resolve_accelerator, typed_name
from planner.spec.hardware import Machine
from planner.units import GIB, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.spec.hardware import Accelerator, Instance, Interconnect

__all__ = ["recent", "resolve_machine"]

MAX_DEVICES: Final = 1024
MAX_SOCKETS: Final = 8
MAX_RAM_BYTES: Final = 64 << 40
RAM_PER_CORE_BYTES: Final = 4 * GIB
"""Host memory assumed for a CPU machine of which only the CPU is known."""
DEFAULT_CPU: Final = "generic-desktop"
DETECT: Final = ("detect", "detect:kubernetes")
"""Names that mean what is here, or what a cluster's nodes offer."""
STALE_PRICE: Final = timedelta(days=365)
"""A list price this much older than the newest one is used only when there is no other."""

_WHAT: Final = "the machine"
_COUNT_FIRST = re.compile(r"(?P<count>[+-]?\d+(?:\.\d+)?) *[xX] *(?P<rest>\S.*)")
_COUNT_LAST = re.compile(r"(?P<rest>.*\S) *(?: [xX]|:) *(?P<count>\d+)")
_MIXED = re.compile(r"(?<=[A-Za-z0-9]) *[+,] *(?=\d+ *[xX] *\S)")
_CLOUD = re.compile(r"(?P<provider>[A-Za-z][A-Za-z0-9-]*):(?P<instance>\S.*)")


def resolve_machine(catalog: HardwareCatalog, gpus: str, ram: str | None = None) -> Machine:
    """The machine that `gpus` describes; `ram` (e.g. "48GiB") is the host memory of one node.

    Raises UsageError (one line) for what cannot be a machine, UnknownNameError for unknown names.
    """
    text = checked_text(gpus.replace("×", "x"), _WHAT)
    ram_bytes = _parse_ram(ram)
    if text.casefold() in DETECT:
        return _detected(catalog, text.casefold(), ram_bytes)
    if whole := _whole_name(catalog, text):
        return _of_accelerators(catalog, whole, 1, ram_bytes)
    _refuse_mixed(catalog, text)
    count, name = _split_count(catalog, text)
    kind, _, rest = name.partition(":")
    if kind.casefold() == "cpu":
        return _of_cpus(catalog, rest.strip(), count, ram_bytes)
    if cloud := _CLOUD.fullmatch(name):
        return _of_instances(catalog, cloud["provider"].casefold(), cloud["instance"], count, ram_bytes)
    return _of_accelerators(catalog, _resolved(catalog, name, ram_bytes), count, ram_bytes)


def _detected(catalog: HardwareCatalog, what: str, ram_bytes: int | None) -> Machine:
    from planner.sources.detect import detect

    machine = detect(catalog=catalog, cluster=what != "detect")
    return machine if ram_bytes is None else machine.model_copy(update={"ram_bytes": ram_bytes})


# -- reading --------------------------------------------------------------------------------------


def _whole_name(catalog: HardwareCatalog, text: str) -> tuple[Accelerator, str | None] | None:
    """The accelerator whose name is all of `text` ("7900 XTX" is no 7900 times "TX")."""
    if not _COUNT_FIRST.fullmatch(text):
        return None
    try:
        return resolve_accelerator(catalog, text)
    except UnknownNameError:
        return None


def _split_count(catalog: HardwareCatalog, text: str) -> tuple[int, str]:
    """`2xA100` → (2, "A100"); also `A100 x2` and `A100:2`; without a count, one."""
    if match := _COUNT_FIRST.fullmatch(text):
        return _checked_count(match["count"], text), match["rest"]
    match = _COUNT_LAST.fullmatch(text)
    if match and not _CLOUD.fullmatch(match["rest"]) and match["rest"].casefold() != "cpu":
        try:
            resolve_accelerator(catalog, match["rest"])
        except UnknownNameError:
            return 1, text
        return _checked_count(match["count"], text), match["rest"]
    return 1, text


def _checked_count(count: str, text: str) -> int:
    if "." in count or count.startswith("-") or not 1 <= int(count) <= MAX_DEVICES:
        raise UsageError(f"{text!r}: the count must be a whole number from 1 to {MAX_DEVICES}, not {count}")
    return int(count)


def _refuse_mixed(catalog: HardwareCatalog, text: str) -> None:
    """UsageError when `text` asks for several kinds of devices at once."""
    parts = _MIXED.split(text) if _MIXED.search(text) else re.split("[+,]", text)
    if len(parts) < 2 or not all(part.strip() for part in parts):
        return
    if not _MIXED.search(text):
        try:
            for part in parts:
                resolve_accelerator(catalog, _COUNT_FIRST.sub(r"\g<rest>", part.strip()))
        except UsageError:
            return
    raise UsageError(f"{text!r} mixes accelerators; a deployment runs on one kind: plan each part by itself")


def _parse_ram(ram: str | None) -> int | None:
    if ram is None:
        return None
    if len(ram) > 32:
        raise UsageError(f"--ram has {len(ram)} characters; write an amount, e.g. 48GiB")
    n_bytes = parse_bytes(ram)
    if not 0 < n_bytes <= MAX_RAM_BYTES:
        raise UsageError(f"--ram {ram!r} is out of range; more than 0 and at most {MAX_RAM_BYTES >> 40}TiB")
    return n_bytes


def _resolved(catalog: HardwareCatalog, name: str, ram_bytes: int | None) -> tuple[Accelerator, str | None]:
    """The accelerator; for a chip of unified memory named without a size, the size that `ram` says."""
    try:
        found = resolve_accelerator(catalog, name)
    except UnknownNameError as error:
        hint = "see `planner hardware list`; also cpu, cpu:<name> and <provider>:<instance>"
        raise UnknownNameError("accelerator", name, error.suggestions, hint) from None
    accelerator, assumption = found
    if ram_bytes is None or not accelerator.memory_options_bytes or "no size was given" not in (assumption or ""):
        return found
    gigabytes = round(ram_bytes / (GIB if ram_bytes % GIB == 0 else 10**9))
    return resolve_accelerator(catalog, f"{name}-{gigabytes}GB")


# -- building -------------------------------------------------------------------------------------


def _of_accelerators(
    catalog: HardwareCatalog, resolved: tuple[Accelerator, str | None], count: int, ram_bytes: int | None
) -> Machine:
    accelerator, assumption = resolved
    said = [assumption] if assumption else []
    per_node = _per_node(accelerator, count)
    if per_node < count:
        said.append(f"{count} devices read as {count // per_node} nodes of {per_node}")
    if accelerator.unified_memory and accelerator.device_class != "datacenter":
        ram_bytes = _unified_ram(accelerator, ram_bytes)
    price, priced_as = _list_price(catalog, accelerator, count)
    return Machine(
        label=f"{count}x{typed_name(accelerator)}",
        accelerator=accelerator,
        count=count,
        devices_per_node=per_node,
        **_links(catalog, accelerator, count, per_node, said),
        ram_bytes=ram_bytes,
        usd_per_hour=price,
        assumptions=(*said, *priced_as),
    )


def _of_cpus(catalog: HardwareCatalog, name: str, sockets: int, ram_bytes: int | None) -> Machine:
    if sockets > MAX_SOCKETS:
        raise UsageError(f"{sockets}xcpu: at most {MAX_SOCKETS} sockets in one machine")
    try:
        cpu = catalog.cpu(name or DEFAULT_CPU)
    except UnknownNameError:
        known = catalog.cpus()
        names = [n for c in known for n in (c.id, *c.aliases)]
        raise UnknownNameError("CPU", name, names, "known: " + ", ".join(c.id for c in known)) from None
    said = []
    if not name:
        said.append(f"cpu read as {cpu.name}; name yours with cpu:<name>, or a server socket with cpu:generic-server")
    if ram_bytes is None:
        ram_bytes = sockets * cpu.cores * RAM_PER_CORE_BYTES
        said.append(f"{ram_bytes // GIB} GiB of memory assumed (4 GiB per core); say yours with --ram")
    return Machine(
        label=f"{sockets}xcpu:{cpu.id}" if sockets > 1 else f"cpu:{cpu.id}",
        accelerator=None,
        count=1,
        devices_per_node=1,
        cpu=cpu,
        sockets=sockets,
        ram_bytes=ram_bytes,
        assumptions=tuple(said),
    )


def _of_instances(catalog: HardwareCatalog, provider: str, name: str, nodes: int, ram_bytes: int | None) -> Machine:
    instance = _instance(catalog, provider, name)
    if instance.cpu is not None:
        return _of_cpu_instance(catalog, instance, nodes, ram_bytes)
    if instance.accelerator is None or not instance.accelerator_count:
        raise UsageError(f"{provider}:{instance.id} cannot be planned for: {_unplannable(instance)}")
    accelerator, _ = resolve_accelerator(catalog, instance.accelerator)
    per_node = instance.accelerator_count
    if per_node * nodes > MAX_DEVICES:
        raise UsageError(f"{nodes}x{provider}:{instance.id} has {per_node * nodes} devices; at most {MAX_DEVICES}")
    said: list[str] = []
    if instance.accelerator_share < 1.0:
        accelerator = _shared(accelerator, instance.accelerator_share, said)
    if instance.usd_per_hour is not None:
        said.append(f"price: {_priced(instance)}")
    return Machine(
        label=f"{nodes}x{provider}:{instance.id}" if nodes > 1 else f"{provider}:{instance.id}",
        accelerator=accelerator,
        count=per_node * nodes,
        devices_per_node=per_node,
        **_links(catalog, accelerator, per_node * nodes, per_node, said),
        ram_bytes=instance.ram_bytes if ram_bytes is None else ram_bytes,
        instance=instance,
        usd_per_hour=None if instance.usd_per_hour is None else round(instance.usd_per_hour * nodes, 6),
        assumptions=tuple(said),
    )


def _shared(accelerator: Accelerator, share: float, said: list[str]) -> Accelerator:
    """The virtual GPU that is `share` of `accelerator`; its driver names it otherwise than the whole one."""
    from planner.sources.shares import share_of

    said.append(
        f"a virtual GPU is planned as {share:.3g} of {accelerator.name}: of its memory (spec), of its bandwidth and of"
        " its peaks (derived: it may run faster while others idle); it needs the provider's vGPU driver"
    )
    memory_bytes = int(accelerator.usable_memory_bytes * share)
    virtual = share_of(accelerator, share, share, memory_bytes, "virtual GPU")
    return virtual.model_copy(update={"kubernetes_product_label": None})


def _of_cpu_instance(catalog: HardwareCatalog, instance: Instance, nodes: int, ram_bytes: int | None) -> Machine:
    from planner.sources.shares import with_cores

    label = f"{instance.provider}:{instance.id}"
    if nodes > 1:
        raise UsageError(f"{nodes}x{label}: a plan without accelerators is for one host; ask for {label}")
    assert instance.cpu is not None
    cpu = catalog.cpu(instance.cpu)
    cores = instance.cores or cpu.cores
    sockets = -(-cores // cpu.cores)
    part, scaled = with_cores(cpu, cores // sockets)
    said = [f"{instance.vcpu or cores} vCPUs are {cores} cores of {sockets} x {cpu.name}", *scaled]
    if instance.provenance.note:
        said.append(instance.provenance.note)
    if instance.usd_per_hour is not None:
        said.append(f"price: {_priced(instance)}")
    return Machine(
        label=label,
        accelerator=None,
        count=1,
        devices_per_node=1,
        cpu=part,
        sockets=sockets,
        ram_bytes=instance.ram_bytes if ram_bytes is None else ram_bytes,
        instance=instance,
        usd_per_hour=instance.usd_per_hour,
        assumptions=tuple(said),
    )


def _unplannable(instance: Instance) -> str:
    if instance.refused_because:
        return instance.refused_because
    label = instance.accelerator_label
    if instance.accelerator_count:
        return f"its accelerator ({label}) is none that an engine planned here runs on"
    return f"its price list does not say how many whole GPUs it has ({label}); name them with --gpus, e.g. 1xL4"


def _instance(catalog: HardwareCatalog, provider: str, name: str) -> Instance:
    try:
        return catalog.instance(provider, name)
    except UnknownNameError:
        known = catalog.instances()
    providers = sorted({i.provider for i in known})
    if provider not in providers:
        raise UnknownNameError("cloud provider", provider, providers, "known: " + ", ".join(providers))
    names = [i.id for i in known if i.provider == provider]
    raise UnknownNameError(f"{provider} instance", name, names, f"{len(names)} are catalogued, e.g. {names[0]}")


def _per_node(accelerator: Accelerator, count: int) -> int:
    """Devices in each node: as many as one takes, all nodes alike."""
    most = accelerator.devices_per_node
    if count <= most:
        return count
    per_node = next(n for n in range(most, 0, -1) if count % n == 0)
    if per_node == 1 < most:
        nearest = f"{count // most * most} or {(count // most + 1) * most}"
        raise UsageError(
            f"{count}x{typed_name(accelerator)} cannot be spread evenly over nodes of {most}; e.g. {nearest}"
        )
    return per_node


def _links(
    catalog: HardwareCatalog, accelerator: Accelerator, count: int, per_node: int, said: list[str]
) -> dict[str, Interconnect | None]:
    """Links by Machine field; a bridge too short for the node is left out and that is said."""
    link = catalog.interconnect(accelerator.link) if accelerator.link else None
    if link is not None and link.max_devices is not None and per_node > link.max_devices:
        said.append(f"{link.name} joins {link.max_devices} devices; planned over PCIe")
        link = None
    network = None
    if count > per_node and accelerator.network:
        network = catalog.interconnect(accelerator.network)
        said.append(f"{network.name} assumed between nodes")
    pcie = catalog.interconnect(accelerator.pcie) if accelerator.pcie else None
    return {"link": link, "pcie": pcie, "network": network}


def _unified_ram(accelerator: Accelerator, ram_bytes: int | None) -> int:
    """The one memory of the chip; UsageError when `ram` says another size (8 % apart or more)."""
    if ram_bytes is not None and abs(ram_bytes / accelerator.memory_bytes - 1) > 0.08:
        raise UsageError(
            f"{typed_name(accelerator)} has one memory of {accelerator.memory_bytes // GIB} GiB for CPU and GPU;"
            f" --ram says {ram_bytes / GIB:.0f} GiB"
        )
    return accelerator.usable_memory_bytes


# -- prices ---------------------------------------------------------------------------------------


def recent(offers: Sequence[Instance]) -> list[Instance]:
    """Those of the priced `offers` that are listed at most a year before the newest one."""
    newest = max((_day(i) for i in offers), default=date.min)
    return [i for i in offers if newest - _day(i) < STALE_PRICE]


def _list_price(catalog: HardwareCatalog, accelerator: Accelerator, count: int) -> tuple[float | None, tuple[str, ...]]:
    """Cheapest listed on-demand price of `count` such devices in USD per hour, and where it is listed."""
    whole = [i for i in catalog.instances_with(accelerator.id) if i.accelerator_share == 1.0 and i.accelerator_count]
    offers = [
        ((i.usd_per_hour or 0.0) / i.accelerator_count, i.provider, i.id, i)
        for i in recent([i for i in whole if i.usd_per_hour])
    ]
    if not offers:
        return None, ()
    per_device, _, _, instance = min(offers)
    return round(per_device * count, 6), (f"price: {per_device:.2f} USD/h per device as {_priced(instance)}",)


def _priced(instance: Instance) -> str:
    place = f" in {instance.region}" if instance.region else ""
    return (
        f"{instance.provider}:{instance.id}{place}, on demand {instance.usd_per_hour:.2f} USD/h,"
        f" listed {instance.provenance.date}"
    )


def _day(instance: Instance) -> date:
    try:
        return date.fromisoformat(instance.provenance.date)
    except ValueError as error:
        raise PlannerError(f"{instance.provider}/{instance.id}: {instance.provenance.date!r} is no ISO date") from error
