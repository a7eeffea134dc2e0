"""Memory rows from the collections' own columns: start-up logs of vLLM and llama.cpp, GGUF sizes.

Which model, card and release a log is about, and why a log is no row of ours, is
`catalog/measurements/names.yaml`; nothing is decided here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planner.spec.measurement import LeftOut, MemoryRow

Names = dict[str, Any]
LOG = "start-up log in a public file"
"""Source of rows whose collection names no link."""
COLUMNS = {
    "weights_gib": ("weights_gib", "weights"), "activations_gib": ("activation_peak_gib", "activation"),
    "runtime_gib": ("non_torch_gib", "runtime"), "cuda_graphs_gib": ("cuda_graph_gib", "graphs"),
    "kv_gib": ("kv_gib", "kv"), "kv_tokens": ("kv_tokens", "kv"),
}  # fmt: skip
"""Our metric, the collection's column, and the name by which names.yaml picks some of them."""


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def vllm_logs(truth: Path, names: Names) -> Iterator[MemoryRow | LeftOut]:
    """memory_vllm.csv: one row per figure of each log that names.yaml names."""
    mapping = names["memory_vllm"]
    for log in read(truth / "memory_vllm.csv"):
        told = mapping.get(log["id"])
        why = told.get("left_out") if told else None
        if told is None or why:
            reason = why or "model, card or release is not named, or not catalogued"
            yield LeftOut(file="memory_vllm.csv", model=log["model"], accelerator=log["gpu"], metric="start-up log",
                          rows=1, kind="unusable" if why else "unnamed", reason=reason)  # fmt: skip
            continue
        only = told.get("only")
        for metric, (column, name) in COLUMNS.items():
            value = _number(log[column])
            if metric == "kv_tokens" and value is None and log["gpu_blocks"] and log["block_size"]:
                value = float(log["gpu_blocks"].replace(",", "")) * float(log["block_size"])
            if value is None or (only and name not in only) or (told.get("adapters") and name in ("weights", "graphs")):
                continue
            yield MemoryRow(
                engine="vllm", engine_version=told["version"], model=told["model"],
                quantization=told.get("quantization", "fp16" if "fp16" in log["dtype_quant"] else "bf16"),
                kv_cache_dtype="bf16", accelerator=told["device"], tensor=int(log["tp"] or 1),
                pipeline=int(log["pp"] or 1), metric=metric, value=value, source=_source(log), url=_url(log),
                date=_date(log["version"]), total_gib=_number(log["total_gpu_memory_gib"]) or 0.0,
                gpu_memory_utilization=_number(log["gpu_memory_utilization"]) or 0.0,
                max_model_len=int(_number(log["max_model_len"]) or 0), max_num_seqs=int(log["max_num_seqs"] or 0),
                max_num_batched_tokens=int(_number(log["max_num_batched_tokens"]) or 0),
                eager=log["enforce_eager"] == "True", what="device", exact_version=told.get("exact", True),
                grade=log["quality"],
                logged_weights_gib=(_number(log["weights_gib"]) or 0.0) if told.get("adapters") else 0.0,
            )  # fmt: skip


def h200_logs(truth: Path, names: Names) -> Iterator[MemoryRow]:
    """h200_vllm_memory.csv: what vLLM 0.26.0 reported of itself."""
    columns = {
        "weights_gib": "weights_gib", "activations_gib": "activation_peak_gib", "runtime_gib": "non_torch_gib",
        "cuda_graphs_gib": "cuda_graph_gib", "kv_gib": "kv_available_gib", "kv_tokens": "kv_tokens",
    }  # fmt: skip
    for log in read(truth / "h200_vllm_memory.csv"):
        for metric, column in columns.items():
            yield MemoryRow(
                engine="vllm", engine_version="0.26.0", model=names["models"][log["case"]],
                quantization=log["case"].rpartition("-")[2], kv_cache_dtype="bf16", accelerator="h200-sxm",
                metric=metric, value=float(log[column]), source="vLLM 0.26.0 on one H200 SXM 141GB, dummy weights",
                url="", date="2026-08-31", total_gib=139.80,
                gpu_memory_utilization=float(log["gpu_memory_utilization"]),
                max_model_len=int(log["max_model_len"]), max_num_seqs=int(log["max_num_seqs"]),
                max_num_batched_tokens=int(log["max_num_batched_tokens"]), what="device",
            )  # fmt: skip


