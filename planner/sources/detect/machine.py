"""Detected facts into a Machine: devices found in the catalog by name, memory as reported here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from planner.errors import UnknownNameError, UsageError
from planner.sources.detect import amd, apple, cpu, intel, kubernetes, nvidia
from planner.sources.detect.found import Device, Found, HostCpu, Run, run_command
from planner.sources.detect.processors import cpu_machine, usable_ram
from planner.sources.index import fold
from planner.sources.shares import share_of
from planner.units import GIB, gib

if TYPE_CHECKING:
    from planner.sources.hardware import HardwareCatalog
    from planner.spec.hardware import Accelerator, Machine

_MEMORY_SIZES_GIB: Final = (4, 8, 16, 32, 64, 128)
"""Sizes that Jetson modules are sold with."""
_TOLERANCE: Final = 0.12
"""Reported memory may differ this much from the catalog's before another variant is looked for."""
_NOISE: Final = re.compile(r"\((?:R|TM|C)\)|\b(?:corporation|graphics|series|processor|cpu)\b", re.IGNORECASE)

_ODD: Final = re.compile(r"[^A-Za-z0-9 ._+,:()/\-]+")
"""What no catalogued name is written with."""


@dataclass(frozen=True, slots=True)
class Detected:
    """Everything that was found out; `pools` only for a cluster."""

    found: Found | None
    cpu: HostCpu | None
    pools: tuple[kubernetes.NodePool, ...] = ()


def inspect(run: Run | None = None, *, cluster: bool = False) -> Detected:
    """Ask this machine's tools (or, for a `cluster`, kubectl). Raises UsageError when kubectl does not answer."""
    ask = run or run_command
    if cluster:
        return Detected(None, None, kubernetes.pools(ask))
    found: Found | None = None
    for probe in (nvidia.probe, amd.probe, intel.probe, apple.probe):
        found = probe(ask)
        if found is not None and found.devices:
            break
    return Detected(found, cpu.probe(ask))


def detect(run: Run | None = None, *, catalog: HardwareCatalog | None = None, cluster: bool = False) -> Machine:
    """The Machine that is here (or the cluster's largest group of like nodes).

    Raises UsageError when nothing was found that can be planned for, UnknownNameError for a device that the
    catalog does not have.
    """
    if catalog is None:
        from planner.sources.catalog import load

        catalog = load()
    return machine_of(catalog, inspect(run, cluster=cluster))


def machine_of(catalog: HardwareCatalog, detected: Detected) -> Machine:
    """As `detect`, from facts."""
    if detected.pools:
        return _cluster(catalog, detected.pools)
    if detected.found is not None and detected.found.devices:
        return _accelerated(catalog, detected.found, detected.cpu)
    if detected.cpu is None:
        raise UsageError("no accelerator and no processor could be detected; name the machine with --gpus")
    return cpu_machine(catalog, detected.cpu)


# -- accelerators ---------------------------------------------------------------------------------


