"""A plan in a terminal, with rich. Text from outside is printed as text, never as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from planner.report.numbers import count, figure, latency, short
from planner.report.table import COLUMNS, rows
from planner.units import gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from planner.advise.fit import FitRow
    from planner.answers import Comparison, Estimate
    from planner.spec.plan import Configuration, MemoryLedger, Plan


def print_plan(console: Console, plan: Plan, saved: Sequence[Path] = ()) -> None:
    """The answer first, then why, then the figures, then what was assumed."""
    best = plan.best
    heading = Text(f"{best.model.checkpoint} on {best.hardware.label}", style="bold")
    console.print(heading)
    console.print(
        Text(
            f"{best.engine.name} {best.engine.version}, {best.quantization}, {_layout(best)}, context "
            f"{best.limits.max_model_len:,} tokens, up to {_slots(best)} requests at once",
            style="green",
        )
    )
    console.print()
    _print_reasons(console, best)
    _print_ledger(console, best.memory)
    _print_performance(console, best)
    if plan.alternatives:
        _print_configurations(console, (best, *plan.alternatives), "Alternatives")
    _print_list(console, "Assumed", plan.assumptions)
    _print_list(console, "Mind", plan.cautions, "yellow")
    if saved:
        _print_list(console, "Files", [str(path) for path in saved])


def print_estimate(console: Console, result: Estimate) -> None:
    """Ledger and figures of one configuration."""
    c = result.configuration
    verdict = "fits" if c.memory.fits else f"does not fit: {gib(c.memory.shortfall_bytes)} short per device"
    console.print(Text(f"{c.model.checkpoint} on {c.hardware.label}: {verdict}", style="bold"))
    console.print(Text(f"{c.engine.name} {c.engine.version}, {c.quantization}, {_layout(c)}"))
    console.print()
    _print_ledger(console, c.memory)
    _print_performance(console, c)
    _print_list(console, "Assumed", result.assumptions)
    _print_list(console, "Mind", c.memory.notes, "yellow")


def print_comparison(console: Console, result: Comparison) -> None:
    """Engines side by side, then the published rows."""
    _print_configurations(console, result.configurations, "Our estimate", numbered=False)
    for engine, reason in result.refused.items():
        console.print(Text(f"{engine}: {reason}"))
    if result.published:
        table = Table(title="Published", title_justify="left", box=None, pad_edge=False)
        for column in ("engine", "metric", "value", "unit", "source"):
            table.add_column(column)
        for row in result.published:
            table.add_row(*(Text(str(row[k])) for k in ("engine", "metric", "value", "unit", "source")))
        console.print(table)
    _print_list(console, "Cannot all hold", result.contradictions, "yellow")
    _print_list(console, "Assumed", result.assumptions)


def print_fit(console: Console, found: Sequence[FitRow], top: int) -> None:
    """Models that run, best first."""
    table = Table(box=None, pad_edge=False)
    for column in ("model", "parameters", "engine", "quantization", "TP", "context", "TTFT", "ITL", "tok/s", "targets"):
        table.add_column(column, justify="left" if column in ("model", "engine", "quantization") else "right")
    for row in found[:top]:
        table.add_row(
            Text(row.model + (f" (+{len(row.alike)} alike)" if row.alike else "")),
            count(row.parameters),
            row.engine,
            row.quantization,
            str(row.tensor_parallel),
            f"{row.context_tokens:,}",
            f"{short(row.ttft_ms)} ms",
            f"{short(row.itl_ms)} ms" if row.itl_ms is not None else "–",
            short(row.output_tokens_per_s),
            "met" if row.meets_slo else "missed",
        )
    console.print(table)
    models = len(found) + sum(len(row.alike) for row in found)
    console.print(Text(f"{models} models of {len(found)} shapes run here; --top shows more, -o json names those alike"))


def _print_reasons(console: Console, best: Configuration) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(no_wrap=False, ratio=1)
    table.add_column(ratio=3)
    for reason in best.reasons:
        table.add_row(reason.subject, Text(reason.choice), Text(reason.because))
    console.print(table)
    console.print()


def _print_ledger(console: Console, memory: MemoryLedger) -> None:
    table = Table(title=f"Memory of one {memory.device}", title_justify="left", box=None, pad_edge=False)
    table.add_column("item", style="cyan", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("how")
    table.add_column("basis", no_wrap=True)
    for row in memory.rows:
        table.add_row(row.item, f"{row.bytes / (1 << 30):.2f}", Text(row.formula), row.basis)
    table.add_row("total", f"{memory.device_bytes / (1 << 30):.2f}", "", "", style="bold")
    console.print(table)
    console.print(
        Text(
            f"KV cache {memory.kv_cache_tokens:,} tokens; largest context {memory.largest_context_tokens:,}; "
            f"{memory.concurrent_sequences:,} full-length requests at once"
        )
    )
    if memory.offloaded_layers is not None and memory.offloaded_layers != memory.total_layers:
        on_device = f"{memory.offloaded_layers} of {memory.total_layers} layers on the device"
        console.print(Text(f"{on_device}, {gib(memory.host_bytes)} in RAM"))
    console.print()


def _print_performance(console: Console, c: Configuration) -> None:
    p = c.performance
    if p is None:
        return
    table = Table(title="Speed under the load (80 % band)", title_justify="left", box=None, pad_edge=False)
    table.add_column("metric", style="cyan", no_wrap=True)
    table.add_column("estimate")
    table.add_row("TTFT", latency(p.ttft_ms))
    table.add_row("ITL", latency(p.itl_ms))
    table.add_row("output", figure(p.output_tokens_per_s))
    table.add_row("requests", figure(p.requests_per_s))
    if c.cost.usd_per_million_output_tokens is not None:
        table.add_row("cost", Text(f"{figure(c.cost.usd_per_million_output_tokens)} ({c.cost.source})"))
    console.print(table)
    console.print()


def _print_configurations(
    console: Console, configurations: Iterable[Configuration], title: str, *, numbered: bool = True
) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    body = rows(configurations, "best" if numbered else "1")
    shown = [i for i, name in enumerate(COLUMNS) if not _is_dull(name, [row[i] for row in body])]
    for i in shown:
        table.add_column(COLUMNS[i], justify="left" if COLUMNS[i] in ("", "engine", "quantization") else "right")
    for row in body:
        table.add_row(*(Text(row[i]) for i in shown))
    console.print(table)
    console.print()


def _is_dull(name: str, values: list[str]) -> bool:
    """A column that says nothing here (all 1, all auto, no price)."""
    return name in ("PP", "DP", "EP", "replicas", "KV dtype", "USD/M tok") and set(values) <= {"1", "auto", "–"}


def _print_list(console: Console, title: str, lines: Iterable[str], style: str = "") -> None:
    items = list(lines)
    if not items:
        return
    console.print(Text(title, style="bold"))
    for line in items:
        console.print(Text(f"  · {line}", style=style))
    console.print()


def _layout(c: Configuration) -> str:
    p = c.parallelism
    parts = [f"tensor parallel {p.tensor}"] if p.tensor > 1 else []
    parts += [f"{name} {n}" for name, n in (("pipeline", p.pipeline), ("data parallel", p.data)) if n > 1]
    parts += [f"{p.replicas} replicas"] if p.replicas > 1 else []
    return ", ".join(parts) or ("one device" if c.hardware.count <= 1 else f"{c.hardware.count} devices")


def _slots(c: Configuration) -> int:
    return c.limits.max_num_seqs * c.parallelism.data * c.parallelism.replicas
