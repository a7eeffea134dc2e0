"""An Apple chip from `sysctl` and `system_profiler`'s JSON: name, GPU cores, memory, wired limit."""

from __future__ import annotations

import json
from typing import Final

from planner.sources.detect.found import Device, Found, Run, number

DISPLAYS: Final = ("system_profiler", "-json", "SPDisplaysDataType")
MEMORY: Final = ("sysctl", "-n", "hw.memsize")
WIRED: Final = ("sysctl", "-n", "iogpu.wired_limit_mb")
VM_STAT: Final = ("vm_stat",)


def probe(run: Run) -> Found | None:
    """The chip, None on a machine that is no Mac with Apple silicon."""
    memory = number(run(MEMORY))
    text = run(DISPLAYS)
    if memory is None or not text:
        return None
    chip = parse_displays(text)
    if chip is None:
        return None
    name, cores = chip
    notes = []
    wired = number(run(WIRED))
    if wired:
        notes.append(f"iogpu.wired_limit_mb is {wired}: the GPU may use {wired / 1024:.1f} GiB")
    free = parse_vm_stat(run(VM_STAT) or "")
    shown = f"{name} ({cores}-core GPU)" if cores else name
    return Found((Device("apple", shown, memory, free),), None, None, None, tuple(notes))


def parse_displays(text: str) -> tuple[str, int | None] | None:
    """(chip, GPU cores) of the first Apple entry."""
    try:
        rows = json.loads(text)["SPDisplaysDataType"]
        entries = [row for row in rows if isinstance(row, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    for row in entries:
        name = row.get("sppci_model") or row.get("_name")
        if isinstance(name, str) and name.startswith("Apple "):
            return name, number(row.get("sppci_cores"))
    return None


def parse_vm_stat(text: str) -> int | None:
    """Bytes that are free, inactive or purgeable."""
    page = 4096
    pages = 0
    found = False
    for line in text.splitlines():
        head, _, tail = line.partition(":")
        if "page size of" in line:
            page = number(line.partition("page size of ")[2]) or page
        elif head in ("Pages free", "Pages inactive", "Pages purgeable", "Pages speculative"):
            pages += number(tail.strip().rstrip(".")) or 0
            found = True
    return pages * page if found else None
