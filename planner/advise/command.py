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
    "shared_prefix_tokens": "--shared-prefix",
    "speculative_tokens": "--speculative-tokens",
    "acceptance_rate": "--acceptance-rate",
    "draft_cost": "--draft-cost",
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
    if request.length_distribution == "empirical":
        words += ["--lengths", "FILE.csv"]
    elif request.length_distribution != "fixed":
        words += ["--lengths", f"{request.length_distribution}:{request.length_variation:g}"]
    if request.require:
        words += ["--require", ",".join(request.require)]
    if request.cheapest:
        words.append("--cheapest")
    if request.local_calibration is False:
        words.append("--no-local-calibration")
    if verb == "recommend":
        words += _beyond(request)
    return shlex.join(words)


_BEYOND = {
    "features": {
        "speculative": "--speculative",
        "draft_model": "--draft-model",
        "lora_adapters": "--lora",
        "max_lora_rank": "--max-lora-rank",
        "prefix_caching": "--prefix-caching",
        "tool_calling": "--tools",
        "tool_parser": "--tool-parser",
        "reasoning": "--reasoning",
        "reasoning_parser": "--reasoning-parser",
        "structured_output": "--structured-output",
        "watermark": "--watermark",
        "disaggregated": "--disaggregated",
    },
    "site": {
        "registry": "--registry",
        "pull_secret": "--pull-secret",
        "weights": "--weights",
        "ca_bundle": "--ca-bundle",
        "https_proxy": "--proxy",
        "no_proxy": "--no-proxy",
        "hub": "--hub",
        "rdma": "--rdma",
        "topology_key": "--topology-key",
    },
}


def _beyond(request: Request) -> list[str]:
    """Features and site: a list repeats its flag, a truth is a bare one, an untruth `--no-`."""
    words: list[str] = []
    for group, flags in _BEYOND.items():
        held = getattr(request, group)
        given = held.model_dump(exclude_defaults=True) if held is not None else {}
        for field, flag in flags.items():
            value = given.get(field)
            if value is True or value is False:
                words.append(flag if value else flag.replace("--", "--no-", 1))
            elif value is not None:
                for each in value if isinstance(value, tuple) else (value,):
                    words += [flag, str(each)]
    return words
