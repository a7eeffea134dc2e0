"""Bands: measured rows fall inside them as often as they claim, and doubt widens them."""

from __future__ import annotations

import csv
from collections import defaultdict
from typing import Any

import pytest

from planner.estimate.bands import UNCALIBRATED_BAND, band, figure, inverse
from planner.estimate.efficiency import Fit, efficiency
from planner.estimate.step import StepModel
from planner.resources import folder
from planner.sources.catalog import Catalog
from planner.spec.calibration import Calibration

PROVENANCE = {"source": "catalog/measurements", "date": "2026-01-01", "basis": "derived"}


def test_every_band_holds_the_estimate_itself_and_rests_on_rows(catalog: Catalog) -> None:
    assert len(catalog.calibration.bands) > 20
    for b in catalog.calibration.bands:
        assert 0 < b.low < 1 < b.high < 20, (b.engine, b.scope, b.metric)
        assert b.n >= 4


def test_measured_decode_steps_fall_inside_their_band_about_as_often_as_it_claims(
    catalog: Catalog, deployed: Any
) -> None:
    inside: dict[str, list[bool]] = defaultdict(list)
    for name in ("tensorrt_llm_static.csv", "vllm_h200.csv"):
        with (folder("catalog") / "measurements" / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["load"] != "static" or row["metric"] != "itl_ms_mean" or "Mixtral" in row["model"]:
                    continue
                d = deployed(
                    row["model"], row["accelerator"], row["engine"], row["quantization"], tp=int(row["tensor"]),
                    kv=row["kv_cache_dtype"],
                )  # fmt: skip
                step = StepModel(d, catalog.calibration)
                context = float(row["input_tokens"]) + float(row["output_tokens"]) / 2
                ratio = float(row["value"]) / (1e3 * step.decode_s(float(row["concurrency"]), context))
                low, high, _ = band(catalog.calibration, "itl", row["engine"], d, step.fit)
                inside[row["accelerator"]].append(low <= ratio <= high)
    assert set(inside) == {"h100-sxm", "a100-sxm4-80gb", "l40s", "h200-sxm"}
    for device, hits in inside.items():
        assert sum(hits) / len(hits) > 0.7, device


def test_a_device_with_rows_is_fitted_and_its_sister_inherits_a_wider_band(catalog: Catalog, deployed: Any) -> None:
    bands = {}
    for device, basis in (("h100-sxm", "fitted"), ("h100-pcie", "inherited")):
        d = deployed("meta-llama/Llama-3.1-8B", device)
        fit = efficiency(catalog.calibration, "vllm", d.machine)
        assert fit.basis == basis
        assert fit.scope == "Hopper"
        bands[device] = band(catalog.calibration, "itl", "vllm", d, fit)
    assert bands["h100-pcie"][0] < bands["h100-sxm"][0] < 1 < bands["h100-sxm"][1] < bands["h100-pcie"][1]


def test_a_load_far_beyond_the_measured_ones_is_said_to_be_extrapolated(catalog: Catalog, deployed: Any) -> None:
    d = deployed("meta-llama/Llama-3.1-8B", "h200-sxm")
    fit = efficiency(catalog.calibration, "vllm", d.machine)
    most, longest = fit.most_sequences, fit.longest_tokens
    assert most is not None
    assert longest is not None
    assert fit.reaching(most, longest) is fit
    for load in ((3.0 * most, 2000.0), (8.0, 3.0 * longest)):
        far = fit.reaching(*load)
        assert far.basis == "inherited"
        assert far.values == fit.values
        near, wide = (band(catalog.calibration, "ttft", "vllm", d, f) for f in (fit, far))
        assert wide[0] < near[0] < near[1] < wide[1]


@pytest.mark.parametrize(
    ("engine", "device", "relative", "scope"),
    [
        ("vllm", "a100-sxm4-80gb", "vllm", "Ampere"),
        ("vllm", "t4", "vllm", "cuda"),
        ("tgi", "h100-sxm", "vllm", "Hopper"),
        ("vllm", "gaudi2", "vllm", "Gaudi 2"),
        ("ollama", "m3-max", "llamacpp", "Apple M3"),
        ("ollama", "gb10", "llamacpp", "Blackwell/integrated"),
        ("ollama", "rtx-5090", "llamacpp", "Blackwell"),
        ("ollama", "epyc-9654", "llamacpp", "x86_64"),
        ("llamacpp", "raspberry-pi-5", "llamacpp", "raspberry-pi-5"),
        ("vllm", "mi325x", "vllm", "CDNA3"),
    ],
)
def test_the_nearest_fit_is_found(
    engine: str, device: str, relative: str, scope: str, catalog: Catalog, deployed: Any
) -> None:  # fmt: skip
    fit = efficiency(catalog.calibration, engine, deployed("meta-llama/Llama-3.1-8B", device, engine).machine)
    assert (fit.engine, fit.scope) == (relative, scope)


def test_without_calibration_the_band_is_the_widest(deployed: Any) -> None:
    d = deployed("meta-llama/Llama-3.1-8B", "h100-sxm")
    fit = efficiency(Calibration(), "vllm", d.machine)
    assert fit.basis == "uncalibrated"
    assert band(Calibration(), "itl", "vllm", d, fit) == (*UNCALIBRATED_BAND, 0)


def test_rows_of_a_kind_have_their_own_band_and_a_lone_prompt_another_than_one_under_load(deployed: Any) -> None:
    plain = deployed("meta-llama/Llama-3.1-8B", "h100-sxm")
    other = deployed("meta-llama/Llama-3.1-8B", "h100-sxm", quantization="awq")
    told = {"engine": "vllm", "scope": "Hopper", "n": 30, "basis": "fitted", "provenance": PROVENANCE}
    of = Calibration.model_validate({"bands": [
        {"metric": "ttft", "low": 0.5, "high": 2.0, **told},
        {"metric": "ttft", "low": 0.8, "high": 1.2, "format_kind": "float", "moe": False, **told},
        {"metric": "prefill", "low": 0.9, "high": 1.1, **told},
    ]})  # fmt: skip
    fit = Fit({}, "fitted", "vllm", "Hopper", ("vllm",))
    assert band(of, "ttft", "vllm", plain, fit)[:2] == (0.8, 1.2)
    assert band(of, "ttft", "vllm", other, fit)[:2] == (0.5, 2.0)
    assert band(of, "prefill", "vllm", plain, fit)[:2] == (0.9, 1.1)


def test_a_figure_keeps_its_value_inside_and_a_rate_turns_the_band_over() -> None:
    found = figure(10.0, "ms", (1.1, 1.4, 9), "fitted")
    assert (found.low, found.value, found.high, found.n) == (10.0, 10.0, 14.0, 9)
    assert inverse((0.5, 2.0, 3)) == (0.5, 2.0, 3)
    assert inverse((0.8, 1.6, 3)) == pytest.approx((0.625, 1.25, 3))
