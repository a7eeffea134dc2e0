"""`planner recommend`: the whole job, from a request to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, note

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner recommend --model llama3-70b --gpus 2xA100 --save-dir out",
    "planner recommend --model qwen3-8b --gpus 1xL4 --ttft 500 --itl 40 --concurrency 8",
    "planner recommend --model llama3-8b --cheapest --request-rate 5",
    "planner recommend -f request.yaml -o json",
)


def recommend(
    model: opt.Model = None,
    gpus: opt.Gpus = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f", "--file", metavar="FILE", help="A request as YAML (docs/request.schema.json); flags override it."
        ),
    ] = None,
    gpu: opt.Gpu = None,
    num_gpus: opt.NumGpus = None,
    ram: opt.Ram = None,
    concurrency: opt.Concurrency = None,
    isl: opt.Isl = 1024,
    osl: opt.Osl = 256,
    ttft: opt.Ttft = None,
    itl: opt.Itl = None,
    slo_percentile: opt.SloPercentile = 99.0,
    request_rate: opt.RequestRate = None,
    arrival: opt.Arrival = None,
    lengths: opt.Lengths = None,
    shared_prefix: opt.SharedPrefix = None,
    speculative_tokens: opt.SpeculativeTokens = None,
    acceptance_rate: opt.AcceptanceRate = None,
    draft_cost: opt.DraftCost = None,
    objective: opt.Objective = None,
    policy: opt.Policy = "guide",
    require: opt.Require = None,
    min_quality: opt.MinQuality = None,
    engine: opt.Engine = None,
    engine_version: opt.EngineVersion = None,
    quantization: opt.Quantization = None,
    kv_cache_dtype: opt.KvCacheDtype = None,
    tp: opt.Tp = None,
    pp: opt.Pp = None,
    dp: opt.Dp = None,
    ep: opt.Ep = None,
    replicas: opt.Replicas = None,
    max_model_len: opt.MaxModelLen = None,
    max_num_seqs: opt.MaxNumSeqs = None,
    max_num_batched_tokens: opt.MaxNumBatchedTokens = None,
    gpu_memory_utilization: opt.GpuMemoryUtilization = None,
    speculative: opt.Speculative = None,
    draft_model: opt.DraftModel = None,
    lora: opt.Lora = None,
    max_lora_rank: opt.MaxLoraRank = None,
    prefix_caching: opt.PrefixCaching = None,
    tools: opt.Tools = False,
    tool_parser: opt.ToolParser = None,
    reasoning: opt.Reasoning = False,
    reasoning_parser: opt.ReasoningParser = None,
    structured_output: opt.StructuredOutput = None,
    watermark: opt.Watermark = False,
    disaggregated: opt.Disaggregated = False,
    registry: opt.Registry = None,
    pull_secret: opt.PullSecret = None,
    weights: opt.Weights = None,
    ca_bundle: opt.CaBundle = None,
    proxy: opt.HttpsProxy = None,
    no_proxy: opt.NoProxy = None,
    no_hub: opt.NoHub = False,
    rdma: opt.Rdma = None,
    topology_key: opt.TopologyKey = None,
    budget: opt.Budget = None,
    cheapest: opt.Cheapest = False,
    top: opt.Top = 5,
    save_dir: opt.SaveDir = None,
    offline: opt.Offline = False,
    local_calibration: opt.LocalCalibration = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Choose engine, quantization, parallelism and limits; explain; write files.

    Exit 0 with a plan, 1 when nothing fits (a ladder of ways out on stderr), 2 for a wrong request.
    """
    from planner import api
    from planner.cli.request import build_request

    request = build_request(
        file,
        model=model, gpus=gpus, gpu=gpu, num_gpus=num_gpus, ram=ram, concurrency=concurrency, input_tokens=isl,
        output_tokens=osl, ttft_ms=ttft, itl_ms=itl, slo_percentile=slo_percentile, request_rate=request_rate,
        arrival=arrival, lengths=lengths, shared_prefix_tokens=shared_prefix, speculative_tokens=speculative_tokens,
        acceptance_rate=acceptance_rate, draft_cost=draft_cost, objective=objective, policy=policy, require=require,
        min_quality=min_quality, engine=engine, engine_version=engine_version, quantization=quantization,
        kv_cache_dtype=kv_cache_dtype, tensor_parallel=tp, pipeline_parallel=pp, data_parallel=dp, expert_parallel=ep,
        replicas=replicas, max_model_len=max_model_len, max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens, gpu_memory_utilization=gpu_memory_utilization,
        budget_usd_per_hour=budget, cheapest=cheapest or None, top=top,
        local_calibration=local_calibration,
        features={
            "speculative": speculative, "draft_model": draft_model, "lora_adapters": lora,
            "max_lora_rank": max_lora_rank, "prefix_caching": prefix_caching, "tool_calling": tools or None,
            "tool_parser": tool_parser, "reasoning": reasoning or None, "reasoning_parser": reasoning_parser,
            "structured_output": structured_output, "watermark": watermark or None,
            "disaggregated": disaggregated or None,
        },
        site={
            "registry": registry, "pull_secret": pull_secret, "weights": weights, "ca_bundle": ca_bundle,
            "http_proxy": proxy, "https_proxy": proxy, "no_proxy": no_proxy, "hub": False if no_hub else None,
            "rdma": rdma, "topology_key": topology_key,
        },
    )  # fmt: skip
    result = api.recommend_request(request)
    saved = result.save(save_dir) if save_dir is not None else ()

    def table(console: Console) -> None:
        from planner.report.terminal import print_plan

        print_plan(console, result.plan, saved)

    def data() -> dict[str, Any]:
        return result.to_dict()

    emit(output, data, table)
    if saved and output is not opt.Output.table:
        note(f"{len(saved)} files written to {save_dir}")
