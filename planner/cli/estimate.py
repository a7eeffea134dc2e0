"""`planner estimate`: memory and speed of exactly one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from planner.cli import options as opt
from planner.cli.emit import emit
from planner.errors import UsageError
from planner.units import parse_tokens

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = (
    "planner estimate --model llama3-8b --gpus 1xH100 --engine vllm --max-model-len 8192 --concurrency 64",
    "planner estimate --model llama3-70b --gpus 4xA100 --tp 4 -q awq -o json",
)


def estimate(
    model: opt.Model = None,
    gpus: opt.Gpus = None,
    gpu: opt.Gpu = None,
    num_gpus: opt.NumGpus = None,
    ram: opt.Ram = None,
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
    concurrency: opt.Concurrency = None,
    isl: opt.Isl = 1024,
    osl: opt.Osl = 256,
    request_rate: opt.RequestRate = None,
    arrival: opt.Arrival = None,
    lengths: opt.Lengths = None,
    shared_prefix: opt.SharedPrefix = None,
    speculative_tokens: opt.SpeculativeTokens = None,
    acceptance_rate: opt.AcceptanceRate = None,
    draft_cost: opt.DraftCost = None,
    offline: opt.Offline = False,
    local_calibration: opt.LocalCalibration = None,
    output: opt.OutputOption = opt.Output.table,
) -> None:
    """Memory ledger, TTFT, ITL and throughput of one configuration; what is left out is the engine's default.

    Exit 0 when it fits, 1 when it does not (the ledger says by how much), 2 for a wrong request.
    """
    from planner import api

    if gpu is not None and gpus is None:
        gpus = f"{num_gpus or 1}x{gpu}"
    if not model or not gpus:
        raise UsageError("estimate needs --model and --gpus, e.g. --model llama3-8b --gpus 1xH100")
    load: dict[str, Any] = {"input_tokens": isl, "output_tokens": osl}
    if lengths is not None:
        from planner.sources.lengths import length_fields

        load |= length_fields(lengths)
    result = api.estimate(
        model, gpus, ram=ram, engine=engine, engine_version=engine_version, quantization=quantization,
        tensor_parallel=1 if tp is None else tp, pipeline_parallel=1 if pp is None else pp,
        data_parallel=1 if dp is None else dp, expert_parallel=1 if ep is None else ep,
        replicas=1 if replicas is None else replicas, kv_cache_dtype=kv_cache_dtype or "auto",
        max_model_len=parse_tokens(max_model_len) if max_model_len else None,
        gpu_memory_utilization=gpu_memory_utilization, max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens, concurrency=concurrency,
        arrival=arrival or ("poisson" if request_rate is not None else "closed_loop"), request_rate=request_rate,
        shared_prefix_tokens=shared_prefix, speculative_tokens=speculative_tokens, acceptance_rate=acceptance_rate,
        draft_cost=draft_cost, local_calibration=local_calibration, **load,
    )  # fmt: skip

    def table(console: Console) -> None:
        from planner.report.terminal import print_estimate

        print_estimate(console, result)

    def data() -> dict[str, Any]:
        return result.to_dict()

    emit(output, data, table)
    if not result.memory.fits:
        raise typer.Exit(1)
