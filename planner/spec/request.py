"""What a user asks for, as flags, keyword arguments or a YAML file give it. Nothing resolved yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from planner.spec.base import Spec
from planner.spec.features import Features, SpeculativeMethod
from planner.spec.site import Site

Tokens = Annotated[int, Field(ge=1, le=16_777_216)]
Objective = Literal["throughput", "latency", "cost", "quality"]
Policy = Literal["guide", "maintained"]
Arrival = Literal["closed_loop", "burst", "poisson"]
Distribution = Literal["fixed", "uniform", "lognormal", "empirical"]
Requirement = Literal[
    "openai", "grammar", "watermark", "kubernetes", "openshift", "managed", "offline", "hf_hub", "simple",
    "prototype", "local", "tool_calling", "lora", "speculative", "prefix_caching", "multi_gpu", "multi_node",
]  # fmt: skip

DEFAULT_DRAFTS: dict[SpeculativeMethod, int] = {"ngram": 4, "draft_model": 4, "eagle": 3, "eagle3": 3, "mtp": 1}
"""Tokens drafted per step where the request names a method only; a prediction layer is trained for one."""


_NUMBERS = (int, float, int | None, float | None)


class Request(Spec):
    """One planning question. Field for field the flags of `planner recommend`.

    Tokens are counts per request, times milliseconds, `budget_usd_per_hour` of the whole machine.
    None means: the default that `advise/` documents and prints as an assumption.
    """

    model: str = Field(min_length=1, max_length=512)
    gpus: str | None = Field(default=None, max_length=256)
    ram: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tensor_parallel: int | None = Field(default=None, ge=1, le=1024)
    pipeline_parallel: int | None = Field(default=None, ge=1, le=256)
    data_parallel: int | None = Field(default=None, ge=1, le=1024)
    expert_parallel: int | None = Field(default=None, ge=1, le=1024)
    replicas: int | None = Field(default=None, ge=1, le=1024)
    input_tokens: int = Field(default=1024, ge=1, le=16_777_216)
    output_tokens: int = Field(default=256, ge=1, le=16_777_216)
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000)
    request_rate: float | None = Field(default=None, gt=0, le=1e6)
    arrival: Arrival = "closed_loop"
    length_distribution: Distribution = "fixed"
    """How lengths differ between requests; `input_tokens` and `output_tokens` are their means."""
    length_variation: float = Field(default=0.5, gt=0, le=3)
    """uniform: lengths are mean × (1 ± this), at most 1; lognormal: standard deviation over mean."""
    length_samples: tuple[tuple[Tokens, Tokens], ...] = Field(default=(), max_length=1024)
    """empirical: (input, output) tokens of requests that were seen."""
    shared_prefix_tokens: int = Field(default=0, ge=0, le=16_777_216)
    """Leading input tokens that all requests have in common (a system prompt)."""
    speculative_tokens: int = Field(default=0, ge=0, le=32)
    """Tokens drafted per step; 0 without speculative decoding."""
    acceptance_rate: float = Field(default=0.7, ge=0, le=1)
    """Probability that a drafted token is accepted after those before it were."""
    draft_cost: float = Field(default=0.1, ge=0, le=1)
    """Time of drafting one token, as a share of a decode step; 0 for n-grams."""
    static_batches: bool = False
    """Fill a batch, serve all of it, then fill the next, whatever the engine could do."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Of arrivals and lengths."""
    ttft_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    itl_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    slo_percentile: float = Field(default=99.0, ge=50, le=99.9)
    objective: Objective | None = None
    policy: Policy = "guide"
    min_quality: str | None = None
    require: tuple[Requirement, ...] = ()
    max_model_len: int | None = Field(default=None, ge=16, le=16_777_216)
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_seqs: int | None = Field(default=None, ge=1, le=100_000)
    max_num_batched_tokens: int | None = Field(default=None, ge=16, le=4_194_304)
    features: Features | None = None
    """Drafts, adapters, parsers, grammars, a watermark; None: as the engine has them."""
    site: Site | None = None
    """Mirror, proxy, certificates and weights at hand; None: an open network."""
    local_calibration: bool | None = None
    """False leaves out what this user measured (`planner calibrate`); None uses it where there is any."""
    budget_usd_per_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cheapest: bool = False
    top: int = Field(default=5, ge=1, le=100)

    @field_validator("require", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"must be a list, such as [{value}]"[:200])
        return value

    @field_validator("engine")
    @classmethod
    def _as_catalogued(cls, name: str | None) -> str | None:
        """Engines as the catalog spells them: llama.cpp is llamacpp, TensorRT-LLM tensorrt_llm."""
        plain = "".join(c for c in (name or "").casefold() if c.isalnum())
        return {"": None, "tensorrtllm": "tensorrt_llm", "trtllm": "tensorrt_llm"}.get(plain, plain)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, data: Any) -> Any:
        """`true` is no 1 and text no number, as the published schema has it."""
        for name, field in cls.model_fields.items() if isinstance(data, dict) else ():
            value = data.get(name)
            if field.annotation in _NUMBERS and isinstance(value, (bool, str)):
                raise ValueError(f"{name}: must be a number, not {value!r}"[:200])
        return data

    @model_validator(mode="before")
    @classmethod
    def _features_ask(cls, data: Any) -> Any:
        """A feature implies the requirement that the guide knows; a method of drafting implies how much it drafts."""
        asked = data.get("features") if isinstance(data, dict) else None
        if asked is None:
            return data
        wanted = Features.model_validate(asked)
        implied: dict[Requirement, bool] = {
            "speculative": wanted.speculative is not None,
            "lora": bool(wanted.lora_adapters),
            "prefix_caching": bool(wanted.prefix_caching),
            "tool_calling": wanted.tool_calling,
            "grammar": wanted.structured_output is not None,
            "watermark": wanted.watermark,
        }
        given = data.get("require") or ()
        required = (*given, *(need for need, so in implied.items() if so and need not in given))
        more: dict[str, Any] = {"features": wanted, "require": required}
        if wanted.speculative is not None and not data.get("speculative_tokens"):
            more["speculative_tokens"] = wanted.draft_tokens or DEFAULT_DRAFTS[wanted.speculative]
        if wanted.speculative == "ngram" and "draft_cost" not in data:
            more["draft_cost"] = 0.0
        return data | more

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.length_distribution == "empirical") != bool(self.length_samples):
            raise ValueError("length_samples: belong to length_distribution empirical, and it to them")
        if self.length_distribution == "uniform" and self.length_variation > 1:
            raise ValueError("length_variation: of uniform lengths is at most 1")
        if self.shared_prefix_tokens >= self.input_tokens:
            raise ValueError(f"shared_prefix_tokens: must be below input_tokens, {self.input_tokens}")
        return self
