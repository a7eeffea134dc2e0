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
        assert found[name].status == ("missed" if over else "passed")
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


def test_a_queue_that_the_plan_counts_with_fails_only_an_asked_target() -> None:
    plan = planner.recommend("phi-3-mini", "1xT4").plan
    check = by_name(plan)["admission"]
    assert check.status == "missed" and "the pool holds" in check.detail
    strict = plan.model_copy(update={"request": plan.request.model_copy(update={"ttft_ms": 60_000.0})})
    assert by_name(strict)["admission"].status == "failed"


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


def test_capacity_is_where_the_targets_stop_to_hold(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    check = by_name(plan)["capacity"]
    users, rate = check.figures["most_users"], check.figures["highest_requests_per_s"]
    assert isinstance(users, float) and isinstance(rate, float) and "users" in check.detail
    held, broken = (planner.simulate(plan, concurrency=int(users) + more) for more in (0, 1))
    assert held.targets.broken(held.performance) is None
    assert broken.targets.broken(broken.performance) == check.figures["users_broken_by"]
    assert held.users.load == users and held.rate.load == pytest.approx(rate)


def test_another_load_gives_other_figures(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    own = planner.simulate(plan)
    assert own.performance == plan.best.performance
    shared = planner.simulate(plan, shared_prefix_tokens=900).performance
    drafted = planner.simulate(plan, speculative_tokens=3, acceptance_rate=0.8).performance
    unequal = planner.simulate(plan, length_distribution="lognormal", length_variation=0.6).performance
    assert shared.ttft_ms.mean.value < own.performance.ttft_ms.mean.value
    assert drafted.output_tokens_per_s.value > own.performance.output_tokens_per_s.value
    assert drafted.output_tokens_per_s.basis == "inherited"
    assert unequal.itl_ms and own.performance.itl_ms
    assert unequal.itl_ms.p99.value > own.performance.itl_ms.p99.value
    assert own.performance.preemptions_per_request == 0 < own.performance.kv_occupancy


def test_minutes_of_traffic_agree_with_a_few_rounds(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    few, many = (planner.simulate(plan, t, concurrency=24).performance for t in (None, 120.0))
    assert many.itl_ms and few.itl_ms
    assert many.itl_ms.p90.value == pytest.approx(few.itl_ms.p90.value, rel=0.05)
    assert many.requests_per_s == few.requests_per_s


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"input_tokens": 9000}, "limit is"),
        ({"arrival": "poisson"}, "request-rate"),
        ({"shared_prefix_tokens": 1024}, "shared_prefix_tokens"),
        ({"length_distribution": "empirical"}, "length_samples"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_a_load_that_cannot_be_is_refused(load: dict[str, Any], words: str, plan_named: PlanNamed) -> None:
    with pytest.raises(planner.UsageError, match=words):
        planner.simulate(plan_named("vllm-h100"), **load)


def test_a_time_in_which_no_request_ends_is_refused(plan_named: PlanNamed) -> None:
    with pytest.raises(planner.UsageError, match="longer"):
        planner.simulate(plan_named("vllm-h100"), 0.01)


def test_answers_of_one_token_have_no_itl(plan_named: PlanNamed) -> None:
    found = planner.simulate(plan_named("vllm-h100"), output_tokens=1).performance
    assert found.itl_ms is None
    one = edited_request(plan_named("vllm-h100"), output_tokens=1)
    assert by_name(one)["ITL target"].status == "skipped"


def edited_request(plan: Plan, **changes: Any) -> Plan:
    return plan.model_copy(update={"request": plan.request.model_copy(update=changes)})
