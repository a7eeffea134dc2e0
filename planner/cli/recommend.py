"""`planner recommend`: the whole job, from a request to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit, note

if TYPE_CHECKING:
    from rich.console import Console


def recommend(
    model: opt.Model = None,
    gpus: opt.Gpus = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="A request as YAML; flags override it.")] = None,
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
    budget: opt.Budget = None,
    cheapest: opt.Cheapest = False,
    top: opt.Top = 5,
    save_dir: opt.SaveDir = None,
    offline: opt.Offline = False,
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
        arrival=arrival, objective=objective, policy=policy, require=require, min_quality=min_quality, engine=engine,
        engine_version=engine_version, quantization=quantization, kv_cache_dtype=kv_cache_dtype, tensor_parallel=tp,
        pipeline_parallel=pp, data_parallel=dp, expert_parallel=ep, replicas=replicas, max_model_len=max_model_len,
        max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens,
        gpu_memory_utilization=gpu_memory_utilization, budget_usd_per_hour=budget, cheapest=cheapest or None, top=top,
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
