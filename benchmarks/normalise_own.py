"""Our own measurements of vLLM on an H200 and on one and two H100 (benchmarks/measure_vllm.py), in our schemas.

Reads the two tables that the measuring script leaves; says which of its rows are no rows of ours, and why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normalise_memory import read

from planner.sources.catalog import load
from planner.spec.measurement import LeftOut, MemoryRow, SpeedRow

MODELS = {
    "Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B", "Llama-3.1-70B-Instruct": "meta-llama/Llama-3.1-70B",
    "Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B", "Qwen3-30B-A3B-FP8": "Qwen/Qwen3-30B-A3B", "Qwen3-32B": "Qwen/Qwen3-32B",
    "DeepSeek-V2-Lite": "deepseek-ai/DeepSeek-V2-Lite", "gpt-oss-20b": "openai/gpt-oss-20b",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "gemma-3-12b-it": "google/gemma-3-12b-it", "gemma-2-9b": "google/gemma-2-9b", "phi-4": "microsoft/phi-4",
    "Qwen2.5-14B": "Qwen/Qwen2.5-14B", "Qwen2.5-32B": "Qwen/Qwen2.5-32B", "Qwen3-14B": "Qwen/Qwen3-14B",
    "Llama-3.2-3B": "meta-llama/Llama-3.2-3B", "OLMoE-1B-7B-0125-Instruct": "allenai/OLMoE-1B-7B-0125-Instruct",
}  # fmt: skip
CLOSED = {
    "closed_loop_ttft_mean": "ttft_ms_mean", "closed_loop_tpot_mean": "itl_ms_mean",
    "closed_loop_ttft_p50": "ttft_ms_p50", "closed_loop_tpot_p50": "itl_ms_p50",
    "closed_loop_ttft_p99": "ttft_ms_p99", "closed_loop_tpot_p99": "itl_ms_p99",
    "throughput_out": "output_tokens_per_s",
}  # fmt: skip
"""Their ITL is over tokens; ours is per request, which they call TPOT."""
MEMORY = {
    "weights": "weights_gib", "activation_peak": "activations_gib", "non_torch": "runtime_gib",
    "cuda_graphs": "cuda_graphs_gib", "kv_available": "kv_gib", "kv_tokens": "kv_tokens",
}  # fmt: skip
REPEATS = {"decode_step_p50", "prefill_rate", "burst_total", "decode_context_mean"}
FEW_ROUTED = 4
"""gpt-oss with random weights takes hardly longer for 32 sequences than for 4, also with routers evened out (1.1 ms
more than one sequence on the 20B model, whose experts take 2.1 ms to read): they share their experts."""
SHORT_TOKENS = 1024
"""Handing over a prompt and the connector that skips prefills cost some 5 ms, which hides fewer tokens than these."""
FLAT, HIDDEN = 1.25, 3.0
"""Where 2048 tokens take less than FLAT times as long as 1024, both waited for the host (28 ms, both, on a model of
3B), and it takes a good part of every prefill that is not HIDDEN times as long."""
DRAINING_CLIENTS = 128
"""Clients from which on the last of three rounds, in which nobody sends again, is felt in the mean over tokens: a
replay of the very protocol takes 13 to 20 % less than the steady state there."""
ALONE = "slices alone"
"""Of runs of one device's slice without the others."""
SPREAD = "spread weights"
"""Routers evened out and packed integers random: what a run says of itself in its settings."""
TEXT_ONLY = {"gemma-3-12b-it"}
"""Decoders that were run without the towers of their checkpoints."""
OTHER_CONTEXT = {"gemma-3-12b-it": "run from a config with 163,840 positions, which no published checkpoint has"}
COMPILED_BELOW = 2.0
"""A prefill that takes less than this times as long with four times the tokens was slowed by a compilation."""