def llamacpp_logs(truth: Path, names: Names) -> Iterator[MemoryRow | LeftOut]:
    """memory_llamacpp_ollama.csv: the sum of the buffers that a log states for one device."""
    mapping = names["memory_llamacpp"]
    for log in read(truth / "memory_llamacpp_ollama.csv"):
        mine = [m for m in mapping if (m["engine"], m["model"]) == (log["engine"], log["model"])]
        usable = [m for m in mine if "left_out" not in m]
        if not usable:
            fork = log["engine"].startswith("ik_")
            reason = mine[0]["left_out"] if mine else "model or quantization is not named, or no buffer is stated"
            yield LeftOut(
                file="memory_llamacpp_ollama.csv", model=log["model"], accelerator=log["gpu"], metric="buffers",
                rows=1, kind="unusable" if fork or mine else "unnamed",
                reason="the ik_ fork has buffers and mixes of its own" if fork else reason,
            )  # fmt: skip
        for m in usable:
            yield MemoryRow(
                engine="ollama" if "Ollama" in m["engine"] else "llamacpp", engine_version="", model=m["ours"],
                quantization=m["quantization"], kv_cache_dtype=m.get("kv", "fp16"),
                accelerator=m["device"] or "rtx-4090", tensor=m.get("devices", 1), metric="buffers_mib",
                value=round(sum(m["buffers"]), 2), source=_source(log), url=_url(log), date="2025-01-01",
                max_model_len=m["context"], max_num_seqs=m.get("slots", 1), flash_attention=m.get("flash", True),
                what="device", parts=m["parts"], device=m.get("index", 0), gpu_layers=m.get("gpu_layers", -1),
                micro_batch=m.get("micro_batch", 0), exact_version=False,
            )  # fmt: skip


def gguf_sizes(truth: Path, names: Names) -> Iterator[MemoryRow | LeftOut]:
    """sizes.csv: GGUF files of upstream types with three digits or more; the rest is left out with a reason."""
    models, readings, odd = names["gguf_models"], names["gguf_tensors_only"], names["gguf_left_out"]
    imatrix = names["gguf_imatrix"]
    for size in read(truth / "sizes.csv"):
        name, mix = size["model"], _mix(size["quant"])
        found = re.match(r"([\d.,]+)\s*(GiB|GB|MiB|bytes)", size["size"])
        reason, kind = "", "unusable"
        if name not in models:
            reason, kind = "model is not catalogued, or its mix is a custom one", "unnamed"
        elif not found or mix not in names["gguf_types"]:
            reason = "no upstream ggml type or no size of a file"
        elif len(re.sub(r"\D", "", found[1]).lstrip("0")) < 3:
            reason = "two digits"
        elif f"{name} {mix}" in odd:
            reason = odd[f"{name} {mix}"]
        if reason or found is None:
            yield LeftOut(
                file="sizes.csv", model=name, accelerator="", metric="size", rows=1, kind=kind, reason=reason
            )  # fmt: skip
            continue
        unit = {"GiB": 1 << 30, "MiB": 1 << 20, "GB": 10**9, "bytes": 1}[found[2]]
        yield MemoryRow(
            engine="llamacpp", engine_version="", model=models[name], quantization=f"gguf:{mix}",
            kv_cache_dtype="fp16", accelerator="", metric="size_bytes",
            value=round(float(found[1].replace(",", "")) * unit), source=_source(size), url=_url(size),
            date="2025-01-01", imatrix=f"{name} {mix}" in imatrix,
            what="tensors" if f"{name} {mix}" in readings else "file", exact_version=False,
        )  # fmt: skip


def _mix(quant: str) -> str:
    """`Q4_K - Medium` → Q4_K_M, `q3_K_L` → Q3_K_L."""
    short = re.sub(r"\s+-\s+(\w)\w*$", lambda m: f"_{m[1].upper()}", quant).strip()
    return short[:1].upper() + short[1:]


def _number(text: str) -> float | None:
    found = re.search(r"exact ([\d.]+)%", text) or re.match(r"\s*(-?[\d.,]+)\s*(%)?", text)
    if not found or not re.search(r"\d", found[1]):
        return None
    value = float(found[1].replace(",", ""))
    return value / 100 if "%" in text else value


def _source(row: dict[str, str]) -> str:
    url = _url(row)
    if not url:
        return LOG
    return "/".join(url.split("/")[3:]).removesuffix(".md") if "github.com" in url else url.split("/")[2]


def _url(row: dict[str, str]) -> str:
    url = row["source_url"].split(",")[0].split("unlinked")[0].strip().rstrip(")")
    return url if url.startswith("http") else ""


def _date(text: str) -> str:
    found = re.search(r"(20\d\d-\d\d-\d\d)", text)
    return found[1] if found else "2025-01-01"