def _accelerated(catalog: HardwareCatalog, found: Found, host: HostCpu | None) -> Machine:
    from planner.sources.hardware import typed_name
    from planner.sources.machines import resolve_machine

    groups: dict[tuple[str, float, int | None, str], list[Device]] = {}
    for device in found.devices:
        groups.setdefault((device.name, device.share, device.multiprocessors, device.profile), []).append(device)
    ranked = sorted(groups.values(), key=lambda ds: (-sum(d.total_bytes or 0 for d in ds), ds[0].name))
    devices, others = ranked[0], ranked[1:]
    total = min((d.total_bytes for d in devices if d.total_bytes), default=None)
    ram = usable_ram(host)
    accelerator = find_accelerator(catalog, devices[0], total if devices[0].share == 1.0 else None, ram)
    cards = len(devices) if devices[0].share == 1.0 else len({d.card for d in devices})
    machine = resolve_machine(catalog, f"{cards}x{typed_name(accelerator)}")
    size = f" MIG {devices[0].profile}".rstrip() if devices[0].share < 1.0 else ""
    said = [f"detected: {len(devices)} × {devices[0].name}{size}", *found.notes]
    if found.driver:
        said.append(f"driver {found.driver}" + (f", CUDA {found.runtime}" if found.runtime else ""))
    said += [f"also here, not planned for: {len(ds)} × {ds[0].name}" for ds in others]
    changes: dict[str, object] = {}
    if devices[0].share < 1.0:
        share, units = devices[0].share, devices[0].multiprocessors
        peaks = units / accelerator.multiprocessors if units and accelerator.multiprocessors else share
        memory = total or int(accelerator.usable_memory_bytes * share)
        accelerator = share_of(accelerator, share, peaks, memory, "MIG")
        changes |= {"link": None, "count": len(devices)}
        changes["slices"] = tuple(f"{d.card}:{d.place}" for d in devices)
        if machine.usd_per_hour is not None:
            changes["usd_per_hour"] = round(machine.usd_per_hour / cards * share * len(devices), 6)
            said.append(f"price: {share:g} of a device's for each slice; a whole one is what is rented")
        resource = f"nvidia.com/mig-{devices[0].profile.replace('+', '.')}" if devices[0].profile else None
        accelerator = accelerator.model_copy(update={"kubernetes_resource": resource})
        said.append(
            f"a slice is planned as {share:g} of the device's bandwidth and {peaks:.3g} of its peaks (derived from its"
            f" memory{f' and its {units} multiprocessors' if peaks != share else ''})"
        )
    elif total is not None and not accelerator.unified_memory:
        accelerator = accelerator.model_copy(update={"usable_memory_bytes": total})
    if found.linked is False and machine.link is not None:
        changes |= {"link": None}
        said.append(f"{machine.link.name} joins not all devices here; planned over PCIe")
    free = min((d.free_bytes for d in devices if d.free_bytes is not None), default=None)
    if free is not None and total and free < 0.95 * total:
        said.append(f"only {gib(free)} of {gib(total)} are free on one device: something else runs there")
    said += [*(host.notes if host else ()), *machine.assumptions]
    return machine.model_copy(
        update={
            **changes,
            "accelerator": accelerator,
            "devices_per_node": len(devices),
            "network": None,
            "ram_bytes": machine.ram_bytes if accelerator.unified_memory and machine.ram_bytes else ram,
            "free_memory_bytes": free,
            "assumptions": tuple(dict.fromkeys(said)),
        }
    )


def find_accelerator(
    catalog: HardwareCatalog, device: Device, total_bytes: int | None, ram_bytes: int | None
) -> Accelerator:
    """The catalog's accelerator of `device`, the variant whose memory is nearest to what is reported.

    Raises UnknownNameError with the nearest names when the catalog has none.
    """
    from planner.sources.hardware import resolve_accelerator

    if (labelled := _labelled(catalog, device.name)) is not None and total_bytes is None:
        return labelled
    size = total_bytes if total_bytes is not None else ram_bytes
    for spelled in _spellings(device, size):
        name = _ODD.sub(" ", spelled).strip()
        try:
            accelerator, _ = resolve_accelerator(catalog, name)
        except UnknownNameError:
            continue
        except UsageError:
            if spelled == device.name:
                raise
            continue
        if total_bytes is None or accelerator.memory_options_bytes:
            return accelerator
        off = abs(accelerator.usable_memory_bytes / total_bytes - 1)
        if off <= _TOLERANCE:
            return accelerator
        return _nearest_variant(catalog, accelerator, total_bytes)
    if labelled is not None:
        return labelled
    wanted = fold(_NOISE.sub(" ", device.name))
    begun = [
        a
        for a in catalog.accelerators()
        if a.plannable and any(fold(n).startswith(wanted) for n in (a.id, a.name, *a.aliases))
    ]
    if begun and total_bytes:
        return min(begun, key=lambda a: abs(a.usable_memory_bytes - total_bytes))
    if len(begun) == 1:
        return begun[0]
    names = [n for a in catalog.accelerators() if a.plannable for n in (a.name, a.id)]
    raise UnknownNameError("accelerator", device.name, names, "name the nearest one with --gpus")


