"""A host's processor as the catalog's entry that it is, or is nearest to: by name, CPUID, generation, instructions.

Clouds and hypervisors hide a server's model number ("AMD EPYC Processor", "Xeon CPU @ 2.20GHz") but mostly not its
family and model. Knows how vendors number their server parts; peaks and bandwidth are the catalog's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from planner.sources.index import fold
from planner.sources.shares import with_cores

if TYPE_CHECKING:
    from planner.sources.detect.found import HostCpu
    from planner.sources.hardware import HardwareCatalog
    from planner.spec.hardware import Cpu, Machine

_NOISE: Final = re.compile(r"\((?:R|TM|C)\)|\b(?:corporation|processor|cpu)\b", re.IGNORECASE)
_SERVERS: Final = ("epyc", "xeon", "neoverse", "graviton", "altra", "ampere", "grace")
_DESKTOPS: Final = ("core i", "core ultra", "ryzen", "pentium", "celeron")


def usable_ram(host: HostCpu | None) -> int | None:
    """Memory that this process may use."""
    if host is None or host.ram_bytes is None:
        return None
    return min(host.ram_bytes, host.limit_bytes or host.ram_bytes)


def cpu_machine(catalog: HardwareCatalog, host: HostCpu) -> Machine:
    """The machine of `host` alone, with the peaks and the bandwidth that its cores can use."""
    from planner.spec.hardware import Machine

    known, said = find_cpu(catalog, host)
    here = max(1, int(min(host.cores, host.limit_cores or host.cores)) // host.sockets)
    known, scaled = with_cores(known, here)
    said += scaled
    if host.numa_nodes > host.sockets:
        said.append(f"{host.numa_nodes} NUMA nodes: bind each engine to one")
    ram = usable_ram(host)
    return Machine(
        label=f"cpu:{known.id}" if host.sockets == 1 else f"{host.sockets}xcpu:{known.id}",
        accelerator=None,
        count=1,
        devices_per_node=1,
        cpu=known,
        sockets=host.sockets,
        ram_bytes=ram,
        free_memory_bytes=min(host.available_bytes, ram) if host.available_bytes is not None and ram else None,
        assumptions=(f"detected: {host.name or 'a processor'}, {host.cores} cores", *said, *host.notes),
    )


def find_cpu(catalog: HardwareCatalog, host: HostCpu) -> tuple[Cpu, list[str]]:
    """The catalog's entry of `host`, and what was assumed.

    Its name first, then the nearest of the same server line, then a generic machine of the same instructions.
    """
    name = fold(_NOISE.sub(" ", host.name))
    best: Cpu | None = None
    longest = 0
    for candidate in catalog.cpus():
        for written in (candidate.id, candidate.name, *candidate.aliases):
            word = fold(_NOISE.sub(" ", written))
            if len(word) >= 4 and word in name and len(word) > longest:
                best, longest = candidate, len(word)
    if best is not None:
        return best, []
    shown = host.name or "the processor"
    line = [c for c in catalog.cpus() if any(word in name and word in fold(c.name) for word in _SERVERS)]
    if line:
        found = min(line, key=lambda c: _distance(c, host))
        if host.cpuid and host.cpuid in found.cpuid:
            return found, [f"{shown} is read as {found.name}: the same family and model (CPUID {host.cpuid})"]
        return found, [f"{shown} is not catalogued; read as the nearest server part, {found.name}"]
    desktop = any(fold(word) in name for word in _DESKTOPS)
    wide = any(i.startswith(("avx512", "amx", "sve")) for i in host.isa)
    server = not desktop and (host.sockets > 1 or host.cores > 16 or wide or any(word in name for word in _SERVERS))
    generic = catalog.cpu("generic-server" if server else "generic-desktop")
    isa = host.isa or generic.isa
    copy = generic.model_copy(update={"isa": isa, "architecture": "aarch64" if "neon" in isa else "x86_64"})
    return copy, [f"{shown} is not catalogued; memory bandwidth assumed as of {generic.name}"]


def _distance(candidate: Cpu, host: HostCpu) -> tuple[bool, int, float, int, str]:
    """How far: CPUID, generation, instructions, cores per socket."""
    ours, theirs = generation(host.name), generation(candidate.name)
    apart = abs(ours - theirs) if ours is not None and theirs is not None else 0
    a, b = set(host.isa), set(candidate.isa)
    unlike = 1 - len(a & b) / len(a | b) if a else 0.0
    cores = abs(candidate.cores - host.cores // host.sockets)
    return host.cpuid not in candidate.cpuid, apart, unlike, cores, candidate.id


def generation(name: str) -> int | None:
    """Of a server part by its number: EPYC's last digit, the second of a Xeon Scalable, 6 of Xeon 6, Neoverse's."""
    if match := re.search(r"EPYC(?:\(TM\))? +\d[0-9A-Z]\d?(\d)(?=[A-Z]{0,2}\b)", name):
        return int(match[1])
    if match := re.search(r"\b6[5-9]\d\d[PE]\b", name):
        return 6
    if match := re.search(r"(?:Platinum|Gold|Silver|Bronze) +\d(\d)\d\d", name):
        return int(match[1])
    match = re.search(r"Neoverse[- ][NV](\d)", name)
    return int(match[1]) if match else None
