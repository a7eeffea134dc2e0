"""A plan in a notebook: one self-contained HTML fragment, every value escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from planner.report.numbers import figure, latency
from planner.report.table import COLUMNS, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planner.answers import Estimate
    from planner.spec.plan import Configuration, MemoryLedger, Plan

_STYLE = (
    "<style>.planner table{border-collapse:collapse;margin:.4em 0}.planner td,.planner th{padding:.15em .7em;"
    "text-align:left;border-bottom:1px solid #8884}.planner td.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".planner .bar{display:flex;height:1.1em;max-width:40em;border-radius:3px;overflow:hidden}"
    ".planner .caution{color:#b45309}</style>"
)
_COLOURS = {
    "weights": "#2563eb", "kv_cache": "#059669", "activations": "#d97706", "cuda_graphs": "#7c3aed",
    "runtime": "#64748b", "reserved": "#cbd5e1", "free": "#e2e8f0",
}  # fmt: skip


def plan_html(plan: Plan) -> str:
    """The whole plan: choice, reasons, memory, speed, alternatives, assumptions."""
    best = plan.best
    parts = [
        _STYLE,
        '<div class="planner">',
        f"<h3>{escape(best.model.checkpoint)} on {escape(best.hardware.label)}</h3>",
        f"<p><b>{escape(best.engine.name)} {escape(best.engine.version)}</b>, {escape(best.quantization)}, "
        f"tensor parallel {best.parallelism.tensor}, {best.parallelism.replicas} replica(s), "
        f"context {best.limits.max_model_len:,} tokens</p>",
        _table(("choice", "", "because"), ((r.subject, r.choice, r.because) for r in best.reasons)),
        _memory(best.memory),
        _speed(best),
        "<h4>Alternatives</h4>",
        _table(COLUMNS, rows((best, *plan.alternatives))),
        _list("Assumed", plan.assumptions),
        _list("Mind", plan.cautions, "caution"),
        "</div>",
    ]
    return "\n".join(parts)


def estimate_html(result: Estimate) -> str:
    """Ledger and speed of one configuration."""
    c = result.configuration
    head = f"<h3>{escape(c.model.checkpoint)} on {escape(c.hardware.label)}</h3>"
    body = [head, _memory(c.memory), _speed(c), _list("Assumed", result.assumptions)]
    return "\n".join([_STYLE, '<div class="planner">', *body, "</div>"])


def _memory(memory: MemoryLedger) -> str:
    bar = "".join(
        f'<span title="{escape(r.item)}" style="flex:{max(r.bytes, 0)};background:{_COLOURS[r.item]}"></span>'
        for r in memory.rows
        if r.bytes > 0
    )
    body = ((r.item, f"{r.bytes / (1 << 30):.2f} GiB", r.formula, r.basis) for r in memory.rows)
    return (
        f"<h4>Memory of one {escape(memory.device)}</h4><div class='bar'>{bar}</div>"
        + _table(("item", "size", "how", "basis"), body)
        + f"<p>KV cache {memory.kv_cache_tokens:,} tokens; largest context {memory.largest_context_tokens:,}</p>"
    )


def _speed(c: Configuration) -> str:
    p = c.performance
    if p is None:
        return "<p>does not fit</p>"
    body = [
        ("TTFT", latency(p.ttft_ms)),
        ("ITL", latency(p.itl_ms)),
        ("output", figure(p.output_tokens_per_s)),
        ("requests", figure(p.requests_per_s)),
    ]
    if c.cost.usd_per_million_output_tokens is not None:
        body.append(("cost", figure(c.cost.usd_per_million_output_tokens)))
    return "<h4>Speed under the load (80 % band)</h4>" + _table(("metric", "estimate"), body)


def _table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><tr>{top}</tr>{lines}</table>"


def _list(title: str, items: Iterable[str], css: str = "") -> str:
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<h4>{escape(title)}</h4><ul class="{css}">{lines}</ul>' if lines else ""
