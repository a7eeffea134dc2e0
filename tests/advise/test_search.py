"""Without a machine the search finds one that holds the load, and the cheapest of them."""

from __future__ import annotations

import math
import re

import pytest

import planner
from planner.advise.brief import make_brief
from planner.advise.configure import configure
from planner.advise.rank import excess, meets
from planner.advise.recommend import beside
from planner.advise.search import search
from planner.advise.survey import survey
from planner.api import make_request
from planner.errors import InfeasibleError
from planner.sources.catalog import Catalog
from planner.sources.machines import resolve_machine
from planner.spec.plan import Configuration


@pytest.mark.parametrize("model", ["llama3-8b", "llama3-70b"])
def test_the_machine_found_meets_the_targets_in_full(model: str) -> None:
    plan = planner.recommend(model).plan
    assert plan.best.meets_slo
    assert any(a.startswith("searched ") for a in plan.assumptions)


def test_a_cheaper_machine_that_misses_the_targets_is_not_taken() -> None:
    cheaper = planner.recommend("llama3-70b", ttft_ms=2000).plan.best
    chosen = planner.recommend("llama3-70b", ttft_ms=200).plan.best
    assert cheaper.performance is not None and chosen.performance is not None
    assert chosen.meets_slo and chosen.performance.ttft_ms_at(99) <= 200 < cheaper.performance.ttft_ms_at(99)
    assert cheaper.cost.usd_per_million_output_tokens.value < chosen.cost.usd_per_million_output_tokens.value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "gpus", "concurrency"),
    [("llama3-70b", "2xA100", 32), ("llama3-8b", "1xL40S", 32), ("qwen3-32b", "1xH100", 64)],
)  # fmt: skip
def test_the_quick_tail_is_near_the_simulated_one(model: str, gpus: str, concurrency: int, catalog: Catalog) -> None:
    request = make_request(model=model, gpus=gpus, concurrency=concurrency)
    brief = make_brief(request, catalog.model(model), resolve_machine(catalog, gpus, None))
    single = [a for a in survey(catalog, brief).fitting if a.candidate.parallelism.pipeline == 1]
    for a in single[:12:4]:
        performance = configure(a.candidate, a.deployment, a.memory, brief, catalog.calibration).performance
        assert performance is not None
        assert a.figures.ttft_tail_s * 1000 == pytest.approx(performance.ttft_ms_at(99), rel=0.45)


def test_our_own_default_targets_are_no_cliff_and_a_users_are(catalog: Catalog) -> None:
    model, machine = catalog.model("llama3-70b"), resolve_machine(catalog, "8xH100", None)
    ours = make_brief(make_request(model="llama3-70b", gpus="8xH100"), model, machine)
    theirs = make_brief(make_request(model="llama3-70b", gpus="8xH100", ttft_ms=ours.ttft_ms), model, machine)
    assert (ours.ttft_ms, ours.itl_ms) == (theirs.ttft_ms, theirs.itl_ms)
    nearly = [
        (loose, strict)
        for loose, strict in zip(survey(catalog, ours).fitting, survey(catalog, theirs).fitting, strict=True)
        if not meets(strict, theirs)
    ]
    assert nearly
    assert all(excess(loose, ours) < excess(strict, theirs) for loose, strict in nearly)


@pytest.mark.parametrize(("model", "renting"), [("llama3-8b", {"cheapest": True}), ("qwen3-30b-a3b", {"budget": 5.0})])
def test_the_cheapest_plan_that_holds_the_targets_wins_and_names_what_loses_less_quality(
    model: str, renting: dict[str, object]
) -> None:
    asked = {"budget_usd_per_hour": renting["budget"]} if "budget" in renting else renting
    plan = planner.recommend(model, None, **asked).plan
    assert "objective cost (--objective)" in plan.assumptions
    ours = _usd(plan.best)
    holding = [c for c in plan.alternatives if c.meets_slo]
    assert holding and all(ours <= _usd(c) for c in holding if c.engine.name == plan.best.engine.name)
    narrowed = plan.best.kv_cache_dtype != "auto" or plan.best.quantization != "bf16"
    assert narrowed, "narrower weights or halving the cache is cheaper here"
    (reason,) = [r for r in plan.best.reasons if r.subject == "cost"]
    assert f"{ours:.3g} USD" in reason.choice and "16-bit KV cache loses less quality for" in reason.because


def test_a_rented_machine_is_paid_whole_however_much_of_it_is_used() -> None:
    plan = planner.recommend("llama3-8b", "lambda:gpu_8x_h100_sxm5", objective="cost").plan
    assert plan.best.hardware.count == 8
    assert all(_usd(plan.best) <= _usd(c) for c in plan.alternatives if c.meets_slo and c.engine.name == "vllm")


