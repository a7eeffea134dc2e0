"""NVIDIA devices by NVML, where the package `nvidia-ml-py` is installed: what nvidia-smi prints, without starting it.

Source of the calls: NVML's API reference, https://docs.nvidia.com/deploy/nvml-api/. Tells nothing (None) without
the package, without a driver, and when the driver refuses a question that everything else depends on.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from planner.sources.detect.found import PROFILE, Device, Found


def probe() -> Found | None:
    """Every NVIDIA device that the driver shows."""
    try:
        library = import_module("pynvml")
    except ImportError:
        return None
    return ask(library)


def ask(nvml: Any) -> Found | None:
    """As `probe`, for the module `nvml` (pynvml)."""
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError):
        return None
    try:
        return _found(nvml)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _found(nvml: Any) -> Found | None:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if not handles:
        return None
    devices: list[Device] = []
    notes: list[str] = []
    for i, handle in enumerate(handles):
        name = _text(nvml.nvmlDeviceGetName(handle))
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        whole = Device("nvidia", name, int(memory.total), int(memory.free))
        if not _mig(nvml, handle):
            devices.append(whole)
            continue
        slices = _slices(nvml, handle, whole, i)
        devices += slices
        notes.append(f"{name} {i} runs as {len(slices)} MIG slices" if slices else f"{name}: MIG on, no slice made")
    linked = _linked(nvml, handles) if len(handles) > 1 and all(d.share == 1.0 for d in devices) else None
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    cuda = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    return Found(tuple(devices), driver, f"{cuda // 1000}.{cuda % 1000 // 10}", linked, tuple(notes))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _mig(nvml: Any, handle: Any) -> bool:
    """Whether the device runs in slices now; devices before Ampere cannot say."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    except nvml.NVMLError:
        return False


def _slices(nvml: Any, handle: Any, whole: Device, card: int) -> list[Device]:
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            slice_ = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            memory = nvml.nvmlDeviceGetMemoryInfo(slice_)
        except nvml.NVMLError:  # no slice at this place
            continue
        # a slice's memory is eighths of the device, less what the driver keeps
        share = max(1, round(8 * memory.total / (whole.total_bytes or memory.total))) / 8
        units = _multiprocessors(nvml, slice_)
        free, profile = int(memory.free), _profile(nvml, slice_)
        found.append(Device("nvidia", whole.name, int(memory.total), free, share, units, profile, card, place))
    return found


def _multiprocessors(nvml: Any, slice_: Any) -> int | None:
    """Those of a slice; None where the library or the driver is older than the question."""
    try:
        return int(nvml.nvmlDeviceGetAttributes_v2(slice_).multiprocessorCount)
    except (nvml.NVMLError, AttributeError):
        return None


def _profile(nvml: Any, slice_: Any) -> str:
    """The size in a slice's name ("NVIDIA A100-SXM4-40GB MIG 1g.5gb" → 1g.5gb), empty where it has none."""
    try:
        match = PROFILE.search(_text(nvml.nvmlDeviceGetName(slice_)))
    except nvml.NVMLError:
        return ""
    return match[1] if match else ""


def _linked(nvml: Any, handles: list[Any]) -> bool | None:
    """True when NVLink joins every pair, False when some go over PCIe, None when the driver does not say."""
    try:
        return all(
            nvml.nvmlDeviceGetP2PStatus(a, b, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK
            for i, a in enumerate(handles)
            for b in handles[i + 1 :]
        )
    except nvml.NVMLError:
        return None
