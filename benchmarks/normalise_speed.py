"""Speed rows from the collections' own columns: closed loops, static batches, vendor tables.

Traps that are handled here: nanoseconds (NIM), total tokens/s (Argonne), throughput of a static batch
(Gaudi), lengths drawn from 0.8 to 1.0 of the nominal ones and expert parallelism that is called data parallelism
(closed loops of vLLM; `servers.yaml` says which). Names are `names.yaml`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normalise_memory import read

from planner.spec.measurement import LeftOut, SpeedRow

Found = Iterator[SpeedRow | LeftOut]
WHOLE_BATCH = 1 << 20
"""Step budget of engines that prefill a whole batch at once."""


class Names:
    """Our names for a collection's models and devices, case aside."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._models = {k.casefold(): v for k, v in names["models"].items()}
        self._devices = {k.casefold(): v for k, v in names["devices"].items()}

    def of(self, file: str, row: dict[str, str], metric: str, model: str, device: str) -> tuple[str, str] | LeftOut:
        """(model, device), or why there is none. Raises KeyError for a name that the mapping lacks."""
        ours, accelerator = self._models[model.casefold()], self._devices[device.casefold()]
        if ours and accelerator:
            return ours, accelerator
        reason = "model is not catalogued" if not ours else "device is not catalogued"
        return left(file, row, metric, reason, "unnamed", model, device)


def left(
    file: str, row: dict[str, str], metric: str, reason: str, kind: Any, model: str = "", device: str = ""
) -> LeftOut:
    """One row of a collection that is no row of ours."""
    return LeftOut(
        file=file, model=model or row["model"], accelerator=device or row["accelerator"], metric=metric, rows=1,
        kind=kind, reason=reason,
    )  # fmt: skip


def figure(value: float) -> float:
    """Five digits: more than any of these measurements has."""
    return float(f"{value:.5g}")


def vllm_closed_loop(truth: Path, names: Names, servers: list[dict[str, Any]]) -> Found:
    """vllm_closed_loop.csv: TTFT and TPOT of servers under closed-loop clients, started as `servers` tell."""
    file = "vllm_closed_loop.csv"
    seen: set[tuple[str, ...]] = set()
    for r in read(truth / file):
        identity = tuple(v for k, v in r.items() if k not in ("id", "source", "measured", "image"))
        for metric, column in (("ttft_ms_mean", "silicon_ttft_ms"), ("itl_ms_mean", "silicon_tpot_ms")):
            named = names.of(file, r, metric, r["model_path"], r["system"])
            if isinstance(named, LeftOut):
                yield named
                continue
            if identity in seen:
                yield left(file, r, metric, "the same run again", "repeats", r["model_path"], r["system"])
                continue
            quantization = "fp8-block" if r["precision"] == "fp8" and "MiniMax" in r["model_path"] else r["precision"]
            told = _server(servers, r, named, quantization)
            share, isl = told.get("length_share", 1.0), int(r["isl"])
            budget = told["step_prompts"] * isl if "step_prompts" in told else told.get("step_tokens", 8192)
            yield SpeedRow(
                engine="vllm", engine_version=told.get("engine_version", r["backend_version"]), model=named[0],
                quantization=quantization, kv_cache_dtype=told.get("kv_cache_dtype", "bf16"), accelerator=named[1],
                tensor=told.get("tensor", int(r["tp_size"])), pipeline=int(r["pp_size"] or 1),
                data=1 if told.get("experts_only") else int(r["attention_dp_size"] or 1),
                load="closed_loop", concurrency=int(r["concurrency"]),
                input_tokens=round(share * isl), output_tokens=round(share * int(r["osl"])), step_tokens=budget,
                metric=metric, value=figure(float(r[column])), settings=told.get("settings", ""),
                source=f"ai-dynamo/aiconfigurator silicon data ({r['source']})",
                url="https://github.com/ai-dynamo/aiconfigurator", date=r["measured"] or "2026-01-01",
            )  # fmt: skip
        seen.add(identity)


def _server(
    servers: list[dict[str, Any]], r: dict[str, str], named: tuple[str, str], quantization: str
) -> dict[str, Any]:
    """The first entry of servers.yaml that fits a row; empty where none does."""
    is_so = {"model": named[0], "accelerator": named[1], "quantization": quantization}
    for entry in servers:
        same = all(entry.get(k, v) == v for k, v in is_so.items())
        if same and r["measured"] in entry["dates"] and r["id"].endswith(tuple(entry.get("ids", [""]))):
            return entry
    return {}


