"""A catalogued record as a person reads it: layers in ranges, memory the GPU may really use, parameters told apart.

JSON keeps the record as it is stored, but for the memory of chips that share theirs with the host.
"""

from __future__ import annotations

from typing import Any

from planner.estimate.overheads.host import gpu_share_bytes
from planner.estimate.tensors import active_parameters, loaded_parameters, prediction_parameters
from planner.spec.base import Spec
from planner.spec.hardware import Accelerator, Machine
from planner.spec.model import ModelSpec


def record_data(record: Spec, *, compact: bool) -> dict[str, Any]:
    """`record` as plain data, without what is at its default; `compact` writes runs of layers as `0-31`."""
    data = record.model_dump(mode="json", exclude_defaults=True)
    if isinstance(record, Accelerator):
        _share(record, record.memory_bytes, data)
    elif isinstance(record, Machine) and record.accelerator is not None:
        _share(record.accelerator, record.ram_bytes or record.accelerator.memory_bytes, data["accelerator"])
    elif isinstance(record, ModelSpec):
        data |= _counted(record, compact)
    if compact:
        for group in data.get("layers", ()):
            if isinstance(group, dict) and isinstance(group.get("layers"), list):
                group["layers"] = ranges(group["layers"])
    return data


def _share(accelerator: Accelerator, ram_bytes: int, data: dict[str, Any]) -> None:
    """Unified memory: what is left to the GPU, not the RAM of the whole machine."""
    if not accelerator.unified_memory:
        return
    share = gpu_share_bytes(accelerator, ram_bytes)
    data["usable_memory_bytes"] = share
    limit = "macOS lets the GPU wire" if accelerator.platform == "metal" else "the host leaves to models"
    data["usable_memory_note"] = f"what {limit} of {accelerator.usable_memory_bytes} bytes of RAM"


def _counted(model: ModelSpec, compact: bool) -> dict[str, Any]:
    """Parameters of the model itself, of a token's pass, and of what is stored beside them.

    A published total counts every stored number: prediction blocks, FP8 scales and buffers too. People read
    `parameters` as the model's; JSON keeps the published total there.
    """
    own, predicted = loaded_parameters(model), prediction_parameters(model)
    found: dict[str, Any] = {"model_parameters": own, "active_parameters": active_parameters(model)}
    if predicted:
        found["prediction_parameters"] = predicted
    if compact:
        found["parameters"] = found.pop("model_parameters")
        if model.parameters is not None and model.parameters != own:
            found["published_total"] = model.parameters
    return found


def ranges(numbers: list[int]) -> str:
    """`0-3, 5, 7-8`; every second, third … in a long run as `0-30 step 2`."""
    parts: list[str] = []
    rest = sorted(numbers)
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        n = next((i for i in range(1, len(rest)) if rest[i] - rest[i - 1] != step), len(rest))
        if step > 1 and n < 3:
            n, step = 1, 1
        first, last = rest[0], rest[n - 1]
        parts.append(str(first) if n == 1 else f"{first}-{last}" + (f" step {step}" if step > 1 else ""))
        rest = rest[n:]
    return ", ".join(parts)
