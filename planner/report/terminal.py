"""A plan in a terminal, with rich. Text from outside is printed as text, never as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from planner.report.layout import Column, print_columns, print_list, print_text
from planner.report.numbers import short, speed
from planner.report.table import TEXT_COLUMNS, fit_body, layout, slots, telling
from planner.units import gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from planner.advise.fit import FitRow
    from planner.answers import Comparison, Estimate
    from planner.spec.plan import Configuration, MemoryLedger, Plan

METRICS = {
    "output_tokens_per_s": "output, tokens/s", "ttft_ms_p50": "TTFT p50, ms", "ttft_ms_p99": "TTFT p99, ms",
    "itl_ms_p50": "ITL p50, ms", "max_concurrent": "requests at once, at most",
    "gpu_memory_efficiency_percent": "GPU memory used, %",
}  # fmt: skip
"""Published metrics as they are called here."""
_SPARE = {"KV tokens": 6, "weights GiB": 5, "context": 4, "at once": 3, "USD/M tok": 2, "replicas": 1}
"""Columns of configurations that a narrow terminal goes without, the largest first."""


def print_plan(console: Console, plan: Plan, saved: Sequence[Path] = ()) -> None:
    """The answer first, then why, then the figures, then what was assumed."""
    best = plan.best
    console.print(Text(f"{best.model.checkpoint} on {best.hardware.label}", style="bold"))
    print_text(
        console,
        f"{best.engine.name} {best.engine.version}, {best.quantization}, {layout(best)}, context "
        f"{best.limits.max_model_len:,} tokens, up to {slots(best)} request{'s' if slots(best) > 1 else ''} at once",
        "green",
    )
    console.print()
    _print_reasons(console, best)
    _print_ledger(console, best.memory)
    _print_performance(console, best)
    if plan.alternatives:
        _print_configurations(console, (best, *plan.alternatives), "Alternatives")
    print_list(console, "Assumed", plan.assumptions)
    print_list(console, "Mind", plan.cautions, "yellow")
    if saved:
        print_list(console, "Files", [str(path) for path in saved])


def print_estimate(console: Console, result: Estimate) -> None:
    """Ledger and figures of one configuration."""
    c = result.configuration
    verdict = "fits" if c.memory.fits else f"does not fit: {gib(c.memory.shortfall_bytes)} short per device"
    console.print(Text(f"{c.model.checkpoint} on {c.hardware.label}: {verdict}", style="bold"))
    console.print(Text(f"{c.engine.name} {c.engine.version}, {c.quantization}, {layout(c)}"))
    console.print()
    _print_ledger(console, c.memory)
    _print_performance(console, c)
    print_list(console, "Assumed", result.assumptions)
    print_list(console, "Mind", c.memory.notes, "yellow")


def print_comparison(console: Console, result: Comparison) -> None:
    """Engines side by side, then published figures with ours beside them."""
    _print_configurations(console, result.configurations, "Our estimate", numbered=False)
    for engine, reason in result.refused.items():
        print_text(console, f"{engine}: {reason}")
    if result.published:
        _print_published(console, result.published)
    print_list(console, "Cannot all hold", result.contradictions, "yellow")
    print_list(console, "Assumed", result.assumptions)


def _print_published(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row a metric, two columns an engine: what was published, what we estimate."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    cells = {(row["metric"], row["engine"]): row for row in rows}
    body = []
    for metric, unit in dict.fromkeys((row["metric"], row["unit"]) for row in rows):
        line = [METRICS.get(metric, f"{metric}, {unit}")]
        for engine in engines:
            row = cells.get((metric, engine), {})
            line += [_number(row.get("value")), _number(row.get("ours"))]
        body.append(line)
    heads = [Column(f"{engine} {what}", right=True) for engine in engines for what in ("published", "ours")]
    print_columns(console, (Column("metric", loose=True, style="cyan"), *heads), body, "Published figures, ours beside")
    print_text(console, "published: " + "; ".join(dict.fromkeys(row["source"] for row in rows)), style="dim")
    console.print()


def _number(value: float | None) -> str:
    return "–" if value is None else short(float(value))


def print_fit(console: Console, found: Sequence[FitRow], top: int) -> None:
    """Models that run, best first. Latencies are means of a quick look."""
    columns = (
        Column("model", loose=True), Column("parameters", right=True, spare=3), Column("engine"),
        Column("quantization"), Column("TP", right=True, spare=1), Column("context", right=True, spare=2),
        Column("TTFT mean ms", right=True), Column("ITL mean ms", right=True), Column("output tok/s", right=True),
        Column("targets", right=True),
    )  # fmt: skip
    print_columns(console, columns, fit_body(found[:top]), complete="-o json has all")
    if not found:
        told = "no catalogued model runs on this machine under this load"
        print_text(
            console, f"{told}; fewer users (--concurrency), a shorter context (--max-model-len) or more memory help"
        )
        return
    models = len(found) + sum(len(row.alike) for row in found)
    shown = f", the first {top} here (--top)" if len(found) > top else ""
    alike = "; -o json names those alike" if models > len(found) else ""
    print_text(console, f"{models} models of {len(found)} shapes run on this machine{shown}{alike}")


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
    if c.performance is None:
        return
    table = Table(title="Speed under the load (80 % band)", title_justify="left", box=None, pad_edge=False)
    table.add_column("metric", style="cyan", no_wrap=True)
    table.add_column("estimate")
    for metric, estimate in speed(c):
        table.add_row(metric, Text(estimate))
    console.print(table)
    console.print()


def _print_configurations(
    console: Console, configurations: Iterable[Configuration], title: str, *, numbered: bool = True
) -> None:
    names, body = telling(configurations, "best" if numbered else "1")
    columns = [Column(name, right=name not in TEXT_COLUMNS, spare=_SPARE.get(name, 0)) for name in names]
    print_columns(console, columns, body, title, "-o json has all")
    console.print()
