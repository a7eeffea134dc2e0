"""Flags that several verbs share, spelled as the field spells them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


def go_offline(wanted: bool) -> bool:
    """`--offline`: nothing in this process touches the network from here on."""
    if wanted:
        os.environ["PLANNER_OFFLINE"] = "1"
    return wanted


class Output(StrEnum):
    """Forms of an answer on stdout."""

    table = "table"
    json = "json"
    yaml = "yaml"


LOAD, LAYOUT, LIMITS, CHOICE = "Load and targets", "Layout", "Limits", "Choice"

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table, json or yaml on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Alias (llama3-70b), Hub id (org/name[:Q4_K_M]), folder, .gguf, or ollama:NAME:TAG.",
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        help="2xA100, 8xH100-SXM, 1xM3-Max-64GB, cpu, cpu:epyc-9654, aws:p5.48xlarge, detect. None: search.",
    ),
]
Gpu = Annotated[str | None, typer.Option("--gpu", "--system", help="Device name; with --num-gpus, instead of --gpus.")]
NumGpus = Annotated[int | None, typer.Option("--num-gpus", "--total-gpus", help="How many of --gpu.")]
Ram = Annotated[str | None, typer.Option("--ram", help="Host memory, e.g. 48GiB.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        "--backend",
        help="vllm, tgi, ollama; for estimates also llamacpp, nim, tensorrt_llm.",
        rich_help_panel=CHOICE,
    ),
]
EngineVersion = Annotated[str | None, typer.Option("--engine-version", help="e.g. 0.33.0.", rich_help_panel=CHOICE)]
Quantization = Annotated[
    str | None, typer.Option("--quantization", "-q", help="bf16, fp8, awq, Q4_K_M …", rich_help_panel=CHOICE)
]
KvCacheDtype = Annotated[str | None, typer.Option("--kv-cache-dtype", help="auto, fp8, q8_0 …", rich_help_panel=CHOICE)]
Isl = Annotated[int, typer.Option("--isl", "--input-len", help="Input tokens per request.", rich_help_panel=LOAD)]
Osl = Annotated[int, typer.Option("--osl", "--output-len", help="Output tokens per request.", rich_help_panel=LOAD)]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        "-c",
        help="Users at once, over the whole deployment. Default 32 on servers, 1 on personal machines.",
        rich_help_panel=LOAD,
    ),
]
RequestRate = Annotated[
    float | None,
    typer.Option(
        "--request-rate", "--target-request-rate", help="Requests per second (Poisson).", rich_help_panel=LOAD
    ),
]
Arrival = Annotated[str | None, typer.Option("--arrival", help="closed_loop, burst or poisson.", rich_help_panel=LOAD)]
Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        help="How lengths differ: fixed, uniform:0.5, lognormal:0.8 or a .csv/.jsonl of requests that were seen.",
        rich_help_panel=LOAD,
    ),
]
SharedPrefix = Annotated[
    int | None,
    typer.Option("--shared-prefix", help="Leading input tokens that all requests share.", rich_help_panel=LOAD),
]
SpeculativeTokens = Annotated[
    int | None, typer.Option("--speculative-tokens", help="Tokens drafted per step.", rich_help_panel=LOAD)
]
AcceptanceRate = Annotated[
    float | None, typer.Option("--acceptance-rate", help="Share of drafted tokens accepted, 0–1.", rich_help_panel=LOAD)
]
DraftCost = Annotated[
    float | None,
    typer.Option("--draft-cost", help="Time of a draft token, as share of a decode step.", rich_help_panel=LOAD),
]
StaticBatches = Annotated[
    bool, typer.Option("--static-batches", help="Serve one batch after the other.", rich_help_panel=LOAD)
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of arrivals and lengths.", rich_help_panel=LOAD)]
Ttft = Annotated[float | None, typer.Option("--ttft", help="Target time to first token, ms.", rich_help_panel=LOAD)]
Itl = Annotated[
    float | None, typer.Option("--itl", "--tpot", help="Target inter-token latency, ms.", rich_help_panel=LOAD)
]
SloPercentile = Annotated[
    float, typer.Option("--slo-percentile", help="Percentile the targets hold at.", rich_help_panel=LOAD)
]
Objective = Annotated[
    str | None, typer.Option("--objective", help="throughput, latency, cost or quality.", rich_help_panel=CHOICE)
]
Policy = Annotated[
    str, typer.Option("--policy", help="guide, or maintained: no engine in maintenance.", rich_help_panel=CHOICE)
]
MinQuality = Annotated[
    str | None,
    typer.Option("--min-quality", help="Lossiest format allowed, e.g. fp8 or Q4_K_M.", rich_help_panel=CHOICE),
]
Require = Annotated[
    str | None,
    typer.Option("--require", help="Comma-separated: grammar, watermark, openai, kubernetes …", rich_help_panel=CHOICE),
]
Tp = Annotated[int | None, typer.Option("--tp", help="Tensor parallel size.", rich_help_panel=LAYOUT)]
Pp = Annotated[int | None, typer.Option("--pp", help="Pipeline parallel size.", rich_help_panel=LAYOUT)]
Dp = Annotated[int | None, typer.Option("--dp", help="Data parallel size inside one engine.", rich_help_panel=LAYOUT)]
Ep = Annotated[int | None, typer.Option("--ep", help="Expert parallel size.", rich_help_panel=LAYOUT)]
Replicas = Annotated[
    int | None, typer.Option("--replicas", help="Whole copies behind a balancer.", rich_help_panel=LAYOUT)
]
MaxModelLen = Annotated[
    str | None, typer.Option("--max-model-len", help="Context per request: 8192, 32k.", rich_help_panel=LIMITS)
]
GpuMemoryUtilization = Annotated[
    float | None,
    typer.Option("--gpu-memory-utilization", help="Share of device memory, 0–1.", rich_help_panel=LIMITS),
]
MaxNumSeqs = Annotated[
    int | None, typer.Option("--max-num-seqs", help="Requests that one engine runs at once.", rich_help_panel=LIMITS)
]
MaxNumBatchedTokens = Annotated[
    int | None, typer.Option("--max-num-batched-tokens", help="Tokens per engine step.", rich_help_panel=LIMITS)
]
Top = Annotated[int, typer.Option("--top", "--top-n", help="How many alternatives or rows.")]
Budget = Annotated[
    str | None,
    typer.Option("--budget", help="USD per hour, e.g. 5/h: search priced instances.", rich_help_panel=CHOICE),
]
Cheapest = Annotated[bool, typer.Option("--cheapest", help="Search priced instances for the lowest cost per token.")]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", callback=go_offline, is_eager=True, help="Never touch the network; also PLANNER_OFFLINE=1."
    ),
]
LocalCalibration = Annotated[
    bool | None,
    typer.Option(
        "--local-calibration/--no-local-calibration", help="Use what `planner calibrate` measured here; default yes.",
    ),
]  # fmt: skip
FEATURES, SITE = "Features", "Site"
Speculative = Annotated[
    str | None,
    typer.Option(
        "--speculative", help="Draft tokens by ngram, draft_model, eagle, eagle3 or mtp.", rich_help_panel=FEATURES
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option("--draft-model", help="Repository of the drafting model or head.", rich_help_panel=FEATURES),
]
Lora = Annotated[
    list[str] | None,
    typer.Option("--lora", help="Adapter: NAME=org/repository; may be repeated.", rich_help_panel=FEATURES),
]
MaxLoraRank = Annotated[
    int | None, typer.Option("--max-lora-rank", help="Largest rank of the adapters; 16.", rich_help_panel=FEATURES)
]
PrefixCaching = Annotated[
    bool | None,
    typer.Option("--prefix-caching/--no-prefix-caching", help="Keep KV of shared prompts.", rich_help_panel=FEATURES),
]
Tools = Annotated[bool, typer.Option("--tools", help="The server parses tool calls.", rich_help_panel=FEATURES)]
ToolParser = Annotated[
    str | None, typer.Option("--tool-parser", help="Parser other than the model family's.", rich_help_panel=FEATURES)
]
Reasoning = Annotated[
    bool, typer.Option("--reasoning", help="Thoughts are kept apart from answers.", rich_help_panel=FEATURES)
]
ReasoningParser = Annotated[
    str | None,
    typer.Option("--reasoning-parser", help="Parser other than the model family's.", rich_help_panel=FEATURES),
]
StructuredOutput = Annotated[
    str | None,
    typer.Option("--structured-output", help="auto, xgrammar, guidance or outlines.", rich_help_panel=FEATURES),
]
Watermark = Annotated[bool, typer.Option("--watermark", help="Mark generated tokens (TGI).", rich_help_panel=FEATURES)]
Disaggregated = Annotated[
    bool,
    typer.Option("--disaggregated", help="Prefill and decode in pods of their own (llm-d).", rich_help_panel=FEATURES),
]
Registry = Annotated[
    str | None, typer.Option("--registry", help="Mirror to pull images from: HOST/PATH.", rich_help_panel=SITE)
]
PullSecret = Annotated[
    str | None, typer.Option("--pull-secret", help="Name of the cluster's pull secret.", rich_help_panel=SITE)
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="pvc:CLAIM/PATH, oci:IMAGE, s3://BUCKET/PATH or dir:/PATH instead of the Hub.",
        rich_help_panel=SITE,
    ),
]
CaBundle = Annotated[
    str | None, typer.Option("--ca-bundle", help="PEM file of the certificates to trust.", rich_help_panel=SITE)
]
HttpsProxy = Annotated[
    str | None, typer.Option("--proxy", help="http://HOST:PORT for HTTP and HTTPS.", rich_help_panel=SITE)
]
NoProxy = Annotated[
    str | None, typer.Option("--no-proxy", help="Hosts that are reached directly.", rich_help_panel=SITE)
]
NoHub = Annotated[
    bool, typer.Option("--no-hub", help="Nothing is fetched from the Hub at run time.", rich_help_panel=SITE)
]
PlanArgument = Annotated[Path, typer.Argument(help="A plan.yaml, or the folder that holds one.")]
SaveDir = Annotated[
    Path | None, typer.Option("--save-dir", "--output-dir", help="Write the plan's files there, all or none.")
]
