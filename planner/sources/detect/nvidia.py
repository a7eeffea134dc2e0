"""NVIDIA devices from `nvidia-smi -q -x` (or its CSV query) and `nvidia-smi topo -m`; Jetson from the device tree.

Source of the formats: the tools' own output, driver 450 to 580. Knows names and memory, not peaks.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from planner.sources.detect import nvml
from planner.sources.detect.found import PROFILE, Device, Found, Run, mib, number, run_command

QUERY: Final = ("nvidia-smi", "-q", "-x")
CSV_QUERY: Final = (
    "nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits",
)  # fmt: skip
TOPOLOGY: Final = ("nvidia-smi", "topo", "-m")
LIST: Final = ("nvidia-smi", "-L")
DEVICE_TREE: Final = ("cat", "/proc/device-tree/model")
_LINK: Final = re.compile(r"NV\d+")


def probe(run: Run) -> Found | None:
    """Every NVIDIA device, None when there is none. On this machine NVML is asked first, where it is installed."""
    if run is run_command and (found := nvml.probe()):
        return found
    text = run(QUERY)
    found = parse_xml(text) if text else None
    if found is None and (text := run(CSV_QUERY)):
        found = parse_csv(text)
    if found is None or not found.devices:
        return probe_jetson(run)
    if len(found.devices) > 1 and all(d.share == 1.0 for d in found.devices) and (text := run(TOPOLOGY)):
        linked = parse_topology(text, len(found.devices))
        return Found(found.devices, found.driver, found.runtime, linked, found.notes)
    if any(d.share < 1.0 and not d.profile for d in found.devices) and (text := run(LIST)):
        return replace(found, devices=_profiled(found.devices, text))
    return found


def _profiled(devices: tuple[Device, ...], text: str) -> tuple[Device, ...]:
    """`devices` with the sizes that `nvidia-smi -L` lists, slices in the same order; unchanged where counts differ."""
    sizes = PROFILE.findall(text)
    if len(sizes) != sum(d.share < 1.0 for d in devices):
        return devices
    left = iter(sizes)
    return tuple(replace(d, profile=next(left)) if d.share < 1.0 else d for d in devices)


def parse_xml(text: str) -> Found | None:
    """The XML log; None when it is not one. MIG slices stand for their device when MIG is on."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None
    if root.tag != "nvidia_smi_log":
        return None
    devices: list[Device] = []
    notes: list[str] = []
    for card, gpu in enumerate(root.iter("gpu")):
        name = _text(gpu, "product_name") or "unknown"
        total = mib(_text(gpu, "fb_memory_usage/total"))
        free = mib(_text(gpu, "fb_memory_usage/free"))
        if _text(gpu, "mig_mode/current_mig") == "Enabled":
            slices = list(_slices(gpu, name, total, card))
            devices += slices
            where = gpu.get("id", "")
            notes.append(
                f"{name} {where} runs as {len(slices)} MIG slices" if slices else f"{name}: MIG on, no slice made"
            )
        else:
            devices.append(Device("nvidia", name, total, free))
    return Found(tuple(devices), _text(root, "driver_version"), _text(root, "cuda_version"), None, tuple(notes))


def _slices(gpu: ET.Element, name: str, total: int | None, card: int) -> Iterator[Device]:
    for place, row in enumerate(gpu.iterfind("mig_devices/mig_device")):
        size = mib(_text(row, "fb_memory_usage/total"))
        if size and total:
            # a slice's memory is eighths of the device, less what the driver keeps
            share = max(1, round(8 * size / total)) / 8
            units = number(_text(row, "device_attributes/shared/multiprocessor_count"))
            free = mib(_text(row, "fb_memory_usage/free"))
            yield Device("nvidia", name, size, free, share, units, card=card, place=place)


def _text(node: ET.Element, path: str) -> str | None:
    text = node.findtext(path)
    return text.strip() if text and text.strip() not in ("N/A", "[N/A]", "[Not Supported]") else None


def parse_csv(text: str) -> Found | None:
    """Rows of name, total MiB, free MiB, driver."""
    devices = []
    driver = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4:
            devices.append(Device("nvidia", cells[0], mib(cells[1]), mib(cells[2])))
            driver = cells[3]
    return Found(tuple(devices), driver) if devices else None


def parse_topology(text: str, count: int) -> bool | None:
    """True when NVLink joins every pair of the first `count` GPUs, False when some go over PCIe, None if unreadable."""
    rows: dict[int, list[str]] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        cells = line.split()
        if (
            cells
            and (match := re.fullmatch(r"GPU(\d+)", cells[0]))
            and len(cells) > 1
            and not cells[1].startswith("GPU")
        ):
            rows[int(match[1])] = cells[1 : 1 + count]
    if sorted(rows) != list(range(count)) or any(len(row) < count for row in rows.values()):
        return None
    return all(_LINK.fullmatch(rows[i][j]) for i in range(count) for j in range(count) if i != j)


def probe_jetson(run: Run) -> Found | None:
    """A Jetson by its device tree; memory is the host's, shared with the CPU."""
    text = (run(DEVICE_TREE) or "").replace("\0", "").strip()
    match = re.match(r"(?:NVIDIA )?(Jetson [\w ]+?)(?: (?:Developer Kit|Engineering|Module|with).*)?$", text)
    if match is None:
        return None
    return Found((Device("nvidia", match[1], None),), None, None, None, (f"{text}: one memory for CPU and GPU",))