def speed(path: Path, devices: dict[str, str | None]) -> Iterator[SpeedRow | LeftOut]:
    """Steps, prefills, bursts and closed loops; `devices` maps what the driver calls a card to our name."""
    rows, catalog = read(path), load()
    contexts = {_run(r): float(r["value"]) for r in rows if r["metric"] == "decode_context_mean"}
    prefills = {(_setup(r), r["batch"], r["input_len"]): float(r["value"]) for r in rows if r["metric"] == "prefill"}
    for r in rows:
        device = devices[r["accelerator"]]
        why, kind = _why_not(r, prefills)
        if why:
            yield LeftOut(file=path.name, model=r["model"], accelerator=r["accelerator"], metric=r["metric"], rows=1,
                          kind=kind, reason=why)  # fmt: skip
            continue
        batch, isl, osl, value = int(r["batch"]), int(r["input_len"]), int(r["output_len"]), float(r["value"])
        common: dict[str, Any] = {
            "engine": "vllm", "engine_version": r["engine_version"], "model": MODELS[r["model"]],
            "quantization": r["quantization"], "kv_cache_dtype": r["kv_dtype"], "accelerator": device,
            "tensor": int(r["tp"]), "source": r["source"], "url": "", "date": r["date"], "concurrency": batch,
            "step_tokens": _setting(r, "max_num_batched_tokens"), "value": value,
            "layers": _kept(r, catalog.model(MODELS[r["model"]]).n_layers),
        }  # fmt: skip
        if r["metric"] == "decode_step":
            context = round(contexts.get(_run(r), isl + osl / 2))
            yield SpeedRow(**common, load="bench", metric="decode_step_ms", input_tokens=0, output_tokens=0,
                           context_tokens=context)  # fmt: skip
        elif r["metric"] in CLOSED:
            yield SpeedRow(**common, load="closed_loop", metric=CLOSED[r["metric"]], input_tokens=isl,
                           output_tokens=osl, same_lengths=True, warm=True)  # fmt: skip
        else:
            metric = "itl_ms_mean" if r["metric"] == "burst_itl" else "prefill_s"
            yield SpeedRow(**common, load="static", metric=metric, input_tokens=isl, output_tokens=osl)


def memory(path: Path, devices: dict[str, str | None]) -> Iterator[MemoryRow | LeftOut]:
    """What the engine reported of itself at start."""
    rows = read(path)
    layers = {r["model"]: max(_setting(x, "layers") for x in rows if x["model"] == r["model"]) for r in rows}
    totals = {_setup(r): float(r["value"]) for r in rows if r["metric"] == "total"}
    seen: set[tuple[str, ...]] = set()
    for r in rows:
        metric = MEMORY.get(r["metric"])
        eager = "cudagraph_mode NONE" in r["settings"]
        if "profile repeated" in r["settings"] or _setting(r, "layers") not in (0.0, layers[r["model"]]):
            yield LeftOut(file=path.name, model=r["model"], accelerator=r["accelerator"], metric=r["metric"], rows=1,
                          kind="unusable", reason="an experiment with four layers or a repeated profile")  # fmt: skip
            continue
        if metric is None or r["model"] not in MODELS or not float(r["value"]):
            yield LeftOut(file=path.name, model=r["model"], accelerator=r["accelerator"], metric=r["metric"], rows=1,
                          kind="repeats", reason="not a figure of the ledger")  # fmt: skip
            continue
        same = (_setup(r).removesuffix(f"; {SPREAD}"), r["metric"], r["value"])
        if same in seen:
            yield LeftOut(file=path.name, model=r["model"], accelerator=r["accelerator"], metric=r["metric"], rows=1,
                          kind="repeats", reason="the same start-up once more")  # fmt: skip
            continue
        seen.add(same)
        if metric == "weights_gib" and r["model"] in OTHER_CONTEXT:
            yield LeftOut(file=path.name, model=r["model"], accelerator=r["accelerator"], metric=r["metric"], rows=1,
                          kind="unusable", reason=OTHER_CONTEXT[r["model"]])  # fmt: skip
            continue
        yield MemoryRow(
            engine="vllm", engine_version=r["engine_version"], model=MODELS[r["model"]], quantization=r["quantization"],
            kv_cache_dtype=r["kv_dtype"], accelerator=str(devices[r["accelerator"]]), tensor=int(r["tp"]),
            metric=metric, value=float(r["value"]), source=r["source"], url="", date=r["date"],
            total_gib=totals.get(_setup(r), 139.801),
            gpu_memory_utilization=_setting(r, "utilisation"), max_model_len=int(_setting(r, "max_model_len")),
            max_num_seqs=int(_setting(r, "max_num_seqs")),
            max_num_batched_tokens=int(_setting(r, "max_num_batched_tokens")), eager=eager, what="device",
            text_only=r["model"] in TEXT_ONLY,
        )  # fmt: skip