def h200(truth: Path, names: Names) -> Found:
    """h200_vllm_burst.csv and h200_vllm_closed_loop.csv: vLLM 0.26.0 with dummy weights."""
    source = {"source": "vLLM 0.26.0 on one H200 SXM 141GB, dummy weights", "url": "", "date": "2026-08-31"}
    common: dict[str, Any] = {"engine": "vllm", "engine_version": "0.26.0", "kv_cache_dtype": "bf16", **source}
    file = "h200_vllm_burst.csv"
    for r in read(truth / file):
        named = names.of(file, r, "prefill_s", r["case"], r["accelerator"])
        assert not isinstance(named, LeftOut)
        for metric, value in (("prefill_s", float(r["t_prefill_s"])), ("itl_ms_mean", float(r["itl_ms"]))):
            yield SpeedRow(
                **common, model=named[0], quantization=r["case"].rpartition("-")[2], accelerator=named[1],
                load="static", concurrency=int(r["n"]), input_tokens=int(r["isl"]), output_tokens=int(r["osl"]),
                step_tokens=16384, metric=metric, value=value,
            )  # fmt: skip
    file = "h200_vllm_closed_loop.csv"
    columns = {
        "ttft_ms_mean": "ttft_ms_mean", "ttft_ms_p50": "ttft_ms_p50", "ttft_ms_p99": "ttft_ms_p99",
        "itl_ms_mean": "itl_ms_mean", "itl_ms_p50": "itl_ms_p50", "itl_ms_p99": "itl_ms_p99",
        "output_tokens_per_s": "out_tok_s",
    }  # fmt: skip
    for r in read(truth / file):
        named = names.of(file, r, "itl_ms_mean", r["case"], r["accelerator"])
        assert not isinstance(named, LeftOut)
        for metric, column in columns.items():
            started = int(r["n"]) < 2 * int(r["c"])
            if started and metric in ("ttft_ms_mean", "ttft_ms_p99", "itl_ms_mean"):
                reason = "fewer than two requests per client: the start-up wave is in it; the median is kept"
                yield left(file, r, metric, reason, "unusable", r["case"])
                continue
            yield SpeedRow(
                **common, model=named[0], quantization=r["case"].rpartition("-")[2], accelerator=named[1],
                load="closed_loop", concurrency=int(r["c"]), input_tokens=int(r["isl"]), output_tokens=int(r["osl"]),
                step_tokens=8192, metric=metric, value=float(r[column]), same_lengths=True,
                warm=not started,
            )  # fmt: skip


def nim(truth: Path, names: Names) -> Found:
    """nim_concurrency.csv: closed loops of NVIDIA NIM; nanoseconds."""
    file, kept = "nim_concurrency.csv", {"ttft_ns_mean": "ttft_ms_mean", "itl_ns_mean": "itl_ms_mean"}
    for r in read(truth / file):
        named = names.of(file, r, r["metric"], r["model"], r["accelerator"])
        if isinstance(named, LeftOut):
            yield named
        elif r["metric"] not in kept:
            yield left(file, r, r["metric"], "repeats another figure of the same run", "repeats")
        elif float(r["concurrency_or_batch"]) < 1:
            yield left(file, r, r["metric"], "no concurrency", "unusable")
        else:
            yield SpeedRow(
                **_common(r, named), engine="nim", engine_version="2024", load="closed_loop", step_tokens=8192,
                metric=kept[r["metric"]], value=figure(float(r["value"]) / 1e6), same_lengths=True,
                quantization=_narrow(r["weight_quant"])["quantization"], kv_cache_dtype="bf16", date="2024-07-01",
            )  # fmt: skip


def trtllm(truth: Path, names: Names) -> Found:
    """trtllm_static_batch.csv: static batches of TensorRT-LLM 0.9."""
    file = "trtllm_static_batch.csv"
    for r in read(truth / file):
        named = names.of(file, r, r["metric"], r["model"], r["accelerator"])
        if isinstance(named, LeftOut):
            yield named
        elif "Mixtral" in r["model"]:
            yield left(file, r, r["metric"], "fake weights: the router sends every token to the same two experts",
                       "unusable")  # fmt: skip
        elif r["metric"] not in ("ttft_ms_mean", "itl_ms_mean"):
            yield left(file, r, r["metric"], "repeats another figure of the same run", "repeats")
        else:
            yield SpeedRow(
                **_common(r, named), engine="tensorrt_llm", engine_version="0.9.0", load="static",
                step_tokens=WHOLE_BATCH, metric=r["metric"], value=figure(float(r["value"])),
                **_narrow(r["weight_quant"]), date="2024-04-01",
            )  # fmt: skip


