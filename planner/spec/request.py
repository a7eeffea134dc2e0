"""What a user asks for, as flags, keyword arguments or a YAML file give it. Nothing resolved yet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from planner.spec.base import Spec

Objective = Literal["throughput", "latency", "cost", "quality"]
Policy = Literal["guide", "maintained"]
Arrival = Literal["closed_loop", "burst", "poisson"]
Requirement = Literal[
    "openai", "grammar", "watermark", "kubernetes", "openshift", "managed", "offline", "hf_hub", "simple",
    "prototype", "local", "tool_calling", "lora", "speculative", "prefix_caching", "multi_gpu", "multi_node",
]  # fmt: skip


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
    ttft_ms: float | None = Field(default=None, gt=0)
    itl_ms: float | None = Field(default=None, gt=0)
    slo_percentile: float = Field(default=99.0, ge=50, le=99.9)
    objective: Objective | None = None
    policy: Policy = "guide"
    min_quality: str | None = None
    require: tuple[Requirement, ...] = ()
    max_model_len: int | None = Field(default=None, ge=16, le=16_777_216)
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_seqs: int | None = Field(default=None, ge=1, le=100_000)
    max_num_batched_tokens: int | None = Field(default=None, ge=16, le=4_194_304)
    budget_usd_per_hour: float | None = Field(default=None, gt=0)
    cheapest: bool = False
    top: int = Field(default=5, ge=1, le=100)

    @field_validator("engine")
    @classmethod
    def _as_catalogued(cls, name: str | None) -> str | None:
        """Engines as the catalog spells them: llama.cpp is llamacpp, TensorRT-LLM tensorrt_llm."""
        plain = "".join(c for c in (name or "").casefold() if c.isalnum())
        return {"": None, "tensorrtllm": "tensorrt_llm", "trtllm": "tensorrt_llm"}.get(plain, plain)