def _spellings(device: Device, size_bytes: int | None) -> Iterator[str]:
    """Ways in which catalogs write the tool's name."""
    plain = " ".join(_NOISE.sub(" ", device.name).split())
    gigabytes = round(size_bytes / GIB) if size_bytes else None
    if device.vendor == "apple":
        base = re.sub(r"^Apple ", "", plain)
        yield f"{base}-{gigabytes}GB"
        yield f"{re.sub(r' *[(].*', '', base)}-{gigabytes}GB"
    if device.name.startswith("Jetson") and size_bytes:
        module = next((n for n in _MEMORY_SIZES_GIB if size_bytes <= n * GIB), _MEMORY_SIZES_GIB[-1])
        yield f"{device.name} {module}GB"
    yield device.name
    yield plain
    if device.vendor == "amd" and (match := re.search(r"\bMI\d{2,3}[A-Z]?\b", device.name)):
        yield f"Instinct {match[0]}"
    if device.vendor == "amd" and (match := re.search(r"\[(.+)\]", device.name)):
        for part in match[1].split("/"):
            yield part.strip()
            yield f"Radeon RX {part.strip()}"
    yield re.sub(r"^Intel |Data Center GPU |GPU ", "", plain).strip()


def _nearest_variant(catalog: HardwareCatalog, accelerator: Accelerator, total_bytes: int) -> Accelerator:
    """The same part with the memory that the driver reports; else the one that was named."""
    stem = re.sub(r"-\d+gb$", "", accelerator.id)
    siblings = [a for a in catalog.accelerators() if a.plannable and (a.id == stem or a.id.startswith(f"{stem}-"))]
    best = min(siblings, key=lambda a: abs(a.usable_memory_bytes - total_bytes), default=accelerator)
    return best if abs(best.usable_memory_bytes / total_bytes - 1) <= _TOLERANCE else accelerator


# -- clusters -------------------------------------------------------------------------------------


def _cluster(catalog: HardwareCatalog, pools: tuple[kubernetes.NodePool, ...]) -> Machine:
    from planner.sources.hardware import typed_name
    from planner.sources.machines import resolve_machine

    pool = pools[0]
    if not pool.product:
        raise UsageError(f"nodes offer {pool.resource} without a product label; install the vendor's feature discovery")
    accelerator = _labelled(catalog, pool.product) or find_accelerator(
        catalog, Device("nvidia", pool.product.replace("_", " "), None), None, None
    )
    count = pool.per_node * pool.nodes
    machine = resolve_machine(catalog, f"{pool.per_node}x{typed_name(accelerator)}")
    said = [
        f"detected: {pool.nodes} nodes of {pool.per_node} × {pool.product}; what pods already hold is not subtracted"
    ]
    said += pool.notes
    said += [
        f"also there, not planned for: {p.nodes} nodes of {p.per_node} × {p.product or p.resource}" for p in pools[1:]
    ]
    network = catalog.interconnect(accelerator.network) if pool.nodes > 1 and accelerator.network else None
    if network is not None:
        said.append(f"{network.name} assumed between nodes")
    price = machine.usd_per_hour
    return machine.model_copy(
        update={
            "label": f"{count}x{typed_name(accelerator)}",
            "count": count,
            "devices_per_node": pool.per_node,
            "network": network,
            "ram_bytes": pool.ram_bytes,
            "usd_per_hour": None if price is None else round(price * pool.nodes, 6),
            "assumptions": tuple(dict.fromkeys([*said, *machine.assumptions])),
        }
    )


def _labelled(catalog: HardwareCatalog, product: str) -> Accelerator | None:
    folded = fold(product)
    return next((a for a in catalog.accelerators() if fold(a.kubernetes_product_label or "") == folded), None)
