"""What detection works with: commands that may be missing, and devices as their tools report them.

Knows how to run a command within a time and size; knows no vendor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

Run = Callable[[Sequence[str]], str | None]
"""Runs a command; its standard output, None when it is missing or fails."""
TIMEOUT_S: Final = 20.0
MAX_OUTPUT_CHARS: Final = 64 << 20
PROFILE: Final = re.compile(r"\bMIG +((?:\d+c\.)?\d+g\.\d+gb(?:[+-][\w.]+)?)", re.IGNORECASE)
"""A slice's size as the driver writes it in names: MIG 1g.10gb, MIG 1g.10gb+me."""


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator, or one MIG slice of one: `share` of the whole device's memory, some of its multiprocessors.

    `profile` is what the driver calls the slice's size (1g.10gb), empty where it did not say; `card` is the place
    of its device among the host's, `place` its own on the device.
    """

    vendor: str
    name: str
    total_bytes: int | None
    free_bytes: int | None = None
    share: float = 1.0
    multiprocessors: int | None = None
    profile: str = ""
    card: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What one vendor's tools said. `linked`: whether all devices are joined directly; None when unknown."""

    devices: tuple[Device, ...]
    driver: str | None = None
    runtime: str | None = None
    linked: bool | None = None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class HostCpu:
    """The processor and memory of the host, as far as this process may use them.

    `cores` are physical and of all sockets, `limit_cores` what a cgroup grants, memory in bytes.
    """

    name: str
    architecture: str
    sockets: int
    cores: int
    threads: int
    numa_nodes: int
    isa: tuple[str, ...]
    ram_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None = None
    limit_cores: float | None = None
    notes: tuple[str, ...] = ()
    cpuid: str = ""
    """Family and model as x86's CPUID numbers them in decimal ("25/1"); empty where nothing tells."""


def run_command(command: Sequence[str]) -> str | None:
    """Standard output of `command`, None when it is missing, fails or takes longer than 20 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.decode("utf-8", errors="replace")[:MAX_OUTPUT_CHARS]


def number(text: object) -> int | None:
    """The whole number at the start of `text` ("81559 MiB" → 81559), None for "N/A" and the like."""
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return int(text)
    first = str(text).strip().split(" ")[0].replace(",", "") if text is not None else ""
    try:
        return int(float(first))
    except (ValueError, OverflowError):
        return None


def mib(text: object) -> int | None:
    """Bytes of a figure in MiB."""
    value = number(text)
    return None if value is None else value << 20
