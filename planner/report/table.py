"""Configurations as rows, for tables of every kind. Computes nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.errors import UsageError
from planner.report.numbers import short
from planner.units import gib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planner.spec.plan import Configuration, Plan

COLUMNS = (
    "", "engine", "quantization", "TP", "PP", "DP", "EP", "replicas", "KV dtype", "context", "weights", "KV tokens",
    "TTFT p50", "ITL p50", "tok/s", "USD/M tok", "targets",
)  # fmt: skip


def rows(configurations: Iterable[Configuration], first: str = "best") -> list[tuple[str, ...]]:
    """One row of text per configuration, in the order of COLUMNS."""
    return [_row(c, first if i == 0 else str(i + 1)) for i, c in enumerate(configurations)]


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
        gib(c.memory.bytes_of("weights")) + _split(c),
        f"{c.memory.kv_cache_tokens:,}",
        f"{short(performance.ttft_ms.p50.value)} ms" if performance else "–",
        f"{short(performance.itl_ms.p50.value)} ms" if performance and performance.itl_ms else "–",
        short(performance.output_tokens_per_s.value) if performance else "–",
        short(price.value) if price else "–",
        {True: "met", False: "missed", None: "–"}[c.meets_slo],
    )


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
                "ttft_ms_p50": float(performance.ttft_ms.p50) if performance else None,
                "itl_ms_p50": float(performance.itl_ms.p50) if performance and performance.itl_ms else None,
                "output_tokens_per_s": float(performance.output_tokens_per_s) if performance else None,
                "usd_per_million_output_tokens": float(price) if price else None,
                "meets_slo": c.meets_slo,
            }
        )
    return pd.DataFrame.from_records(records)
