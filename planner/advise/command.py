"""A request as the command line that asks it, quoted for a POSIX shell."""

from __future__ import annotations

import shlex

from planner.spec.request import Request

_FLAGS = {
    "gpus": "--gpus",
    "ram": "--ram",
    "engine": "--engine",
    "engine_version": "--engine-version",
    "quantization": "--quantization",
    "kv_cache_dtype": "--kv-cache-dtype",
    "tensor_parallel": "--tp",
    "pipeline_parallel": "--pp",
    "data_parallel": "--dp",
    "expert_parallel": "--ep",
    "replicas": "--replicas",
    "input_tokens": "--isl",
    "output_tokens": "--osl",
    "concurrency": "--concurrency",
    "request_rate": "--request-rate",
    "arrival": "--arrival",
    "ttft_ms": "--ttft",
    "itl_ms": "--itl",
    "slo_percentile": "--slo-percentile",
    "objective": "--objective",
    "policy": "--policy",
    "min_quality": "--min-quality",
    "max_model_len": "--max-model-len",
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_num_seqs": "--max-num-seqs",
    "max_num_batched_tokens": "--max-num-batched-tokens",
    "budget_usd_per_hour": "--budget",
    "top": "--top",
}


def command(request: Request, verb: str = "recommend") -> str:
    """`planner VERB …` with every field that differs from its default."""
    words = ["planner", verb, "--model", request.model]
    given = request.model_dump(exclude_defaults=True)
    for field, flag in _FLAGS.items():
        value = given.get(field)
        if value is not None:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    if request.require:
        words += ["--require", ",".join(request.require)]
    if request.cheapest:
        words.append("--cheapest")
    return shlex.join(words)
