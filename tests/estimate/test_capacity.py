"""The most load that is said to hold does hold, and a little more does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.estimate.capacity import Targets, highest_rate, most_users
from planner.estimate.deployment import Workload
from planner.estimate.serving import serve
from planner.sources.catalog import Catalog
from planner.spec.plan import Performance

LLAMA_8B = "meta-llama/Llama-3.1-8B"
LOAD = Workload(1024, 256, 16)


@pytest.fixture
def served(catalog: Catalog, deployed: Any) -> Any:
    d = deployed(LLAMA_8B, "h100-sxm")

    def run(load: Workload) -> Performance:
        return serve(d, load, catalog.calibration, 400_000)

    return run


@pytest.mark.parametrize(
    ("targets", "breaks"), [(Targets(2000, 20), "ITL"), (Targets(250, 100), "TTFT"), (Targets(2000, 20, 50), "ITL")]
)
def test_one_user_more_breaks_what_is_named(targets: Targets, breaks: str, served: Any) -> None:
    found = most_users(served, LOAD, targets)
    assert found.load >= 1 and found.performance is not None and found.breaks == breaks
    assert targets.broken(found.performance) is None
    assert targets.broken(served(replace(LOAD, concurrency=int(found.load) + 1))) == breaks


def test_a_rate_slightly_higher_breaks_what_is_named(served: Any) -> None:
    most = served(replace(LOAD, concurrency=1024)).requests_per_s.value
    found = highest_rate(served, LOAD, Targets(400, 15), most)
    assert 0 < found.load < most and found.breaks == "ITL" and found.performance is not None
    above = served(replace(LOAD, arrival="poisson", request_rate=1.02 * found.load))
    assert Targets(400, 15).broken(above) == "ITL"


def test_without_a_latency_to_miss_throughput_is_the_limit(served: Any) -> None:
    most = served(replace(LOAD, concurrency=1024)).requests_per_s.value
    found = highest_rate(served, LOAD, Targets(1e9, 1e9), most)
    assert found.breaks == "throughput" and 0.9 * most < found.load < most


def test_looser_targets_never_admit_less(served: Any) -> None:
    users = [most_users(served, LOAD, Targets(t, 30)).load for t in (100, 300, 900, 2700)]
    assert users == sorted(users) and users[0] < users[-1]


def test_targets_that_one_user_misses_hold_for_nobody(served: Any) -> None:
    found = most_users(served, LOAD, Targets(1, 100))
    assert (found.load, found.performance, found.breaks) == (0, None, "TTFT")


def test_answers_of_one_token_have_no_itl_to_miss(served: Any) -> None:
    found = most_users(served, replace(LOAD, output_tokens=1), Targets(500, 1e-6))
    assert found.load > 1 and found.breaks == "TTFT"
