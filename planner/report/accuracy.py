"""`planner accuracy` for people: a table for a terminal, a page for docs/accuracy.md.

Knows how to lay a Report out and what the competitors' documents say; counts nothing itself.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from planner.validate.accuracy import Errors, Outcome, Report, Slice

FOLDS: Final = {
    "model": "one model", "device": "one device", "tensor": "one TP size", "lengths": "one pair of lengths",
    "never fitted": "never fitted",
}  # fmt: skip
_HEAD = """\
# How far our figures are off

Errors of this planner against published measurements and measurements of our own, all of which ship in
`catalog/measurements`. *Fitted* figures come from the calibration that ships. *Held out* figures come from fits
that had not seen the row's model, device, tensor-parallel size or pair of lengths (named as fold; a model or a
device is left out where at least three others remain); rows that no fit uses, and memory, whose constants are
an engine release's, count as *never fitted*. A target is met when the held-out figure meets it. This page is
generated, and a test fails when it drifts or when a slice gets worse than `catalog/accuracy_floor.yaml` allows.

    planner accuracy             # this page as a table; -o json, -o yaml, --markdown
    python benchmarks/fit.py     # refits the calibration and writes the held-out predictions
"""
_FIELD: Final = """\
What other planners reach, measured by us or told by their documentation, each on rows of its own choice: the
comparison is of orders, not of digits.
"""
_PEERS: Final = (
    "aiconfigurator 0.12.0 | random rows of its own data; 151, 110 more failed | 32.9 / 18.9 % | 59.1 / 48.2 % |",
    "aiconfigurator 0.12.0 | Llama-3.1-70B FP8, vLLM, H100, H200: its best slice; 91 | 5.0 / 4.6 % | 42.7 / 35.5 % |",
    "aiconfigurator 0.12.0 | Qwen3-32B, vLLM, H100; 82 | 14.7 / 11.8 % | 40.5 / 45.7 % |",
    "aiconfigurator 0.12.0 | its 35 curated references; 24, 11 more failed | 31.4 / 17.7 % | 55.4 / 52.2 % |",
    "llm-d-planner 0.3.3 | vLLM 0.19 on H100, by its own documentation; 49 | | | weights 0.84 %, KV pool 7.82 %",
)
"""What other planners reach: tool, rows, mean / median TPOT and TTFT errors, others. The first four predict the
rows that aiconfigurator's own wheel ships, with the engine version recorded there where it has data."""


_WHOLE: Final = "--markdown and -o json have all"


def print_accuracy(console: Console, report: Report) -> None:
    """Targets, then the slices of each metric and engine, as tables."""
    from planner.report.layout import Column, print_columns, print_list, print_text

    columns = (
        Column("what", loose=True), Column("rows", right=True), Column("target", right=True),
        Column("fitted", right=True), Column("held out", right=True), Column("left out", loose=True, spare=1),
        Column("met", right=True),
    )  # fmt: skip
    print_columns(console, columns, [_outcome(o) for o in report.outcomes], "Targets", _WHOLE)
    console.print()
    print_text(
        console,
        "Absolute errors, slice by slice. Held out: median (mean), by what was left out of the fit; bias: the mean "
        "with its sign; in band: the share of held-out rows inside the 80 % band.",
    )
    sliced = (
        Column("device class"), Column("format"), Column("model"), Column("rows", right=True),
        Column("fitted median", right=True), Column("fitted mean", right=True, spare=2),
        Column("p90", right=True), Column("bias", right=True), Column("held out", loose=True, spare=1),
        Column("in band", right=True, spare=3),
    )  # fmt: skip
    for (metric, engine), found in groupby(report.slices, key=lambda s: (s.metric, s.engine)):
        console.print()
        print_columns(console, sliced, [_compact(s) for s in found], f"{metric}, {engine}", _WHOLE)
    console.print()
    print_text(console, _answered(report))
    print_list(console, "Unanswered", (f"{row}: {reason}" for row, reason in report.unanswered[:20]))


def markdown(report: Report) -> str:
    """docs/accuracy.md."""
    lines = [_HEAD, "## Targets", "", "| what | n | target | fitted | held out | fold | met |", "|" + "---|" * 7]
    lines += ["| " + " | ".join(_outcome(o)) + " |" for o in report.outcomes]
    missed = [o for o in report.outcomes if not o.met and o.target.why]
    if missed:
        lines += ["", "Why a target is missed:", ""]
        lines += [f"* {o.target.what}: {o.target.why}" for o in missed]
    lines += ["", _answered(report), "", "## Beside the field", "", _FIELD, beside_the_field(report), ""]
    lines += [
        "## Every slice", "", "Median and, in brackets, mean of the absolute relative error; bias is the mean of the",
        "signed one; the last column is the share of held-out rows inside the 80 % band.", "",
        "| metric | engine | device class | format | model | n | fitted | p90 | bias | held out | in band |",
        "|" + "---|" * 11,
    ]  # fmt: skip
    lines += ["| " + " | ".join(_slice(s)) + " |" for s in report.slices]
    lines += [
        "", "## Bands", "", "Share of held-out predictions whose 80 % band holds the truth, by class.", "",
        "| metric | engine | device class | predictions | in band |", "|" + "---|" * 5,
    ]  # fmt: skip
    lines += [f"| {c.metric} | {c.engine} | {c.device_class} | {c.n} | {c.share:.0%} |" for c in report.coverage]
    lines += ["", "## Left out", "", *_left_out(report)]
    return "\n".join(lines).rstrip() + "\n"


