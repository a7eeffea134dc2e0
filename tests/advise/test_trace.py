"""The trace breaks the choice within an engine down: parts that add up, figures that every table shows."""

from __future__ import annotations

import pytest

import planner
from planner.report.text import explanation
from planner.spec.plan import Plan, TraceStep
from planner.units import significant

CASES: dict[str, dict[str, str]] = {
    "throughput": {"model": "llama3-70b", "gpus": "2xA100"},
    "latency": {"model": "llama3-8b", "gpus": "1xRTX-4090"},
    "missed targets": {"model": "llama3-70b", "gpus": "4xT4"},
    "quality": {"model": "llama3-8b", "gpus": "1xL4", "objective": "quality"},
    "cost": {"model": "llama3-8b", "gpus": "2xL40S", "objective": "cost"},
}


@pytest.fixture(scope="module", params=list(CASES))
def plan(request: pytest.FixtureRequest) -> Plan:
    return planner.recommend(**CASES[request.param]).plan


def _last(plan: Plan) -> TraceStep:
    return next(step for step in plan.trace if step.strength == "objective")


def test_chosen_and_runner_up_are_scored_part_by_part(plan: Plan) -> None:
    scores = _last(plan).scores
    assert len(scores) == 2
    for held in scores:
        assert sum(part.value for part in held.parts) == pytest.approx(held.score, abs=1e-3)
        assert all(part.value and part.of for part in held.parts)
    assert scores[0].score == pytest.approx(plan.best.score, abs=1e-3)
    assert scores[0].candidate != scores[1].candidate


def test_the_runner_up_is_told_apart_by_the_parts_that_differ(plan: Plan) -> None:
    step = _last(plan)
    best, second = step.scores
    assert f"runner-up {second.candidate}" in step.outcome
    mine, theirs = ({p.name: p.value for p in s.parts} for s in (best, second))
    for name in {*mine, *theirs}:
        gap = theirs.get(name, 0.0) - mine.get(name, 0.0)
        assert (f"{name} {gap:+.2f}" in step.outcome) == (abs(gap) >= 0.005)


def test_a_finalist_has_the_figures_of_the_table_with_their_statistic(plan: Plan) -> None:
    chosen = next(iter(_last(plan).inputs.values()))
    performance = plan.best.performance
    assert performance is not None
    assert f"TTFT p50 {significant(performance.usual_ttft_ms.p50.value)} ms" in chosen
    assert f"{significant(performance.output_tokens_per_s.value)} output tokens/s" in chosen


def test_explain_shows_the_parts_and_no_latency_without_a_statistic(plan: Plan) -> None:
    text = explanation(plan)
    for held in _last(plan).scores:
        for part in held.parts:
            assert f"{part.value:+.2f}  {part.of}" in text
    figures = text[text.index("Figures under the load") :].splitlines()
    for line in figures:
        if line.strip().startswith(("TTFT", "ITL")):
            assert "p50 " in line and "p99 " in line
