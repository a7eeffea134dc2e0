"""The host's processor and memory from `lscpu -J`, /proc and cgroup files; containers and WSL.

Memory channels cannot be read without root and are left to the catalog. Knows no accelerator.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from planner.sources.detect.found import HostCpu, Run, number

LSCPU: Final = ("lscpu", "-J")
MEMINFO: Final = ("cat", "/proc/meminfo")
VERSION: Final = ("cat", "/proc/version")
CONTAINER: Final = ("ls", "/.dockerenv")
PODMAN: Final = ("ls", "/run/.containerenv")
CGROUP2: Final = (("cat", "/sys/fs/cgroup/memory.max"), ("cat", "/sys/fs/cgroup/cpu.max"))
CGROUP1: Final = (
    ("cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ("cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    ("cat", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
SYSCTL: Final = ("sysctl", "-n", "machdep.cpu.brand_string", "hw.physicalcpu", "hw.memsize")
_ISA: Final = {
    "avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "avx512_bf16", "avx512_vnni": "avx512_vnni",
    "amx_bf16": "amx_bf16", "amx_int8": "amx_int8", "asimd": "neon", "sve": "sve", "sve2": "sve2", "bf16": "bf16",
    "i8mm": "i8mm", "asimddp": "dotprod",
}  # fmt: skip
"""Kernel flag → the name that hardware/cpus uses."""
_UNLIMITED: Final = 1 << 60


def probe(run: Run) -> HostCpu | None:
    """The processor, None when nothing tells."""
    text = run(LSCPU)
    fields = parse_lscpu(text) if text else {}
    if not fields:
        return _mac(run)
    sockets = max(1, number(fields.get("Socket(s)")) or 1)
    threads = number(fields.get("CPU(s)")) or 1
    per_socket = number(fields.get("Core(s) per socket")) or number(fields.get("Core(s) per cluster"))
    cores = per_socket * sockets if per_socket else threads
    total, available = parse_meminfo(run(MEMINFO) or "")
    limit_bytes, limit_cores = limits(run)
    if limit_bytes is not None and total is not None and limit_bytes >= total:
        limit_bytes = None
    notes = []
    if "microsoft" in (run(VERSION) or "").casefold():
        notes.append("runs under WSL: memory is what Windows grants this Linux (.wslconfig)")
    if run(CONTAINER) is not None or run(PODMAN) is not None:
        notes.append("runs in a container")
    if limit_bytes is not None:
        notes.append(f"a cgroup limits memory to {limit_bytes / (1 << 30):.1f} GiB")
    if limit_cores is not None and limit_cores < cores:
        notes.append(f"a cgroup limits the CPU to {limit_cores:g} of {cores} cores")
    flags = set(str(fields.get("Flags", "")).split())
    return HostCpu(
        name=str(fields.get("Model name", "")),
        architecture=str(fields.get("Architecture", "")),
        sockets=sockets,
        cores=cores,
        threads=threads,
        numa_nodes=max(1, number(fields.get("NUMA node(s)")) or 1),
        isa=tuple(sorted({name for flag, name in _ISA.items() if flag in flags})),
        ram_bytes=total,
        available_bytes=available,
        limit_bytes=limit_bytes,
        limit_cores=limit_cores,
        notes=tuple(notes),
        cpuid=_cpuid(fields),
    )


def _cpuid(fields: dict[str, str]) -> str:
    family, model = fields.get("CPU family", ""), fields.get("Model", "")
    return f"{family}/{model}" if family.isdecimal() and model.isdecimal() else ""


def parse_lscpu(text: str) -> dict[str, str]:
    """Field → value of `lscpu -J`, nested (util-linux 2.37 and later) or flat."""
    try:
        rows = json.loads(text)["lscpu"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found: dict[str, str] = {}
    waiting: list[Any] = list(rows) if isinstance(rows, list) else []
    while waiting:
        row = waiting.pop(0)
        if isinstance(row, dict) and isinstance(row.get("field"), str):
            found.setdefault(row["field"].rstrip(":").strip(), str(row.get("data", "")))
            children = row.get("children")
            waiting = [*(children if isinstance(children, list) else ()), *waiting]
    return found


def parse_meminfo(text: str) -> tuple[int | None, int | None]:
    """(total, available) bytes of /proc/meminfo."""
    found = {m[1]: int(m[2]) << 10 for m in re.finditer(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return found.get("MemTotal"), found.get("MemAvailable", found.get("MemFree"))


def limits(run: Run) -> tuple[int | None, float | None]:
    """(bytes, cores) that a cgroup grants, version 2 first; None where there is no limit."""
    memory, cpu = run(CGROUP2[0]), run(CGROUP2[1])
    if memory is not None or cpu is not None:
        quota, _, period = (cpu or "max").strip().partition(" ")
        cores = int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None
        return _bounded(memory), cores
    quota_us, period_us = number(run(CGROUP1[1])), number(run(CGROUP1[2]))
    cores = quota_us / period_us if quota_us and period_us and quota_us > 0 else None
    return _bounded(run(CGROUP1[0])), cores


def _bounded(text: str | None) -> int | None:
    value = number(text)
    return value if value is not None and 0 < value < _UNLIMITED else None


def _mac(run: Run) -> HostCpu | None:
    lines = (run(SYSCTL) or "").splitlines()
    if len(lines) < 3:
        return None
    cores, memory = number(lines[1]) or 1, number(lines[2])
    return HostCpu(lines[0], "arm64", 1, cores, cores, 1, ("neon",), memory, None)