@pytest.mark.parametrize("asked", [("qwen2.5-0.5b", 1), ("llama3.2-3b", 2), ("llama3-8b", 32)])
def test_no_cpu_instance_that_was_passed_over_is_cheaper(catalog: Catalog, asked: tuple[str, int]) -> None:
    name, users = asked
    request = make_request(model=name, cheapest=True, concurrency=users)
    best = search(catalog, catalog.model(name), request)[0].usd_per_million_output_tokens
    assert best is not None
    for i in catalog.instances():
        if i.cpu is not None and i.cores == catalog.cpu(i.cpu).cores:  # whole sockets: the best of their kind
            plan = planner.recommend(name, f"{i.provider}:{i.id}", concurrency=users, objective="cost").plan
            assert not plan.best.meets_slo or _usd(plan.best) > best


def test_a_budget_that_only_slow_processors_keep_is_refused_and_the_next_one_is_named() -> None:
    with pytest.raises(InfeasibleError, match="no machine within that budget") as refused:
        planner.recommend("llama3.1-405b", budget_usd_per_hour=3.8)
    (remedy,) = refused.value.remedies
    assert "--budget" in remedy.command and float(remedy.command.split("--budget ")[1].split()[0]) > 3.8


def test_an_old_price_counts_only_when_no_newer_one_does(catalog: Catalog) -> None:
    model = catalog.model("llama3-8b")
    found = search(catalog, model, make_request(model="llama3-8b", cheapest=True))
    assert all(o.machine.instance is not None and o.machine.instance.provenance.date > "2025-12" for o in found)
    old = search(catalog, model, make_request(model="llama3-8b", budget_usd_per_hour=0.19))
    assert old and all(o.machine.instance is not None and o.machine.instance.provenance.date < "2025-12" for o in old)


def test_the_same_devices_of_two_providers_are_looked_at_once_and_priced_apart(catalog: Catalog) -> None:
    found = search(catalog, catalog.model("llama3-8b"), make_request(model="llama3-8b", cheapest=True))
    l4 = [o for o in found if o.machine.label in ("aws:g6.xlarge", "gcp:g2-standard-4")]
    assert len(l4) == 2
    assert l4[0].assessment.figures == l4[1].assessment.figures
    assert l4[0].usd_per_million_output_tokens != l4[1].usd_per_million_output_tokens


@pytest.mark.parametrize("gpus", [None, "1xH100"])
def test_an_arrival_rate_is_served_by_what_is_recommended(gpus: str | None) -> None:
    renting = {"cheapest": True} if gpus is None else {}
    asked = {"request_rate": 20.0, "arrival": "poisson", "ttft_ms": 2000.0, "itl_ms": 100.0, **renting}
    best = planner.recommend("llama3-8b", gpus, **asked).plan.best
    assert best.meets_slo and best.performance is not None
    assert best.performance.requests_per_s.value >= 0.99 * 20
    assert best.limits.max_num_seqs > 32, "the default users would hold fewer requests than arrive during a stay"


def test_an_arrival_rate_beyond_what_is_served_is_refused_with_both_rates() -> None:
    load = {"request_rate": 400.0, "arrival": "poisson"}
    with pytest.raises(InfeasibleError, match=r"serves [\d.]+ of 400 requests/s"):
        planner.recommend("llama3-8b", "1xL4", ttft_ms=600000, itl_ms=60000, **load)
    default = planner.recommend("llama3-8b", "1xL4", **load).plan
    assert not default.best.meets_slo
    assert any("of 400 requests/s" in caution for caution in default.cautions)


def test_slots_that_the_user_fixed_stay_under_an_arrival_rate() -> None:
    plan = planner.recommend("llama3-8b", "1xH100", request_rate=20.0, arrival="poisson", max_num_seqs=16).plan
    assert plan.best.limits.max_num_seqs == 16 and not plan.best.meets_slo


def test_of_machines_that_all_miss_the_targets_a_near_miss_is_named() -> None:
    with pytest.raises(InfeasibleError) as refused:
        planner.recommend("llama3-70b", cheapest=True, ttft_ms=100, itl_ms=7)
    label = str(refused.value).split(" fits ")[1].split(",")[0]
    for other in ("verda:1B200.30V", "1xH200", "8xB200"):
        with pytest.raises(InfeasibleError) as single:
            planner.recommend("llama3-70b", other, ttft_ms=100, itl_ms=7, concurrency=32, objective="cost")
        assert _miss(str(refused.value)) <= _miss(str(single.value)) + 0.01, (label, other)


@pytest.mark.parametrize(
    ("value", "target", "told"), [(10.001, 10, "10.001"), (10.04, 10, "10.04"), (28.3, 7, "28.3"), (410.2, 100, "410")]
)
def test_a_hair_above_the_target_is_told_with_the_digits_that_show_it(value: float, target: float, told: str) -> None:
    assert beside(value, target) == told


def _miss(message: str) -> float:
    found = re.search(r"TTFT ([\d,.]+) ms and ITL ([\d,.]+) ms", message)
    assert found is not None
    ttft, itl = (float(value.replace(",", "")) for value in found.groups())
    return math.log2(max(1.0, ttft / 100)) + math.log2(max(1.0, itl / 7))


def _usd(configuration: Configuration) -> float:
    assert configuration.cost is not None and configuration.cost.usd_per_million_output_tokens is not None
    return configuration.cost.usd_per_million_output_tokens.value
