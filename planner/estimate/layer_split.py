"""Layers on devices: which of a model's layers lie on which GPU, and what the host keeps.

llama.cpp puts the last layers on the GPUs (the output counts as one more), a layer's KV with it, and the
token embedding always in host memory. Knows no engine settings: sizes come in as a `Shape`. Rules:
llama.cpp src/llama-model.cpp; Ollama docs/faq (one GPU if the model fits there, else all).
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.units import ceil_div


@dataclass(frozen=True, slots=True)
class Load:
    """What one device holds, bytes; `layers` counts decoder layers, and the output as one more."""

    weights: int = 0
    kv: int = 0
    compute: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        """Everything but the device's own context."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, slots=True)
class Placement:
    """Loads of the devices in use, and what the host keeps. `on_gpu` layers of `n` (output included)."""

    devices: tuple[Load, ...]
    host: Load
    on_gpu: int
    n: int

    @property
    def fullest(self) -> Load:
        """The device with most on it."""
        return max(self.devices, key=lambda load: load.total, default=self.host)


@dataclass(frozen=True, slots=True)
class Shape:
    """The deployment as a row of layers, output last. Sums of the first i layers make any cut cheap.

    `scratch` and `scratch_output` are compute buffers of a device without and with the output when
    several devices work, `scratch_single` when one does; `inputs` are pinned on the host.
    """

    weight_sums: tuple[int, ...]
    kv_sums: tuple[int, ...]
    host_weights: int
    towers: int
    tower_scratch: int
    scratch: int
    scratch_output: int
    scratch_single: int
    inputs: int

    @property
    def n(self) -> int:
        """Layers, the output counted as one."""
        return len(self.weight_sums) - 1

    def load(self, first: int, last: int, devices: int, carries_towers: bool) -> Load:
        """Layers `first` … `last` − 1 on one of `devices`."""
        if first >= last and not carries_towers:
            return Load()
        scratch = self.scratch
        if last == self.n and last > first:
            scratch = self.scratch_output if devices > 1 else self.scratch_single
        if carries_towers:
            scratch += self.tower_scratch
        return Load(
            self.weight_sums[last] - self.weight_sums[first] + (self.towers if carries_towers else 0),
            self.kv_sums[last] - self.kv_sums[first],
            scratch,
            last - first,
        )


def place(shape: Shape, room: int, count: int, single_first: bool, most: int | None) -> Placement:
    """Layers on `count` devices with `room` bytes each; at most `most` of them on GPUs.

    All on one device when that holds them (`single_first`), else an even split over all devices, else
    as many of the last layers as fit.
    """
    n = shape.n
    wanted = n if most is None else max(0, min(most, n))
    if wanted == n:
        for used in dict.fromkeys((1, count) if single_first else (count,)):
            loads = even_split(shape, used)
            if all(load.total <= room for load in loads):
                return Placement(loads, host_load(shape, 0), n, n)
    low, high = 1, wanted
    best: Placement | None = None
    while low <= high:  # fewer layers always fit where more do
        middle = (low + high + 1) // 2
        filled = _filled(shape, n - middle, count, room)
        if filled is None:
            high = middle - 1
        else:
            best, low = Placement(filled, host_load(shape, n - middle), middle, n), middle + 1
    return best or Placement((), host_load(shape, n), 0, n)


def even_split(shape: Shape, count: int) -> tuple[Load, ...]:
    """All layers, as many on each of `count` devices."""
    cuts = [ceil_div(i * shape.n, count) for i in range(count + 1)]
    return tuple(shape.load(cuts[i], cuts[i + 1], count, i == 0) for i in range(count))


def _filled(shape: Shape, first: int, count: int, room: int) -> tuple[Load, ...] | None:
    """Layers from `first` on, each device taking as many as it holds; None when they do not fit."""
    n, at = shape.n, first
    loads: list[Load] = []
    for index in range(count):
        low, high = at, n
        while low < high:
            middle = (low + high + 1) // 2
            if shape.load(at, middle, count, index == 0).total <= room:
                low = middle
            else:
                high = middle - 1
        if low == at:
            return None
        loads.append(shape.load(at, low, count, index == 0))
        at = low
        if at == n:
            return tuple(loads)
    return None


def host_load(shape: Shape, first_on_gpu: int) -> Load:
    """What stays in host memory: the embedding, inputs, and layers before `first_on_gpu`."""
    scratch = 0
    if first_on_gpu:
        scratch = shape.scratch_single if first_on_gpu == shape.n else shape.scratch
    return Load(
        shape.host_weights + shape.weight_sums[first_on_gpu],
        shape.kv_sums[first_on_gpu],
        shape.inputs + scratch,
        first_on_gpu,
    )
