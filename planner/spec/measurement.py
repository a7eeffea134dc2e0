"""One measured figure: what ran, on what, under which load, and who published it.

Rows of `catalog/measurements/*.csv`. Speed and memory have a schema each; both hold one figure per
row, in the unit that `metric` names. Knows nothing of what we would have said.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Literal

from pydantic import ValidationError, field_validator

from planner.spec.base import Spec
from planner.spec.engine import Defaults

Load = Literal["closed_loop", "static", "bench"]
"""`closed_loop`: clients that send again on the last token; `static`: one batch, prompts then
answers; `bench`: prefill or decode alone, after `context_tokens` cached ones."""


class Measured(Spec):
    """What speed and memory rows share. Counts are 0 where the source has none."""

    engine: str
    engine_version: str
    model: str
    quantization: str
    kv_cache_dtype: str
    accelerator: str
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    metric: str
    value: float
    source: str
    url: str
    date: str

    @cached_property
    def key(self) -> str:
        """Twelve hex digits that name the row; equal rows share them."""
        told = [str(v) for k, v in self if k not in ("source", "url", "date")]
        return sha256("|".join(told).encode()).hexdigest()[:12]

    @property
    def devices(self) -> int:
        """Devices that ran it."""
        return self.tensor * self.pipeline * self.data


def _pair(setting: str) -> tuple[str, str]:
    """Field and value of one of the `settings`."""
    name, _, value = setting.partition("=")
    return name, value


class SpeedRow(Measured):
    """A time or a rate. `concurrency` is of the whole deployment; `step_tokens` the budget of one step."""

    load: Load
    concurrency: int
    input_tokens: int
    output_tokens: int
    context_tokens: int = 0
    step_tokens: int
    same_lengths: bool = False
    """Closed loops: every answer had `output_tokens` exactly."""
    warm: bool = False
    """Closed loops: what all clients sent together at the start is left out of the figure."""
    layers: int = 0
    """Decoder layers that were kept of the model; 0: all."""
    settings: str = ""
    """What the server was started with that its release does not default to: `field=value` of `Defaults`."""

    @field_validator("settings")
    @classmethod
    def _are_defaults(cls, settings: str) -> str:
        for text in settings.split():
            name, value = _pair(text)
            try:
                Defaults.model_validate({name: value})
            except ValidationError as error:
                why = error.errors()[0]["msg"]
                raise ValueError(f"{text!r} is no field=value of an engine's defaults: {why}") from None
        return settings

    @property
    def overrides(self) -> dict[str, str]:
        """`settings` by field."""
        return dict(_pair(text) for text in self.settings.split())

    @property
    def lengths(self) -> str:
        """Input and output length, `1024x128`."""
        return f"{self.input_tokens + self.context_tokens}x{self.output_tokens}"


class MemoryRow(Measured):
    """An amount of memory on one device, or a size of a file; limits are 0 where nobody said them.

    `total_gib` is what the driver reported as the device's total. `what` says how a size is to be read:
    `file` or the `tensors` that a loader counts (GGUF), `device` for one device of a running engine. A
    `buffers` figure is the sum of the `parts` that the log states for device number `device`. Where the engine
    held more than the model's weights (adapters), `logged_weights_gib` are what it said it held.
    """

    total_gib: float = 0.0
    gpu_memory_utilization: float = 0.0
    max_model_len: int = 0
    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0
    eager: bool = False
    flash_attention: bool = True
    imatrix: bool = False
    what: Literal["device", "file", "tensors"]
    parts: str = ""
    """`weights+kv+compute`, or what of it was logged."""
    device: int = 0
    gpu_layers: int = -1
    """Layers on devices, the output counted as one; all when negative."""
    micro_batch: int = 0
    exact_version: bool = True
    """False where the source names a line (0.9.x) or a date instead of a release."""
    grade: Literal["A", "B"] = "A"
    logged_weights_gib: float = 0.0
    text_only: bool = False
    """The decoder of a model with towers, run without them."""


class HeldOut(Spec):
    """What a fit that had not seen a row's `fold` says of the row with `key`, in the row's unit."""

    key: str
    fold: Literal["model", "device", "tensor", "lengths"]
    left_out: str
    predicted: float


class LeftOut(Spec):
    """Rows of a source that are not among ours, and why."""

    file: str
    model: str
    accelerator: str
    metric: str
    rows: int
    kind: Literal["repeats", "unusable", "unnamed"]
    reason: str
