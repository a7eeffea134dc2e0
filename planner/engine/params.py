"""What a request may ask of the sampler, with its limits. Knows nothing of HTTP; `protocol` builds these from JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from planner.errors import PlannerError, UsageError


class RequestError(UsageError):
    """The request cannot be served as asked; over HTTP a 400. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class QueueFullError(PlannerError):
    """The queue bound is reached; over HTTP a 503 with Retry-After."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """`temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off; `max_tokens` None is up to the context.

    `schema` is a JSON schema that the output must satisfy. Raises RequestError outside the limits.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    schema: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        limits = {
            "temperature": (0.0, 2.0), "top_p": (1e-9, 1.0), "min_p": (0.0, 1.0), "repetition_penalty": (0.01, 10.0),
            "presence_penalty": (-2.0, 2.0), "frequency_penalty": (-2.0, 2.0), "top_k": (0, 1 << 31),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise RequestError(f"{name} must be from {low:g} to {high:g}, got {value}", name)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RequestError(f"max_tokens must be at least 1, got {self.max_tokens}", "max_tokens")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise RequestError("seed must be from 0 to 2**63 - 1", "seed")
        if len(self.stop) > 16 or any(not 0 < len(s) <= 1000 for s in self.stop):
            raise RequestError("stop must be at most 16 strings of 1 to 1000 characters", "stop")

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-5

    @property
    def penalized(self) -> bool:
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
