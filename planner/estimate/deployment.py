"""The one thing that estimators take: a fully resolved deployment, and the load on it."""

from __future__ import annotations

from planner.records import dataclass
from planner.spec.engine import EngineRelease
from planner.spec.hardware import Machine
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.plan import Limits, Parallelism
from planner.spec.quantization import KvFormat, QuantizationFormat
from planner.spec.request import Arrival


@dataclass(frozen=True, slots=True)
class Deployment:
    """A configuration with nothing left open. `limits` are the engine's, defaults resolved."""

    model: ModelSpec
    quantization: QuantizationFormat
    kv_format: KvFormat
    machine: Machine
    engine: EngineRelease
    parallelism: Parallelism
    limits: Limits
    native_compute: bool = True
    """False when the format is widened to 16 bits before the multiply (weight-only kernels)."""
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Load on the whole deployment. Tokens per request; `request_rate` in requests/s (poisson)."""

    input_tokens: int
    output_tokens: int
    concurrency: int
    arrival: Arrival = "closed_loop"
    request_rate: float | None = None
    same_lengths: bool = False
    """Every answer has `output_tokens` exactly. Clients of a closed loop then stay in step: those whose
    prompts went through one step end together and send again together."""