def _why_not(r: dict[str, str], prefills: dict[tuple[str, str, str], float]) -> tuple[str, Any]:
    if r["model"] not in MODELS:
        return "model is not named", "unnamed"
    if r["metric"] in REPEATS or (r["metric"].startswith("closed_loop") and r["metric"] not in CLOSED):
        return "repeats another figure of the same run", "repeats"
    if r["metric"] == "closed_loop_tpot_mean" and int(r["batch"]) >= DRAINING_CLIENTS:
        return "three requests a client: the last round drains without prompts; the median is kept", "unusable"
    if ALONE in r["settings"]:
        return "one slice of a tensor group alone; what it takes less than the group are the all-reduces", "unusable"
    if "cudagraph_mode NONE" in r["settings"]:
        return "eager mode, which no plan asks for", "unusable"
    spread = SPREAD in r["settings"]
    many = int(r["batch"]) > FEW_ROUTED or not r["metric"].startswith("decode")
    biased = r["model"].startswith("gpt-oss") and many
    if "concentrate the routing" in r["settings"] or biased:
        return "random weights send most tokens to few experts", "unusable"
    if r["metric"] == "prefill" and int(r["batch"]) * int(r["input_len"]) <= SHORT_TOKENS:
        return "short prompts wait for the measuring script: 7.8 ms without it, 9.6 to 18.5 ms with it", "unusable"
    if r["metric"] == "prefill" and _waits_for_the_host(r, prefills):
        return "the host takes most of the time: 2048 tokens took hardly longer than 1024", "unusable"
    if spread and r["quantization"] == "awq" and not r["metric"].startswith("decode"):
        return (
            "random 4-bit values draw more power than the zeros of the other runs: prefill is a sixth slower",
            "unusable",
        )
    if spread and r["quantization"] == "mxfp4" and r["metric"].startswith("burst"):
        return "Triton kernels were compiled for steps of mixed lengths while it ran", "unusable"
    if r["metric"] == "prefill" and int(r["batch"]) > 1 and _slower_than_one_prompt(r, prefills):
        return (
            "kernels were compiled while it ran: one prompt of as many tokens took less than half as long",
            "unusable",
        )
    more = prefills.get((_setup(r), r["batch"], str(4 * int(r["input_len"]))))
    if r["metric"] == "prefill" and more and int(r["input_len"]) >= 1024 and more < COMPILED_BELOW * float(r["value"]):
        return "kernels were compiled while it ran: four times as many tokens took hardly longer", "unusable"
    return "", "repeats"


def _waits_for_the_host(r: dict[str, str], prefills: dict[tuple[str, str, str], float]) -> bool:
    """Whether handing over and launching took a good part of the time."""
    short, longer = (prefills.get((_setup(r), "1", tokens)) for tokens in ("1024", "2048"))
    return bool(short and longer and longer < FLAT * short and float(r["value"]) < HIDDEN * short)


def _slower_than_one_prompt(r: dict[str, str], prefills: dict[tuple[str, str, str], float]) -> bool:
    """Whether a token of a batch took over twice as long as one of the longest single prompt."""
    single = [(int(n), s) for (setup, batch, n), s in prefills.items() if setup == _setup(r) and batch == "1"]
    if not single:
        return False
    tokens, seconds = max(single)
    return float(r["value"]) / (int(r["batch"]) * int(r["input_len"])) > COMPILED_BELOW * seconds / tokens


def _kept(r: dict[str, str], whole: int) -> int:
    """Decoder layers of a model that was cut short, 0 for all."""
    layers = int(_setting(r, "layers"))
    return layers if layers < whole else 0


def _setup(r: dict[str, str]) -> str:
    return "|".join((r["model"], r["quantization"], r["kv_dtype"], r["settings"]))


def _run(r: dict[str, str]) -> str:
    return "|".join((_setup(r), r["batch"], r["input_len"], r["output_len"]))


def _setting(r: dict[str, str], name: str) -> float:
    """A number of the `settings` column, 0 when it says nothing of it."""
    found = defaultdict(
        str, (part.strip().rsplit(" ", 1) for part in r["settings"].replace(",", ";").split(";") if " " in part.strip())
    )
    text = found[name]
    return float(text) if text.replace(".", "").isdigit() else 0.0