def argonne(truth: Path, names: Names) -> Found:
    """argonne.csv: static batches of vLLM in 2024; total tokens/s, so the stated latency is taken."""
    file = "argonne.csv"
    for r in read(truth / file):
        named = names.of(file, r, r["metric"], r["model"], r["accelerator"])
        if isinstance(named, LeftOut):
            yield named
            continue
        latency = re.search(r"latency_s=([\d.]+)", r["notes"])
        prefill = r["metric"] == "ttft_s_batch"
        if not prefill and latency is None:
            yield left(file, r, r["metric"], "no latency", "unusable")
            continue
        value = float(r["value"]) if prefill or latency is None else float(latency[1])
        fp8 = r["weight_quant"].casefold() == "fp8"
        yield SpeedRow(
            **_common(r, named), engine="vllm", engine_version=r["engine_version"] or "0.4", load="static",
            step_tokens=8192, metric="prefill_s" if prefill else "e2e_s", value=figure(value),
            quantization="fp8" if fp8 else "fp16", kv_cache_dtype="fp8" if r["kv_dtype"] == "fp8" else "bf16",
            date="2024-07-01",
        )  # fmt: skip


def mi300x(truth: Path, names: Names) -> Found:
    """amd_mi300x_vllm.csv: end-to-end latency of static batches."""
    file = "amd_mi300x_vllm.csv"
    for r in read(truth / file):
        named = names.of(file, r, r["metric"], r["model"], r["accelerator"])
        if isinstance(named, LeftOut):
            yield named
        elif r["metric"] != "e2e_latency_s":
            yield left(file, r, r["metric"], "saturated offline run: no batch, and which tokens count is not said",
                       "unusable")  # fmt: skip
        else:
            yield SpeedRow(
                **_common(r, named), engine="vllm", engine_version=r["engine_version"].split()[0], load="static",
                step_tokens=131072, metric="e2e_s", value=figure(float(r["value"])), quantization="fp8",
                kv_cache_dtype="bf16", date=_date(r["date"]),
            )  # fmt: skip


def gaudi(truth: Path, names: Names) -> Found:
    """gaudi.csv: vendor tables; a static batch's throughput told as the time it takes."""
    file = "gaudi.csv"
    for r in read(truth / file):
        named = names.of(file, r, r["metric"], r["model"], r["accelerator"])
        if isinstance(named, LeftOut):
            yield named
            continue
        prefill = r["metric"] == "ttft_ms_p50"
        batch, osl = float(r["concurrency_or_batch"] or 1), float(r["output_len"] or 1)
        value = float(r["value"]) / 1e3 if prefill else batch * osl / float(r["value"])
        yield SpeedRow(
            **{**_common(r, named), "tensor": int(r["n_accel"] or 1)}, engine="vllm",
            engine_version="optimum-habana 1.18", load="static", step_tokens=16384,
            metric="prefill_s" if prefill else "e2e_s", value=figure(value), quantization="fp8", kv_cache_dtype="fp8",
            date="2024-10-01",
        )  # fmt: skip


def _common(r: dict[str, str], named: tuple[str, str]) -> dict[str, Any]:
    return {
        "model": named[0], "accelerator": named[1], "tensor": int(r["tp"] or r["n_accel"] or 1),
        "pipeline": int(r["pp"] or 1), "concurrency": int(float(r["concurrency_or_batch"] or 1)),
        "input_tokens": int(r["input_len"] or 0), "output_tokens": int(r["output_len"] or 0), "source": r["source"],
        "url": r["url"],
    }  # fmt: skip


def _narrow(quant: str) -> dict[str, str]:
    """FP8 engines of TensorRT-LLM keep an FP8 cache."""
    fp8 = quant == "FP8"
    return {"quantization": "fp8" if fp8 else "fp16", "kv_cache_dtype": "fp8" if fp8 else "bf16"}


def _date(text: str) -> str:
    found = re.match(r"(\d{4})-(\d\d)(?:-(\d\d))?", text)
    return f"{found[1]}-{found[2]}-{found[3] or '01'}" if found else "2025-01-01"
