"""The plan's figures come out again, edits are noticed, and what breaks first is where it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import planner
from planner.render.plan_file import dump_plan, load_plan
from planner.sources.catalog import load
from planner.spec.plan import Plan
from planner.validate.simulate import simulate
from planner.validate.verdict import Check

PlanNamed = Callable[[str], Plan]


def by_name(plan: Plan) -> dict[str, Check]:
    return {check.name: check for check in simulate(plan, load())}


def edited(plan: Plan, part: str, **changes: Any) -> Plan:
    best = plan.best.model_copy(update={part: getattr(plan.best, part).model_copy(update=changes)})
    return plan.model_copy(update={"best": best})


def test_a_plans_memory_and_figures_come_out_again(each_plan: Plan) -> None:
    found = by_name(load_plan(dump_plan(each_plan)))
    for name in ("memory ledger", "planned figures", "context", "admission", "load doubled"):
        assert found[name].status == "passed", found[name]
    for name in ("TTFT target", "ITL target"):
        over = float(found[name].figures["headroom"] or 0) < 0
        assert found[name].status == ("skipped" if over else "passed")
    assert each_plan.best.meets_slo is all(found[f"{n} target"].status == "passed" for n in ("TTFT", "ITL"))


@pytest.mark.parametrize(
    ("part", "changes", "check"),
    [
        ("limits", {"max_num_seqs": 8}, "admission"),
        ("limits", {"max_num_seqs": 8}, "planned figures"),
        ("limits", {"gpu_memory_utilization": 0.5}, "memory ledger"),
        ("limits", {"max_model_len": 1024}, "context"),
        ("memory", {"device_bytes": 80 << 30}, "memory ledger"),
    ],
)
def test_an_edited_plan_fails(plan_named: PlanNamed, part: str, changes: dict[str, Any], check: str) -> None:
    assert by_name(edited(plan_named("vllm-h100"), part, **changes))[check].status == "failed"


def test_another_calibration_is_no_failure(plan_named: PlanNamed) -> None:
    plan = edited(plan_named("vllm-h100"), "limits", max_num_seqs=16)
    plan = plan.model_copy(update={"resolved": plan.resolved.model_copy(update={"calibration_sha256": "0" * 64})})
    check = by_name(plan)["planned figures"]
    assert check.status == "skipped" and "another calibration" in check.detail


def test_targets_are_the_requests_own() -> None:
    plan = planner.recommend("llama3-8b", "1xH100", ttft_ms=500, itl_ms=50, slo_percentile=90).plan
    found = by_name(plan)["ITL target"]
    assert found.status == "passed" and found.figures["target_ms"] == 50 and "p90" in found.detail
    strict = plan.model_copy(update={"request": plan.request.model_copy(update={"itl_ms": 0.5})})
    assert by_name(strict)["ITL target"].status == "failed"


def test_slots_break_where_they_are_used_up(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    figures = by_name(plan)["load doubled"].figures
    assert figures["breaks_at_load_slots"] == pytest.approx(32.5 / 32, rel=1e-3)
    pool = plan.best.memory.kv_cache_tokens
    assert figures["breaks_at_load_KV_cache"] == pytest.approx(pool / 1280 / 32, rel=0.02)
    assert float(figures["ttft_ms_at_double"] or 0) > float(by_name(plan)["TTFT target"].figures["p99_ms"] or 0)


def test_a_format_without_a_kernel_is_refused(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    plan = plan.model_copy(update={"best": plan.best.model_copy(update={"quantization": "eetq"})})
    (check,) = simulate(plan, load())
    assert check.status == "failed" and "eetq" in check.detail
