"""Intel devices: Gaudi from `hl-smi`'s CSV query, GPUs from `xpu-smi discovery`'s JSON.

xpu-smi names memory only when asked for one device. Knows names and memory, not peaks.
"""

from __future__ import annotations

import json
from typing import Any, Final

from planner.sources.detect.found import Device, Found, Run, mib, number

GAUDI: Final = ("hl-smi", "-Q", "name,memory.total,memory.used,driver_version", "-f", "csv,noheader,nounits")
XPU: Final = ("xpu-smi", "discovery", "-j")


def probe(run: Run) -> Found | None:
    """Every Gaudi, or else every Intel GPU; None when there is neither."""
    if (text := run(GAUDI)) and (found := parse_gaudi(text)):
        return found
    text = run(XPU)
    if not text:
        return None
    listed = _list(text)
    details = [run((*XPU[:2], "-d", str(row.get("device_id", 0)), "-j")) or "" for row in listed]
    return parse_xpu(text, details)


def parse_gaudi(text: str) -> Found | None:
    """Rows of name, total MiB, used MiB and driver version; units may follow the numbers."""
    devices = []
    driver = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) >= 3 and cells[0].upper().startswith("HL-"):
            total, used = mib(cells[1]), mib(cells[2])
            free = total - used if total is not None and used is not None else None
            devices.append(Device("intel", cells[0], total, free))
            driver = cells[3] if len(cells) > 3 else driver
    return Found(tuple(devices), driver) if devices else None


def parse_xpu(discovery: str, details: list[str]) -> Found | None:
    """`discovery` lists the devices, `details` has one answer for each."""
    devices = []
    driver = None
    for row, detail in zip(_list(discovery), [*details, *[""] * len(_list(discovery))], strict=False):
        about = {**row, **_object(detail)}
        name = about.get("device_name")
        if not isinstance(name, str) or "integrated" in str(about.get("device_type", "")).casefold():
            continue
        total = number(about.get("memory_physical_size_byte"))
        devices.append(Device("intel", name, total, number(about.get("memory_free_size_byte"))))
        driver = driver or about.get("driver_version")
    return Found(tuple(devices), driver if isinstance(driver, str) else None) if devices else None


def _list(text: str) -> list[dict[str, Any]]:
    rows = _object(text).get("device_list")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
