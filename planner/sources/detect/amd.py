"""AMD devices from `amd-smi` (ROCm 6 and later) or `rocm-smi`, both as JSON.

amd-smi writes MB and means MiB (an MI355X of 288 GiB shows 294896). Knows names and memory, not peaks.
"""

from __future__ import annotations

import json
from typing import Any, Final

from planner.sources.detect.found import Device, Found, Run, number

STATIC: Final = ("amd-smi", "static", "--asic", "--vram", "--driver", "--json")
METRIC: Final = ("amd-smi", "metric", "--mem-usage", "--json")
ROCM: Final = (
    "rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json",
)  # fmt: skip
_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "MIB": 1 << 20, "GIB": 1 << 30}


def probe(run: Run) -> Found | None:
    """Every AMD device, None when there is none."""
    if text := run(STATIC):
        found = parse_amd_smi(text, run(METRIC) or "")
        if found is not None:
            return found
    text = run(ROCM)
    return parse_rocm_smi(text) if text else None


def parse_amd_smi(static: str, metric: str = "") -> Found | None:
    """`static` names the devices, `metric` their use of memory."""
    used: dict[int, tuple[int | None, int | None]] = {}
    for row in _rows(metric):
        memory = _table(row, "mem_usage")
        used[number(row.get("gpu")) or 0] = _size(memory.get("total_vram")), _size(memory.get("used_vram"))
    devices = []
    driver = None
    for row in _rows(static):
        asic, vram, about = _table(row, "asic"), _table(row, "vram"), _table(row, "driver")
        name = asic.get("market_name")
        if not isinstance(name, str) or name == "N/A":
            continue
        total, taken = used.get(number(row.get("gpu")) or 0, (None, None))
        total = total or _size(vram.get("size"))
        free = total - taken if total is not None and taken is not None else None
        devices.append(Device("amd", name, total, free))
        driver = driver or about.get("version") or about.get("driver_version")
    return Found(tuple(devices), driver if isinstance(driver, str) else None) if devices else None


def parse_rocm_smi(text: str) -> Found | None:
    """One object per card, whose keys changed their capitals between releases."""
    data = _json(text)
    if not isinstance(data, dict):
        return None
    devices = []
    driver = None
    for card, raw in data.items():
        if not isinstance(raw, dict):
            continue
        row = {str(key).casefold(): value for key, value in raw.items()}
        driver = driver or row.get("driver version")
        total, used = number(row.get("vram total memory (b)")), number(row.get("vram total used memory (b)"))
        name = row.get("card series") or row.get("device name") or row.get("card model")
        if card.startswith("card") and total is not None:
            gfx = row.get("gfx version")
            name = name if isinstance(name, str) and not name.startswith("0x") else str(gfx or "AMD device")
            devices.append(Device("amd", name, total, total - used if used is not None else None))
    return Found(tuple(devices), driver if isinstance(driver, str) else None) if devices else None


def _rows(text: str) -> list[dict[str, Any]]:
    data = _json(text)
    if isinstance(data, dict):
        data = data.get("gpu_data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def _table(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _size(value: Any) -> int | None:
    """Bytes of {"value": 294896, "unit": "MB"}, or of a bare number of MB."""
    if isinstance(value, dict):
        amount = number(value.get("value"))
        factor = _UNITS.get(str(value.get("unit", "MB")).upper())
        return amount * factor if amount is not None and factor else None
    amount = number(value)
    return None if amount is None else amount << 20
