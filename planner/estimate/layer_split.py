"""Layers on devices: which of a model's layers lie on which GPU, and what the host keeps.

llama.cpp puts the last layers on the GPUs (the output counts as one more), a layer's KV with it, and the
token embedding always in host memory. Knows no engine settings: sizes come in as a `Shape`. Rules:
llama.cpp src/llama-model.cpp; Ollama docs/faq (one GPU if the model fits there, else all).
"""

from __future__ import annotations

from planner.records import dataclass
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
    loads = _filled(shape, n - wanted, count, room)
    on_gpu = sum(load.layers for load in loads)
    if not on_gpu:
        return Placement((), host_load(shape, n, towers=True), 0, n)
    return Placement(loads, host_load(shape, n - on_gpu, towers=not loads[0].total), on_gpu, n)


def even_split(shape: Shape, count: int) -> tuple[Load, ...]:
    """All layers, as many on each of `count` devices."""
    cuts = [ceil_div(i * shape.n, count) for i in range(count + 1)]
    return tuple(shape.load(cuts[i], cuts[i + 1], count, i == 0) for i in range(count))


def _filled(shape: Shape, first: int, count: int, room: int) -> tuple[Load, ...]:
    """The last layers, down to `first`, on `count` devices: each takes as many as it holds."""
    loads: list[Load] = []
    end = shape.n
    for index in range(count - 1, -1, -1):
        low, high = first, end
        while low < high:
            middle = (low + high) // 2
            if shape.load(middle, end, count, index == 0).total <= room:
                high = middle
            else:
                low = middle + 1
        load = shape.load(low, end, count, index == 0)
        loads.append(load if load.total <= room else Load())
        end = low
    return tuple(reversed(loads))


def host_load(shape: Shape, first_on_gpu: int, towers: bool = False) -> Load:
    """What stays in host memory: the embedding, inputs, layers before `first_on_gpu`, maybe the towers."""
    scratch = shape.tower_scratch if towers else 0
    if first_on_gpu:
        scratch += shape.scratch_single if first_on_gpu == shape.n else shape.scratch
    return Load(
        shape.host_weights + shape.weight_sums[first_on_gpu] + (shape.towers if towers else 0),
        shape.kv_sums[first_on_gpu],
        shape.inputs + scratch,
        first_on_gpu,
    )
