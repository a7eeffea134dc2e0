"""Configurations as rows, for tables of every kind. Computes nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.errors import UsageError
from planner.report.numbers import count, short
from planner.units import GIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planner.advise.fit import FitRow
    from planner.spec.plan import Configuration, Plan

COLUMNS = (
    "", "engine", "quantization", "TP", "PP", "DP", "EP", "replicas", "KV dtype", "context", "weights GiB",
    "KV tokens", "at once", "TTFT p50 ms", "ITL p50 ms", "output tok/s", "USD/M tok", "targets",
)  # fmt: skip
TEXT_COLUMNS = ("", "engine", "quantization")
"""Those read from their left edge; the others are numbers."""


def telling(configurations: Iterable[Configuration], first: str = "best") -> tuple[list[str], list[list[str]]]:
    """Names of the columns that say something here, and one row of text per configuration."""
    body = [_row(c, first if i == 0 else str(i + 1)) for i, c in enumerate(configurations)]
    kept = [i for i, name in enumerate(COLUMNS) if not _is_dull(name, {row[i] for row in body})]
    return [COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in body]


def _is_dull(name: str, values: set[str]) -> bool:
    """A column that says nothing here (all 1, all auto, no price)."""
    return name in ("PP", "DP", "EP", "replicas", "KV dtype", "USD/M tok") and values <= {"1", "auto", "–"}


def _row(c: Configuration, label: str) -> tuple[str, ...]:
    p, performance, price = c.parallelism, c.performance, c.cost.usd_per_million_output_tokens
    return (
        label,
        f"{c.engine.name} {c.engine.version}",
        c.quantization,
        str(p.tensor),
        str(p.pipeline),
        str(p.data),
        str(p.expert),
        str(p.replicas),
        c.kv_cache_dtype,
        f"{c.limits.max_model_len:,}",
        f"{c.memory.bytes_of('weights') / GIB:.2f}{_split(c)}",
        f"{c.memory.kv_cache_tokens:,}",
        f"{slots(c):,}",
        short(performance.usual_ttft_ms.p50.value) if performance else "–",
        short(performance.itl_ms.p50.value) if performance and performance.itl_ms else "–",
        short(performance.output_tokens_per_s.value) if performance else "–",
        short(price.value) if price else "–",
        {True: "met", False: "missed", None: "–"}[c.meets_slo],
    )


def layout(c: Configuration) -> str:
    """How the devices share the work, in words."""
    p = c.parallelism
    parts = [f"tensor parallel {p.tensor}"] if p.tensor > 1 else []
    parts += [f"{name} {n}" for name, n in (("pipeline", p.pipeline), ("data parallel", p.data)) if n > 1]
    parts += [f"{p.replicas} replicas"] if p.replicas > 1 else []
    parts += [f"{p.prefill} of them for prefill"] if p.prefill else []
    return ", ".join(parts) or ("one device" if c.hardware.count <= 1 else f"{c.hardware.count} devices")


def slots(c: Configuration) -> int:
    """Requests that the whole deployment runs at once."""
    return c.limits.max_num_seqs * c.parallelism.data * c.parallelism.decoders


def _split(c: Configuration) -> str:
    """How many layers are on the device, where not all are."""
    on_device, total = c.memory.offloaded_layers, c.memory.total_layers
    if c.hardware.accelerator is None or on_device == total:
        return ""
    return f" ({on_device} of {total} layers)"


def dataframe(plan: Plan) -> Any:
    """Best and alternatives as a pandas DataFrame with numeric columns."""
    try:
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise UsageError("to_dataframe() needs pandas; install it with `pip install pandas`") from None
    records = []
    for c in (plan.best, *plan.alternatives):
        performance, price = c.performance, c.cost.usd_per_million_output_tokens
        records.append(
            {
                "engine": c.engine.name,
                "engine_version": c.engine.version,
                "quantization": c.quantization,
                "kv_cache_dtype": c.kv_cache_dtype,
                **c.parallelism.model_dump(),
                "max_model_len": c.limits.max_model_len,
                "max_num_seqs": c.limits.max_num_seqs,
                "weight_bytes_per_device": c.memory.bytes_of("weights"),
                "kv_cache_tokens": c.memory.kv_cache_tokens,
                "ttft_ms_p50": float(performance.usual_ttft_ms.p50) if performance else None,
                "itl_ms_p50": float(performance.itl_ms.p50) if performance and performance.itl_ms else None,
                "output_tokens_per_s": float(performance.output_tokens_per_s) if performance else None,
                "usd_per_million_output_tokens": float(price) if price else None,
                "meets_slo": c.meets_slo,
            }
        )
    return pd.DataFrame.from_records(records)


FIT_COLUMNS = (
    "model", "parameters", "engine", "quantization", "TP", "context", "TTFT mean ms", "ITL mean ms", "output tok/s",
    "targets",
)  # fmt: skip


def fit_body(found: Iterable[FitRow]) -> list[tuple[str, ...]]:
    """Cells under FIT_COLUMNS of models that run on a machine."""
    return [
        (
            row.model + (f" (+{len(row.alike)} alike)" if row.alike else ""),
            count(row.parameters),
            row.engine,
            row.quantization,
            str(row.tensor_parallel),
            f"{row.context_tokens:,}",
            short(row.ttft_ms),
            short(row.itl_ms) if row.itl_ms is not None else "–",
            short(row.output_tokens_per_s),
            "met" if row.meets_slo else "missed",
        )
        for row in found
    ]
