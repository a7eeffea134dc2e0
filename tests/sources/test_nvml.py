"""NVML by `nvidia-ml-py`: the same findings as nvidia-smi prints. Figures of the recorded outputs in fixtures/."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from planner.sources.detect import nvidia, nvml
from planner.sources.detect.found import Device, run_command

MIB = 1 << 20


@dataclass
class Driver:
    """A driver as pynvml shows it (synthetic): names and MiB of devices, MIG slices by device, pairs over PCIe."""

    devices: list[tuple[str, int, int]]
    slices: dict[int, list[int]] = field(default_factory=dict)
    apart: set[tuple[int, int]] = field(default_factory=set)
    sizes: dict[int, str] = field(default_factory=dict)
    """What the driver calls a slice of so many MiB; absent: a driver that names the device only."""
    refuses: str = ""
    closed: int = 0

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    NVML_P2P_CAPS_INDEX_NVLINK = pynvml.NVML_P2P_CAPS_INDEX_NVLINK
    NVML_P2P_STATUS_OK = pynvml.NVML_P2P_STATUS_OK

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml"):
            assert hasattr(pynvml, name), f"pynvml has no {name}"
            if name == object.__getattribute__(self, "refuses"):
                return self._no
        return object.__getattribute__(self, name)

    def _no(self, *_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlInit(self) -> None:  # noqa: N802
        self.closed -= 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, i: int) -> Any:  # noqa: N802
        return i

    def nvmlDeviceGetName(self, i: Any) -> Any:  # noqa: N802
        if isinstance(i, tuple):
            return f"{self.devices[0][0]} MIG {self.sizes[i[1]]}" if i[1] in self.sizes else self.devices[0][0]
        return self.devices[i][0].encode() if i % 2 else self.devices[i][0]

    def nvmlDeviceGetMemoryInfo(self, i: Any) -> Any:  # noqa: N802
        total, free = (i[1], i[1] - 13) if isinstance(i, tuple) else self.devices[i][1:]
        return SimpleNamespace(total=total * MIB, free=free * MIB)

    def nvmlDeviceGetMigMode(self, i: int) -> list[int]:  # noqa: N802
        return [int(i in self.slices), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, _: int) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, i: int, k: int) -> Any:  # noqa: N802
        if k >= len(self.slices[i]):
            self._no()
        return ("slice", self.slices[i][k])

    def nvmlDeviceGetP2PStatus(self, a: int, b: int, _: int) -> int:  # noqa: N802
        return 1 if (a, b) in self.apart else pynvml.NVML_P2P_STATUS_OK

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 12080


H100 = ("NVIDIA H100 80GB HBM3", 81559, 81079)


def test_devices_driver_and_links() -> None:
    driver = Driver([H100] * 4)
    found = nvml.ask(driver)
    assert found is not None
    assert found.devices == (Device("nvidia", H100[0], H100[1] * MIB, H100[2] * MIB),) * 4
    assert (found.driver, found.runtime, found.linked, driver.closed) == ("570.86.15", "12.8", True, 0)


def test_one_pair_over_pcie_is_not_linked() -> None:
    found = nvml.ask(Driver([H100] * 4, apart={(1, 3)}))
    assert found is not None and found.linked is False


def test_mig_slices_stand_for_their_device() -> None:
    card, sizes = ("NVIDIA A100-SXM4-40GB", 40536, 40000), {20096: "3g.20gb"}
    found = nvml.ask(Driver([card, card], slices={0: [20096, 9984], 1: [9984]}, sizes=sizes))
    assert found is not None
    rows = [(d.share, d.total_bytes, d.profile, d.card) for d in found.devices]
    assert rows == [(0.5, 20096 * MIB, "3g.20gb", 0), (0.25, 9984 * MIB, "", 0), (0.25, 9984 * MIB, "", 1)]
    assert found.notes == tuple(f"NVIDIA A100-SXM4-40GB {i} runs as {n} MIG slices" for i, n in ((0, 2), (1, 1)))


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetMemoryInfo", "nvmlSystemGetDriverVersion"])
def test_a_driver_that_refuses_is_nothing(call: str) -> None:
    assert nvml.ask(Driver([H100], refuses=call)) is None


@pytest.mark.parametrize("call", ["nvmlDeviceGetMigMode", "nvmlDeviceGetP2PStatus"])
def test_what_an_old_device_cannot_say_is_left_out(call: str) -> None:
    found = nvml.ask(Driver([H100, H100], refuses=call))
    assert found is not None and len(found.devices) == 2
    assert found.linked is (None if call.endswith("P2PStatus") else True)


def test_a_machine_without_devices_is_nothing() -> None:
    assert nvml.ask(Driver([])) is None


def test_the_driver_is_asked_before_nvidia_smi_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = nvml.ask(Driver([H100]))
    monkeypatch.setattr("planner.sources.detect.nvml.probe", lambda: wanted)
    assert nvidia.probe(run_command) is wanted
    assert nvidia.probe(lambda _: None) is None, "recorded outputs are not mixed with this machine"
