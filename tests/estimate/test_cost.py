"""Cost: hourly price over throughput, with the band turned over, and nothing where no price is known."""

from __future__ import annotations

from typing import Any

import pytest

from planner.estimate.cost import cost
from planner.estimate.deployment import Workload
from planner.estimate.serving import serve
from planner.sources.catalog import Catalog
from planner.spec.base import Provenance
from planner.spec.hardware import Instance
from planner.spec.plan import Figure, Performance

LLAMA_8B = "meta-llama/Llama-3.1-8B"


@pytest.fixture
def performance(catalog: Catalog, deployed: Any) -> Performance:
    found = serve(deployed(LLAMA_8B, "h100-sxm"), Workload(512, 128, 32), catalog.calibration, 400_000)
    rate = Figure(value=1000.0, low=800.0, high=2000.0, unit="tokens/s", basis="fitted", n=7)
    return found.model_copy(update={"output_tokens_per_s": rate})


def test_a_thousand_tokens_a_second_at_3_60_an_hour_cost_a_dollar_per_million(
    deployed: Any, performance: Performance
) -> None:
    machine = deployed(LLAMA_8B, "h100-sxm").machine.model_copy(update={"usd_per_hour": 3.6})
    found = cost(machine, performance)
    assert found.usd_per_hour == 3.6
    figure = found.usd_per_million_output_tokens
    assert figure is not None
    assert figure.value == pytest.approx(1.0)
    assert (figure.low, figure.high) == pytest.approx((0.5, 1.25))
    assert (figure.basis, figure.n) == ("fitted", 7)


def test_without_a_price_there_is_no_cost_and_it_says_so(deployed: Any, performance: Performance) -> None:
    found = cost(deployed(LLAMA_8B, "h100-sxm").machine, performance)
    assert found.usd_per_hour is None
    assert found.usd_per_million_output_tokens is None
    assert "no price" in found.source


def test_what_does_not_fit_has_a_price_but_no_cost_per_token(deployed: Any) -> None:
    machine = deployed(LLAMA_8B, "h100-sxm").machine.model_copy(update={"usd_per_hour": 2.0})
    assert cost(machine, None).usd_per_million_output_tokens is None
    assert cost(machine, None).usd_per_hour == 2.0


def test_single_devices_are_paid_by_the_device_and_an_instance_whole(deployed: Any, performance: Performance) -> None:
    machine = deployed(LLAMA_8B, "h100-sxm", replicas=8).machine.model_copy(update={"usd_per_hour": 16.0})
    assert cost(machine, performance, devices=2).usd_per_hour == 4.0
    rented = machine.model_copy(
        update={
            "instance": Instance(
                provider="aws",
                id="p5.48xlarge",
                accelerator="h100-sxm",
                accelerator_label="H100",
                accelerator_count=8,
                usd_per_hour=16.0,
                region="us-east-1",
                provenance=Provenance(source="a price list", date="2026-01-01", basis="spec"),
            )
        }
    )
    found = cost(rented, performance, devices=2)
    assert found.usd_per_hour == 16.0
    assert "aws p5.48xlarge" in found.source
    assert "2026-01-01" in found.source
