"""One figure is one number, with its statistic, wherever a person meets it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import planner
from planner.report.html import plan_html
from planner.report.terminal import print_plan
from planner.report.text import explanation
from planner.spec.plan import Figure, Plan
from planner.units import significant


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planner.recommend(model="llama3-70b", gpus="2xA100").plan


@pytest.fixture(scope="module")
def views(plan: Plan) -> dict[str, str]:
    out = io.StringIO()
    print_plan(Console(file=out, width=200, highlight=False), plan)
    page = planner.Recommendation(plan).artifacts()["PLAN.md"]
    return {
        "recommend": out.getvalue(),
        "explain": explanation(plan),
        "PLAN.md": page,
        "notebook": plan_html(plan),
    }


def _told(figure: Figure) -> str:
    return f"{significant(figure.value)} ({significant(figure.low)} – {significant(figure.high)})"


@pytest.mark.parametrize("name", ["TTFT p50", "ITL p50", "output"])
def test_a_figure_is_the_same_number_in_every_view(name: str, plan: Plan, views: dict[str, str]) -> None:
    p = plan.best.performance
    assert p is not None and p.itl_ms is not None
    figure = {"TTFT p50": p.usual_ttft_ms.p50, "ITL p50": p.itl_ms.p50, "output": p.output_tokens_per_s}[name]
    band = f"{significant(figure.low)}–{significant(figure.high)}"
    for view in ("recommend", "explain", "notebook"):
        assert f"{significant(figure.value)} {figure.unit} ({band}, {figure.basis})" in views[view], view
    assert _told(figure) in views["PLAN.md"]


def test_latencies_never_stand_without_their_percentile(views: dict[str, str]) -> None:
    for view, text in views.items():
        for line in text.splitlines():
            if line.lstrip().startswith(("TTFT  ", "ITL  ", "| TTFT ", "| ITL ")):
                assert any(word in line for word in ("p50", "p90", "p99", "mean")), (view, line)
