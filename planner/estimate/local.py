"""What this user's own measurements say of a figure: how far to shift it and how wide its band then is.

The error of an estimate is taken as the sum of three parts, in its logarithm: one of the device and engine, one of
the model (or release, or format), one of the load and the day. The shipped band says how large all three are
together; a measurement here of the same model observes the first two, one of another model only the first. The
normal posterior of the sum gives shift and band, narrower the more was measured. A measurement outside of the shipped
band refutes it: then the band is taken to reach as far, so that the corrected one always holds what was measured.
Knows no file.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment
    from planner.spec.local import LocalCorrection, Ratio

Metric = Literal["ttft", "itl", "output_tokens_per_s"]
OF_THE_LOAD: Final[dict[Metric, float]] = {"ttft": 0.16, "itl": 0.086, "output_tokens_per_s": 0.086}
"""80 % half-width, in the logarithm, of what remains from load to load after the mean error of a device, engine and
model is taken off: held-out closed-loop rows of the shipped measurements, 211 rows for each latency; throughput
follows ITL."""
OF_THE_MODEL: Final[dict[Metric, float]] = {"ttft": 0.19, "itl": 0.09, "output_tokens_per_s": 0.09}
"""The same of what differs from model to model on one device and engine: there, and static batches of TensorRT-LLM."""
Z_80: Final = 1.2816


@dataclass(frozen=True, slots=True)
class Shift:
    """Multiply the figure by `factor`; true / corrected lies within exp(± `half_width`) for 80 % of cases."""

    factor: float
    half_width: float
    n: int
    """Requests that were measured."""

    @property
    def limits(self) -> tuple[float, float, int]:
        """As `bands.band` gives them."""
        return math.exp(-self.half_width), math.exp(self.half_width), self.n


def matching(d: Deployment) -> tuple[tuple[LocalCorrection, ...], bool]:
    """Corrections of the same engine on this device, of the same model, release and format where there are any."""
    own = tuple(c for c in d.machine.corrections if c.engine == d.engine.engine)
    same = tuple(c for c in own if is_same(c, d))
    return (same, True) if same else (own, False)


def is_same(c: LocalCorrection, d: Deployment) -> bool:
    """True when `c` was measured on the model, release and format of `d`."""
    asked = (d.engine.version, d.model.id, d.quantization.id)
    return (c.engine_version, c.model, c.quantization) == asked


def shift(d: Deployment, metric: Metric, limits: tuple[float, float, int]) -> Shift | None:
    """How the figure of `metric`, whose shipped band is `limits`, is corrected; None when nothing was measured.

    Of a band narrower than loads and models usually differ, they are taken to be half, or three quarters.
    """
    if not d.machine.corrections:
        return None
    found, same = matching(d)
    measured: list[tuple[Ratio, int]] = [(r, c.requests) for c in found if (r := getattr(c, metric)) is not None]
    if not measured:
        return None
    load2, model2 = OF_THE_LOAD[metric] ** 2, OF_THE_MODEL[metric] ** 2
    shipped = math.log(limits[1] / limits[0]) / 2.0
    unseen2 = min(load2 if same else load2 + model2, (0.5 if same else 0.75) * shipped**2)
    weights = [1.0 / (unseen2 + (Z_80 * r.log_error) ** 2) for r, _ in measured]
    total = sum(weights)
    mean = sum(w * math.log(r.value) for w, (r, _) in zip(weights, measured, strict=True)) / total
    prior2 = max(shipped, abs(mean)) ** 2 - unseen2
    trust = prior2 / (prior2 + 1.0 / total)
    variance = trust / total + unseen2
    return Shift(math.exp(trust * mean), math.sqrt(variance), sum(n for _, n in measured))


def runtime_offset_bytes(d: Deployment) -> int:
    """Bytes of a device that the engine was seen to take beyond (or, negative, below) the ledger; 0 when nobody looked.

    Only of the same model, release, format and split: the latest measurement counts.
    """
    layout = (d.parallelism.tensor, d.parallelism.pipeline)
    seen = [
        c
        for c in d.machine.corrections
        if c.engine == d.engine.engine and is_same(c, d) and c.kv_cache_offset_bytes is not None
        and (c.tensor_parallel, c.pipeline_parallel) == layout
    ]  # fmt: skip
    if not seen:
        return 0
    latest = max(seen, key=lambda c: (c.date, c.name))
    assert latest.kv_cache_offset_bytes is not None
    return -latest.kv_cache_offset_bytes


def said(corrections: tuple[LocalCorrection, ...], engine: str, version: str, model: str, quantization: str) -> str:
    """The assumption line for a configuration of `engine` and `model`; empty when nothing here applies to it."""
    own = [c for c in corrections if c.engine == engine]
    asked = (version, model, quantization)
    same = [c for c in own if (c.engine_version, c.model, c.quantization) == asked]
    used = same or own
    if not used:
        return ""
    requests = sum(c.requests for c in used)
    last = max(c.date for c in used)
    loads = f"{len(used)} load{'s' * (len(used) > 1)}"
    told = f"calibrated here: {engine} on {used[0].device}, {loads}, {requests:,} requests, last {last}"
    if not same:
        others = ", ".join(sorted({f"{c.model} {c.quantization} on {c.engine_version}" for c in used}))
        told += f", of {others}: only what device and engine have in common is carried over"
    return f"{told} (--no-local-calibration)"
