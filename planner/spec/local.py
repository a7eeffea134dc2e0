"""What one probe of a deployment measured, beside what was estimated for it: the user's own calibration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Spec

STORE_VERSION = 1


class Ratio(Spec):
    """Measured / estimated, and how unsure the measured value is: the standard error of its logarithm."""

    value: float = Field(gt=0)
    log_error: float = Field(ge=0)


class LocalCorrection(Spec):
    """One measured load on one device, engine release, model and format.

    The latencies are ratios of p50 over `requests` requests, the throughput that of the whole load. The offsets are
    bytes per device, measured − ledger; None where neither log nor metrics were given.
    """

    device: str
    """Id of the accelerator or CPU; `cpu` for one that is not catalogued."""
    engine: str
    engine_version: str
    model: str
    quantization: str
    tensor_parallel: int = Field(ge=1)
    pipeline_parallel: int = Field(ge=1)
    date: str
    concurrency: int = Field(ge=1)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    requests: int = Field(ge=1)
    ttft: Ratio
    itl: Ratio | None = None
    output_tokens_per_s: Ratio
    weights_offset_bytes: int | None = None
    kv_cache_offset_bytes: int | None = None

    @property
    def name(self) -> str:
        """What tells it from others: a new measurement of the same replaces it."""
        return (
            f"{self.device}/{self.engine}-{self.engine_version}/{self.model}/{self.quantization}/"
            f"tp{self.tensor_parallel}-pp{self.pipeline_parallel}/"
            f"c{self.concurrency}-i{self.input_tokens}-o{self.output_tokens}"
        )


class LocalStore(Spec):
    """The file of all corrections."""

    schema_version: Literal[1]
    corrections: tuple[LocalCorrection, ...]
