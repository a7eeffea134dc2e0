"""A plan in a notebook: one self-contained HTML fragment, every value escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from planner.report.numbers import short, speed
from planner.report.table import FIT_COLUMNS, TEXT_COLUMNS, fit_body, layout, slots, telling
from planner.units import GIB, gib

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from planner.advise.fit import FitRow
    from planner.answers import Comparison, Estimate
    from planner.spec.plan import Configuration, MemoryLedger, Plan

_STYLE = (
    "<style>.planner table{border-collapse:collapse;margin:.4em 0}.planner td,.planner th{padding:.15em .5em;"
    "text-align:left;vertical-align:top;border-bottom:1px solid #8884}"
    ".planner .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".planner th.n{white-space:normal}.planner .wide{overflow-x:auto}.planner .name{white-space:nowrap}"
    ".planner .bar{display:flex;height:1.1em;max-width:40em;border-radius:3px;overflow:hidden}"
    ".planner .key{display:inline-block;width:.7em;height:.7em;margin-right:.5em;border-radius:2px}"
    ".planner .caution{color:#b45309}</style>"
)
_COLOURS = {
    "weights": "#2563eb", "kv_cache": "#059669", "activations": "#d97706", "cuda_graphs": "#7c3aed",
    "runtime": "#64748b", "reserved": "#cbd5e1", "free": "#e2e8f0",
}  # fmt: skip


def plan_html(plan: Plan) -> str:
    """The whole plan: choice, reasons, memory, speed, alternatives, assumptions."""
    best = plan.best
    names, body = telling((best, *plan.alternatives))
    parts = [
        _STYLE,
        '<div class="planner">',
        f"<h3>{escape(best.model.checkpoint)} on {escape(best.hardware.label)}</h3>",
        f"<p>{_choice(best)}, up to {slots(best):,} request{'s' if slots(best) > 1 else ''} at once</p>",
        _table(("choice", "", "because"), ((r.subject, r.choice, r.because) for r in best.reasons)),
        _memory(best.memory),
        _speed(best),
        "<h4>Alternatives</h4>",
        _table(names, body, numbers=set(names) - set(TEXT_COLUMNS)),
        _list("Assumed", plan.assumptions),
        _list("Mind", plan.cautions, "caution"),
        "</div>",
    ]
    return "\n".join(parts)


def comparison_html(result: Comparison) -> str:
    """Engines side by side, published rows beside ours, and what contradicts what."""
    names, body = telling(result.configurations)
    published = (
        (str(r["engine"]), str(r["metric"]), short(float(r["value"])), "–" if r["ours"] is None else short(r["ours"]))
        for r in result.published
    )
    parts = [_STYLE, '<div class="planner">', _table(names, body, numbers=set(names) - set(TEXT_COLUMNS))]
    if result.published:
        parts += ["<h4>Published</h4>", _table(("engine", "metric", "published", "ours"), published)]
    parts.append(_list("Not here", (f"{engine}: {why}" for engine, why in result.refused.items())))
    parts += [
        _list("Cannot all hold", result.contradictions, "caution"),
        _list("Assumed", result.assumptions),
        "</div>",
    ]
    return "\n".join(parts)


def fit_html(found: Iterable[FitRow]) -> str:
    """Models that run on a machine, best first."""
    table = _table(FIT_COLUMNS, fit_body(found), numbers=set(FIT_COLUMNS) - {"model", "engine", "quantization"})
    return "\n".join([_STYLE, '<div class="planner">', table, "</div>"])


def estimate_html(result: Estimate) -> str:
    """Ledger and speed of one configuration."""
    c = result.configuration
    verdict = "fits" if c.memory.fits else f"does not fit: {gib(c.memory.shortfall_bytes)} short per device"
    head = f"<h3>{escape(c.model.checkpoint)} on {escape(c.hardware.label)}: {verdict}</h3>"
    body = [head, f"<p>{_choice(c)}</p>", _memory(c.memory), _speed(c), _list("Assumed", result.assumptions)]
    return "\n".join([_STYLE, '<div class="planner">', *body, _list("Mind", c.memory.notes, "caution"), "</div>"])


def _choice(c: Configuration) -> str:
    """Engine, format, layout and context."""
    return (
        f"<b>{escape(c.engine.name)} {escape(c.engine.version)}</b>, {escape(c.quantization)}, {layout(c)}, "
        f"context {c.limits.max_model_len:,} tokens"
    )


def _memory(memory: MemoryLedger) -> str:
    bar = "".join(
        f'<span title="{escape(r.item)}" style="flex:{max(r.bytes, 0)};background:{_COLOURS[r.item]}"></span>'
        for r in memory.rows
        if r.bytes > 0
    )
    head = '<tr><th>item</th><th class="n">GiB</th><th>how</th><th>basis</th></tr>'
    body = "".join(
        f'<tr><td class="name"><span class="key" style="background:{_COLOURS[r.item]}"></span>{escape(r.item)}</td>'
        f'<td class="n">{r.bytes / GIB:.2f}</td><td>{escape(r.formula)}</td><td>{escape(r.basis)}</td></tr>'
        for r in memory.rows
    )
    total = f'<tr><th>total</th><th class="n">{memory.device_bytes / GIB:.2f}</th><th></th><th></th></tr>'
    return (
        f"<h4>Memory of one {escape(memory.device)}</h4><div class='bar'>{bar}</div>"
        f"<div class='wide'><table>{head}{body}{total}</table></div>"
        f"<p>KV cache {memory.kv_cache_tokens:,} tokens; largest context {memory.largest_context_tokens:,}; "
        f"{memory.concurrent_sequences:,} full-length requests at once</p>"
    )


def _speed(c: Configuration) -> str:
    if c.performance is None:
        return ""
    return "<h4>Speed under the load (80 % band)</h4>" + _table(("metric", "estimate"), speed(c))


def _table(head: Iterable[str], body: Iterable[Iterable[str]], numbers: Collection[str] = ()) -> str:
    """`numbers` names the columns that are read by their right edge; the first two are never broken."""
    names = list(head)
    css = ["n" if name in numbers else "name" if i < 2 else "" for i, name in enumerate(names)]

    def row(tag: str, cells: Iterable[str]) -> str:
        return "".join(f'<{tag} class="{c}">{escape(str(cell))}</{tag}>' for c, cell in zip(css, cells, strict=True))

    lines = "".join(f"<tr>{row('td', cells)}</tr>" for cells in body)
    return f"<div class='wide'><table><tr>{row('th', names)}</tr>{lines}</table></div>"


def _list(title: str, items: Iterable[str], css: str = "") -> str:
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<h4>{escape(title)}</h4><ul class="{css}">{lines}</ul>' if lines else ""
