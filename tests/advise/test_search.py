"""Without a machine the search finds one that holds the load, and the cheapest of them."""

from __future__ import annotations

import pytest

import planner
from planner.advise.brief import make_brief
from planner.advise.configure import configure
from planner.advise.rank import excess, meets
from planner.advise.survey import survey
from planner.api import make_request
from planner.sources.catalog import Catalog
from planner.sources.machines import resolve_machine


@pytest.mark.parametrize("model", ["llama3-8b", "llama3-70b"])
def test_the_machine_found_meets_the_targets_in_full(model: str) -> None:
    plan = planner.recommend(model).plan
    assert plan.best.meets_slo
    assert any(a.startswith("searched ") for a in plan.assumptions)


def test_a_cheaper_machine_that_misses_the_targets_is_not_taken() -> None:
    chosen = planner.recommend("llama3-70b").plan.best
    cheaper = planner.recommend("llama3-70b", "1xGH200-96GB").plan.best
    assert cheaper.cost.usd_per_million_output_tokens.value < chosen.cost.usd_per_million_output_tokens.value  # type: ignore[union-attr]
    assert not cheaper.meets_slo


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
        assert a.figures.ttft_tail_s * 1000 == pytest.approx(performance.ttft_ms.p99.value, rel=0.4)


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
