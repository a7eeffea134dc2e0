"""`planner accuracy`: counts are right, every row is answered, and nothing has become worse."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest

from planner.api import accuracy
from planner.errors import CatalogError
from planner.report.accuracy import markdown
from planner.sources.catalog import Catalog
from planner.sources.measurements import held_out, memory_rows, speed_rows
from planner.spec.measurement import SpeedRow
from planner.validate.accuracy import Report, Target, errors_of, floors, report, targets
from planner.validate.scored import Scored, score_speed

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def whole() -> Report:
    started = time.process_time()
    found = accuracy()
    assert time.process_time() - started < 15
    return found


def row(**changes: object) -> SpeedRow:
    fields: dict[str, object] = {
        "engine": "vllm", "engine_version": "0.26.0", "model": "m", "quantization": "bf16", "kv_cache_dtype": "bf16",
        "accelerator": "h200-sxm", "metric": "itl_ms_mean", "value": 10.0, "source": "", "url": "", "date": "",
        "load": "static", "concurrency": 1, "input_tokens": 8, "output_tokens": 8, "step_tokens": 8,
    }  # fmt: skip
    return SpeedRow.model_validate({**fields, **changes})


def scored(predicted: float, held: float, band: tuple[float, float] = (0.9, 1.1), **changes: object) -> Scored:
    return Scored(
        row(**changes), "decode", "static", "Hopper", "cuda", "float", False, 10.0, predicted, {"model": held}, band
    )


def test_every_row_is_answered(whole: Report) -> None:
    assert whole.unanswered == ()
    assert whole.answered == whole.rows == len(speed_rows()) + len(memory_rows()) > 5000


def test_no_slice_is_worse_than_its_floor(whole: Report, catalog: Catalog) -> None:
    allowed = floors(catalog)
    assert len(allowed) > 40
    assert whole.breaches(allowed) == []


def test_the_page_is_current(whole: Report) -> None:
    assert (DOCS / "accuracy.md").read_text(encoding="utf-8") == markdown(whole)


def test_every_target_selects_rows_or_says_why_not(whole: Report, catalog: Catalog) -> None:
    assert len(targets(catalog)) == len(whole.outcomes)
    for outcome in whole.outcomes:
        assert outcome.fitted is not None or outcome.target.why, outcome.target.id
        assert outcome.met or outcome.target.why, outcome.target.id


def test_held_out_predictions_are_of_rows_that_ship() -> None:
    keys = {r.key for r in speed_rows()}
    assert {h.key for h in held_out()} <= keys


def test_rows_that_a_fit_uses_have_held_out_predictions() -> None:
    keys = {h.key for h in held_out()}
    means = [r for r in speed_rows() if r.engine == "vllm" and r.metric in ("itl_ms_mean", "ttft_ms_mean")]
    used = [r for r in means if r.load == "closed_loop"]
    assert len(used) > 900
    odd = {(r.model, r.quantization) for r in used if r.key not in keys}
    assert odd == {("Qwen/Qwen3-32B", "fp8")}


def test_statistics_are_those_of_the_signed_errors() -> None:
    found = errors_of([0.1, -0.3, 0.2, 0.0])
    assert (found.n, found.worst) == (4, 0.3)
    assert found.mean == pytest.approx(0.15)
    assert found.median == pytest.approx(0.15)
    assert found.p90 == pytest.approx(0.27)
    assert found.bias == pytest.approx(0.0)


def test_a_slice_counts_fitted_and_held_out_apart() -> None:
    target = Target(id="t", what="", where={"metric": "decode"}, statistic="mean", limit=0.1)
    found = report([scored(11.0, 15.0), scored(9.0, 10.5)], [target], [])
    (slice_,) = found.slices
    assert slice_.fitted.mean == pytest.approx(0.1)
    assert slice_.held_out["model"].mean == pytest.approx((0.5 + 0.05) / 2)
    assert slice_.coverage == 0.5
    assert not found.outcomes[0].met  # held out decides


@pytest.mark.parametrize(
    ("where", "n"),
    [({"accelerator": "h200-sxm"}, 1), ({"not_accelerator": "h200-sxm"}, 1), ({"accelerator": ["a", "b"]}, 1)],
)
def test_targets_select_by_row_and_by_score(where: dict[str, object], n: int) -> None:
    target = Target(id="t", what="", where=where, statistic="mean", limit=1.0)
    found = report([scored(10, 10), scored(10, 10, accelerator="a")], [target], []).outcomes[0].fitted
    assert found is not None
    assert found.n == n


def test_a_target_by_an_unknown_attribute_is_an_error() -> None:
    target = Target(id="t", what="", where={"colour": "red"}, statistic="mean", limit=1.0)
    with pytest.raises(CatalogError, match="rows have no 'colour'"):
        report([scored(10, 10)], [target], [])


def test_a_worse_slice_breaches_its_floor(whole: Report, catalog: Catalog) -> None:
    for statistic in ("median", "p90"):
        tighter = [f.model_copy(update={statistic: 0.0}) for f in floors(catalog)]
        told = whole.breaches(tighter)
        assert len(told) > 30
        assert all(f"{statistic} " in line and "is above 0.0%" in line for line in told)


def test_a_calibration_a_tenth_off_breaches_the_floors(catalog: Catalog) -> None:
    """What a wrong edit of a fit would do: CI has to see it."""
    spoilt = copy.copy(catalog)
    worse = [
        e.model_copy(update={"coefficients": {**e.coefficients, "mem_fraction": 0.9 * e.coefficients["mem_fraction"]}})
        if "mem_fraction" in e.coefficients else e
        for e in catalog.calibration.efficiencies
    ]  # fmt: skip
    vars(spoilt)["calibration"] = catalog.calibration.model_copy(update={"efficiencies": tuple(worse)})
    rows = [r for r in speed_rows() if r.engine == "vllm" and r.accelerator == "h200-sxm"]
    found = report(score_speed(spoilt, rows, ()), [], [])
    mine = [f for f in floors(catalog) if f.slice in {s.name for s in found.slices if "decode" in s.name}]
    assert mine
    assert found.breaches(mine)


def test_bands_cover_what_they_promise(whole: Report) -> None:
    """80 % bands hold 75 to 90 % of held-out rows, class by class where there are enough to tell."""
    large = [c for c in whole.coverage if c.n >= 20 and c.metric != "throughput"]  # which has ITL's band
    assert large
    for c in large:
        assert 0.74 <= c.share <= 0.92, (c.metric, c.engine, c.device_class, c.share)