def _outcome(o: Outcome) -> list[str]:
    statistic = o.target.statistic
    return [
        o.target.what, str(o.fitted.n if o.fitted else 0), f"{o.target.limit:.1%} {statistic}",
        _one(o.fitted, statistic), _one(o.held_out, statistic), ", ".join(FOLDS[f] for f in o.folds),
        "yes" if o.met else "no",
    ]  # fmt: skip


def _one(errors: Errors | None, statistic: str) -> str:
    return f"{getattr(errors, statistic):.1%}" if errors else "no rows"


def _slice(s: Slice) -> list[str]:
    held = "; ".join(f"{FOLDS[f]} {e.median:.1%} ({e.mean:.1%})" for f, e in s.held_out.items() if f != "never fitted")
    return [
        s.metric, s.engine, s.device_class, s.format_kind, s.model_kind, str(s.fitted.n),
        f"{s.fitted.median:.1%} ({s.fitted.mean:.1%})", f"{s.fitted.p90:.1%}", f"{s.fitted.bias:+.1%}",
        held or FOLDS["never fitted"], "" if s.coverage is None else f"{s.coverage:.0%}",
    ]  # fmt: skip


def _compact(s: Slice) -> list[str]:
    """A slice below the heading of its metric and engine."""
    held = ", ".join(
        f"{FOLDS[f].removeprefix('one ')} {e.median:.1%} ({e.mean:.1%})"
        for f, e in s.held_out.items()
        if f != "never fitted"
    )
    return [
        s.device_class, s.format_kind, s.model_kind, f"{s.fitted.n:,}", f"{s.fitted.median:.1%}",
        f"{s.fitted.mean:.1%}", f"{s.fitted.p90:.1%}", f"{s.fitted.bias:+.1%}", held or FOLDS["never fitted"],
        "–" if s.coverage is None else f"{s.coverage:.0%}",
    ]  # fmt: skip


def _answered(report: Report) -> str:
    left: dict[str, int] = defaultdict(int)
    for entry in report.left_out:
        left[entry.kind] += entry.rows
    return (
        f"Answered: {report.answered} of {report.rows} rows whose model and device are named. Of the collections' "
        f"other rows {left['repeats']} repeat a figure of the same run, {left['unusable']} are unusable, and "
        f"{left['unnamed']} name no model or device of ours; the reasons are in catalog/measurements/left_out.csv."
    )


def beside_the_field(report: Report) -> str:
    """The competitors' figures with ours beside them, held out, as a Markdown table."""
    found = {o.target.id: o for o in report.outcomes}
    lines = ["| tool | rows | TPOT mean / median | TTFT mean / median | other |", "|" + "---|" * 5]
    lines += [f"| {peer} |" for peer in _PEERS]
    ttft = found["ttft"]
    for key, label in (("tpot", "vLLM closed loop on H100, H200 and B200"), ("tpot-dense", "dense models of these")):
        o = found[key]
        if o.held_out:
            first = _mean_median(ttft.held_out) if o is found["tpot"] else ""
            rows = f"{label}; {o.held_out.n}, none failed"
            lines.append(f"| **planner**, held out | {rows} | {_mean_median(o.held_out)} | {first} | |")
    told = [
        f"{name} {held.mean:.1%} mean, {held.p90:.1%} p90"
        for key, name in (("weights", "weights"), ("kv-h200", "KV pool"))
        if key in found and (held := found[key].held_out)
    ]
    lines.append(f"| **planner**, never fitted | vLLM logs | | | {', '.join(told)} |")
    return "\n".join(lines)


def _mean_median(errors: Errors | None) -> str:
    return f"{100 * errors.mean:.1f} / {100 * errors.median:.1f} %" if errors else ""


def _left_out(report: Report) -> list[str]:
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for entry in report.left_out:
        counted[entry.file, entry.reason] += entry.rows
    rows = ["| collection | rows | reason |", "|---|---|---|"]
    return rows + [f"| {file} | {n} | {reason} |" for (file, reason), n in sorted(counted.items())]
