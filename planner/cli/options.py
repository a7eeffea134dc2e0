"""Flags that several verbs share, spelled as the field spells them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.values import folder


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

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Form of the answer on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Alias (llama3-70b), Hub id (org/name[@revision][:Q4_K_M]), folder, .gguf, or ollama:NAME:TAG.",
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="MACHINE",
        help="2xA100, 8xH100-SXM, 1xM3-Max-64GB, cpu, cpu:epyc-9654, aws:p5.48xlarge, or detect for this machine. "
        "Left out: every catalogued accelerator is tried, where the verb can search.",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option("--gpu", "--system", metavar="NAME", help="Device name; with --num-gpus, instead of --gpus."),
]
NumGpus = Annotated[
    int | None, typer.Option("--num-gpus", "--total-gpus", metavar="N", help="How many of --gpu. Default 1.")
]
Ram = Annotated[
    str | None, typer.Option("--ram", metavar="SIZE", help="Host memory with its unit, e.g. 48GiB or 64GB.")
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        "--backend",
        metavar="NAME",
        help="vllm, tgi, ollama; for estimates also llamacpp, nim, tensorrt_llm.",
        rich_help_panel=CHOICE,
    ),
]
EngineVersion = Annotated[
    str | None,
    typer.Option(
        "--engine-version",
        metavar="X.Y.Z",
        help="e.g. 0.33.0. Default: the newest that runs here.",
        rich_help_panel=CHOICE,
    ),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        "--quantization", "-q", metavar="FORMAT", help="bf16, fp8, awq, gptq-int4, Q4_K_M …", rich_help_panel=CHOICE
    ),
]
KvCacheDtype = Annotated[
    str | None, typer.Option("--kv-cache-dtype", metavar="DTYPE", help="auto, fp8, q8_0 …", rich_help_panel=CHOICE)
]
Isl = Annotated[
    int, typer.Option("--isl", "--input-len", metavar="TOKENS", help="Input tokens per request.", rich_help_panel=LOAD)
]
Osl = Annotated[
    int,
    typer.Option("--osl", "--output-len", metavar="TOKENS", help="Output tokens per request.", rich_help_panel=LOAD),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        "-c",
        metavar="N",
        help="Users at once, over the whole deployment. Default: 32 on data-centre and workstation devices, 1 on "
        "Apple, CPU, Jetson and GeForce.",
        rich_help_panel=LOAD,
    ),
]
RequestRate = Annotated[
    float | None,
    typer.Option(
        "--request-rate",
        "--target-request-rate",
        metavar="PER_S",
        help="Requests per second, at random (Poisson).",
        rich_help_panel=LOAD,
    ),
]
Arrival = Annotated[
    str | None,
    typer.Option("--arrival", metavar="HOW", help="closed_loop (default), burst or poisson.", rich_help_panel=LOAD),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        metavar="HOW",
        help="How lengths differ: fixed, uniform:0.5, lognormal:0.8 or a .csv/.jsonl of requests that were seen.",
        rich_help_panel=LOAD,
    ),
]
SharedPrefix = Annotated[
    int | None,
    typer.Option(
        "--shared-prefix", metavar="TOKENS", help="Leading input tokens that all requests share.", rich_help_panel=LOAD
    ),
]
SpeculativeTokens = Annotated[
    int | None,
    typer.Option("--speculative-tokens", metavar="N", help="Tokens drafted per step, up to 32.", rich_help_panel=LOAD),
]
AcceptanceRate = Annotated[
    float | None,
    typer.Option(
        "--acceptance-rate",
        metavar="SHARE",
        help="Share of drafted tokens accepted, 0–1. Default 0.7.",
        rich_help_panel=LOAD,
    ),
]
DraftCost = Annotated[
    float | None,
    typer.Option(
        "--draft-cost",
        metavar="SHARE",
        help="Time of a draft token, as share of a decode step, 0–1. Default 0.1.",
        rich_help_panel=LOAD,
    ),
]
StaticBatches = Annotated[
    bool, typer.Option("--static-batches", help="Serve one batch after the other.", rich_help_panel=LOAD)
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Of arrivals and lengths. Default 0.", rich_help_panel=LOAD)
]
Ttft = Annotated[
    float | None,
    typer.Option("--ttft", metavar="MS", help="Target time to first token, ms. Default 2000.", rich_help_panel=LOAD),
]
Itl = Annotated[
    float | None,
    typer.Option(
        "--itl", "--tpot", metavar="MS", help="Target inter-token latency, ms. Default 100.", rich_help_panel=LOAD
    ),
]
SloPercentile = Annotated[
    float,
    typer.Option(
        "--slo-percentile", metavar="P", help="Percentile the targets hold at, 50–99.9.", rich_help_panel=LOAD
    ),
]
Objective = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="WHAT",
        help="throughput, latency, cost or quality. Default: throughput for several users, latency for one.",
        rich_help_panel=CHOICE,
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        "--policy", metavar="WHICH", help="guide, or maintained: no engine in maintenance.", rich_help_panel=CHOICE
    ),
]
MinQuality = Annotated[
    str | None,
    typer.Option(
        "--min-quality", metavar="FORMAT", help="Lossiest format allowed, e.g. fp8 or Q4_K_M.", rich_help_panel=CHOICE
    ),
]
Require = Annotated[
    str | None,
    typer.Option(
        "--require",
        metavar="LIST",
        help="Comma-separated: grammar, watermark, openai, kubernetes …",
        rich_help_panel=CHOICE,
    ),
]
Tp = Annotated[
    int | None,
    typer.Option("--tp", "--tensor-parallel-size", metavar="N", help="Tensor parallel size.", rich_help_panel=LAYOUT),
]
Pp = Annotated[
    int | None,
    typer.Option(
        "--pp", "--pipeline-parallel-size", metavar="N", help="Pipeline parallel size.", rich_help_panel=LAYOUT
    ),
]
Dp = Annotated[
    int | None,
    typer.Option(
        "--dp",
        "--data-parallel-size",
        metavar="N",
        help="Data parallel size inside one engine.",
        rich_help_panel=LAYOUT,
    ),
]
Ep = Annotated[int | None, typer.Option("--ep", metavar="N", help="Expert parallel size.", rich_help_panel=LAYOUT)]
Replicas = Annotated[
    int | None, typer.Option("--replicas", metavar="N", help="Whole copies behind a balancer.", rich_help_panel=LAYOUT)
]
MaxModelLen = Annotated[
    str | None,
    typer.Option(
        "--max-model-len",
        metavar="TOKENS",
        help="Context per request: 8192, 32k (32,000) or 32K (32,768).",
        rich_help_panel=LIMITS,
    ),
]
GpuMemoryUtilization = Annotated[
    float | None,
    typer.Option(
        "--gpu-memory-utilization", metavar="SHARE", help="Share of device memory, 0–1.", rich_help_panel=LIMITS
    ),
]
MaxNumSeqs = Annotated[
    int | None,
    typer.Option("--max-num-seqs", metavar="N", help="Requests that one engine runs at once.", rich_help_panel=LIMITS),
]
MaxNumBatchedTokens = Annotated[
    int | None,
    typer.Option("--max-num-batched-tokens", metavar="TOKENS", help="Tokens per engine step.", rich_help_panel=LIMITS),
]
Top = Annotated[int, typer.Option("--top", "--top-n", metavar="N", help="How many alternatives or rows.")]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="USD",
        help="Per hour, day or month, e.g. 5/h: search priced instances.",
        rich_help_panel=CHOICE,
    ),
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
        "--speculative",
        metavar="HOW",
        help="Draft tokens by ngram, draft_model, eagle, eagle3 or mtp.",
        rich_help_panel=FEATURES,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        "--draft-model", metavar="REPO", help="Repository of the drafting model or head.", rich_help_panel=FEATURES
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="NAME=REPO", help="Adapter: NAME=org/repository; may be repeated.", rich_help_panel=FEATURES
    ),
]
MaxLoraRank = Annotated[
    int | None,
    typer.Option(
        "--max-lora-rank", metavar="N", help="Largest rank of the adapters. Default 16.", rich_help_panel=FEATURES
    ),
]
PrefixCaching = Annotated[
    bool | None,
    typer.Option("--prefix-caching/--no-prefix-caching", help="Keep KV of shared prompts.", rich_help_panel=FEATURES),
]
Tools = Annotated[bool, typer.Option("--tools", help="The server parses tool calls.", rich_help_panel=FEATURES)]
ToolParser = Annotated[
    str | None,
    typer.Option(
        "--tool-parser", metavar="NAME", help="Parser other than the model family's.", rich_help_panel=FEATURES
    ),
]
Reasoning = Annotated[
    bool, typer.Option("--reasoning", help="Thoughts are kept apart from answers.", rich_help_panel=FEATURES)
]
ReasoningParser = Annotated[
    str | None,
    typer.Option(
        "--reasoning-parser", metavar="NAME", help="Parser other than the model family's.", rich_help_panel=FEATURES
    ),
]
StructuredOutput = Annotated[
    str | None,
    typer.Option(
        "--structured-output", metavar="NAME", help="auto, xgrammar, guidance or outlines.", rich_help_panel=FEATURES
    ),
]
Watermark = Annotated[bool, typer.Option("--watermark", help="Mark generated tokens (TGI).", rich_help_panel=FEATURES)]
Disaggregated = Annotated[
    bool,
    typer.Option("--disaggregated", help="Prefill and decode in pods of their own (llm-d).", rich_help_panel=FEATURES),
]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry", metavar="HOST/PATH", help="Mirror to pull images from: HOST/PATH.", rich_help_panel=SITE
    ),
]
PullSecret = Annotated[
    str | None,
    typer.Option("--pull-secret", metavar="NAME", help="Name of the cluster's pull secret.", rich_help_panel=SITE),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="PLACE",
        help="pvc:CLAIM/PATH, oci:IMAGE, s3://BUCKET/PATH or dir:/PATH instead of the Hub.",
        rich_help_panel=SITE,
    ),
]
CaBundle = Annotated[
    str | None,
    typer.Option("--ca-bundle", metavar="FILE", help="PEM file of the certificates to trust.", rich_help_panel=SITE),
]
HttpsProxy = Annotated[
    str | None,
    typer.Option("--proxy", metavar="URL", help="http://HOST:PORT for HTTP and HTTPS.", rich_help_panel=SITE),
]
NoProxy = Annotated[
    str | None,
    typer.Option("--no-proxy", metavar="HOSTS", help="Hosts that are reached directly.", rich_help_panel=SITE),
]
NoHub = Annotated[
    bool, typer.Option("--no-hub", help="Nothing is fetched from the Hub at run time.", rich_help_panel=SITE)
]
Rdma = Annotated[
    str | None,
    typer.Option(
        "--rdma",
        metavar="RESOURCE[=N]",
        help="Device of the network between nodes that each pod asks for, e.g. rdma/hca_shared_devices_a.",
        rich_help_panel=SITE,
    ),
]
TopologyKey = Annotated[
    str | None,
    typer.Option(
        "--topology-key",
        metavar="LABEL",
        help="Label of nodes of one network domain; a replica over several nodes gets one to itself.",
        rich_help_panel=SITE,
    ),
]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.yaml, or the folder that holds one.")]
SaveDir = Annotated[
    Path | None,
    typer.Option(
        "--save-dir", "--output-dir", metavar="DIR", parser=folder, help="Write the plan's files there, all or none."
    ),
]
