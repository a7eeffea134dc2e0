"""A probe's figures become a correction, the correction is kept, and later answers use it and say so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.errors import CheckFailedError, FormatError, UnknownNameError, UsageError
from planner.render.plan_file import dump_plan
from planner.sources import local_calibration
from planner.spec.plan import Plan
from planner.validate.calibrate import correction_of, remove

PlanNamed = Callable[[str], Plan]
Json = dict[str, Any]
H100: Json = {"model": "llama3-8b", "gpus": "1xH100"}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLANNER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "calibration.json"


def probed(
    plan: Plan, *, ratio: float = 1.5, requests: int = 96, error: float = 0.01, changed: Json | None = None
) -> Json:
    """What the probe of `plan` would print on a deployment `ratio` times as slow as planned."""
    performance, request = plan.best.performance, plan.request
    assert performance is not None and performance.itl_ms is not None
    ttft, itl, rate = performance.ttft_ms.p50.value, performance.itl_ms.p50.value, performance.output_tokens_per_s.value
    sent = {"input_tokens": request.input_tokens, "output_tokens": request.output_tokens}
    checks: dict[str, Json] = {
        "models": {},
        "load": {"requests": requests, "concurrency": 32, "wall_s": 10.0, **sent},
        "TTFT": {"p50_ms": ratio * ttft, "planned_p50_ms": ttft, "log_error": error},
        "ITL": {"p50_ms": ratio * itl, "planned_p50_ms": itl, "log_error": error},
        "throughput": {"output_tokens_per_s": rate / ratio, "planned_output_tokens_per_s": rate},
    }
    return {
        "checks": [
            {"depth": "probe", "name": name, "status": "passed", "detail": "", "figures": figures}
            | (changed or {}).get(name, {})
            for name, figures in checks.items()
        ]
    }


def test_later_answers_are_corrected_and_say_so(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    planner.calibrate(plan, measured=probed(plan), date="2026-01-02")
    again = planner.recommend(**H100, engine="vllm", quantization=plan.best.quantization).plan
    before, after = plan.best.performance, again.best.performance
    assert before is not None and after is not None
    old, new = before.ttft_ms.p50, after.ttft_ms.p50
    assert old.value < new.value <= 1.5 * old.value * 1.001
    assert new.basis == "calibrated here" and new.n == 96
    assert new.high / new.low < old.high / old.low
    assert after.output_tokens_per_s.value < before.output_tokens_per_s.value
    line = next(a for a in again.assumptions if a.startswith("calibrated here"))
    assert "h100-sxm" in line and "96 requests" in line and "2026-01-02" in line and "--no-local-calibration" in line
    assert again.resolved.local_calibration_sha256 == local_calibration.sha256(local_calibration.read())


def test_without_it_the_plan_is_the_one_before(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    planner.calibrate(plan, measured=probed(plan))
    off = planner.recommend(**H100, local_calibration=False).plan
    assert off.best == plan.best and off.resolved == plan.resolved and off.assumptions == plan.assumptions
    remove("h100-sxm")
    assert dump_plan(planner.recommend(**H100).plan) == dump_plan(plan)


def test_the_same_store_gives_the_same_bytes(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    planner.calibrate(plan, measured=probed(plan))
    first, second = (dump_plan(planner.recommend(**H100).plan) for _ in range(2))
    assert first == second and "local_calibration_sha256" in first
    assert planner.recommend(model="llama3-8b", gpus="1xA100").plan.resolved.local_calibration_sha256 is None


def test_a_corrected_plan_is_measured_against_the_shipped_estimate(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    kept = planner.calibrate(plan, measured=probed(plan))
    corrected = planner.recommend(**H100, quantization=plan.best.quantization).plan
    again = correction_of(corrected, probed(plan), kept.date)
    assert again == kept
    assert math.isclose(kept.ttft.value, 1.5, rel_tol=1e-4)
    verdict = planner.validate(corrected, only="simulate")
    assert not [c for c in verdict.checks if c.status == "failed" and c.name in ("ledger", "figures")]


@pytest.mark.parametrize("error", [0.0, 0.2])
def test_more_measurements_give_a_narrower_band(plan_named: PlanNamed, error: float) -> None:
    plan = plan_named("vllm-h100")

    def width() -> float:
        figure = planner.estimate(**H100, quantization=plan.best.quantization, concurrency=32).ttft_ms
        assert figure is not None
        return math.log(figure.p50.high / figure.p50.low)

    shipped = width()
    kept = planner.calibrate(plan, measured=probed(plan, ratio=1.05, error=error))
    one = width()
    local_calibration.write([kept.model_copy(update={"concurrency": c}) for c in (1, 8, 32, 64)])
    assert width() < one <= shipped


@pytest.mark.parametrize("error", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.9, 1.5, 4.0, 200.0])
def test_the_corrected_band_holds_what_was_measured(plan_named: PlanNamed, ratio: float, error: float) -> None:
    plan = plan_named("vllm-h100")
    measured = probed(plan, ratio=ratio, error=error)
    planner.calibrate(plan, measured=measured)
    found = planner.estimate(
        **H100, quantization=plan.best.quantization, kv_cache_dtype=plan.best.kv_cache_dtype, concurrency=32
    )
    assert found.ttft_ms is not None and found.itl_ms is not None and found.output_tokens_per_s is not None
    seen = {check["name"]: check["figures"] for check in measured["checks"]}
    for figure, value in (
        (found.ttft_ms.p50, seen["TTFT"]["p50_ms"]),
        (found.itl_ms.p50, seen["ITL"]["p50_ms"]),
        (found.output_tokens_per_s, seen["throughput"]["output_tokens_per_s"]),
    ):
        assert figure.low * 0.999 <= value <= figure.high * 1.001, figure


def test_another_model_is_moved_less_and_keeps_a_wider_band(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    asked: Json = {"gpus": "1xH100", "quantization": plan.best.quantization, "concurrency": 32}
    before = {m: planner.estimate(m, **asked).itl_ms for m in ("llama3-8b", "qwen3-8b")}
    planner.calibrate(plan, measured=probed(plan))
    after = {m: planner.estimate(m, **asked).itl_ms for m in before}
    moved, width = {}, {}
    for model, old in before.items():
        new = after[model]
        assert old is not None and new is not None
        moved[model] = new.p50.value / old.p50.value
        width[model] = new.p50.high / new.p50.low
    assert 1.0 <= moved["qwen3-8b"] < moved["llama3-8b"]
    assert width["qwen3-8b"] > width["llama3-8b"]


def test_memory_that_was_seen_moves_the_pool(plan_named: PlanNamed) -> None:
    plan = plan_named("vllm-h100")
    ledger = plan.best.memory
    seen = round(0.95 * ledger.kv_cache_tokens)
    measured = probed(plan)
    measured["checks"].append(
        {"depth": "probe", "name": "metrics: KV tokens", "status": "passed", "figures": {"measured": seen}}
    )
    kept = planner.calibrate(plan, measured=measured)
    assert kept.kv_cache_offset_bytes is not None and kept.kv_cache_offset_bytes < 0
    memory = planner.recommend(**H100, quantization=plan.best.quantization).plan.best.memory
    assert abs(memory.kv_cache_tokens / seen - 1) < 0.001
    assert sum(row.bytes for row in memory.rows) == memory.device_bytes
    assert "calibrated here" in {row.basis for row in memory.rows if row.item == "runtime"}


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"load": {"status": "failed"}}, CheckFailedError, "load failed"),
        ({"load": {"status": "skipped"}}, UsageError, "no load"),
        ({"models": {"status": "failed", "detail": "has other"}}, CheckFailedError, "has other"),
        ({"TTFT": {"figures": {"p50_ms": 3.0, "log_error": 0.1}}}, UsageError, "cannot be compared"),
        ({"ITL": {"figures": {"p50_ms": "fast", "log_error": 0.1}}}, UsageError, "'fast'"),
    ],
)
def test_what_was_not_the_planned_load_is_not_kept(
    plan_named: PlanNamed, store: Path, changed: dict[str, Json], error: type[Exception], told: str
) -> None:
    plan = plan_named("vllm-h100")
    with pytest.raises(error, match=told):
        planner.calibrate(plan, measured=probed(plan, changed=changed))
    assert not store.exists()


@pytest.mark.parametrize("measured", [{}, {"checks": 3}, {"checks": [1]}, {"checks": [{"name": "load"}]}])
def test_what_no_probe_printed_is_refused(plan_named: PlanNamed, measured: Json) -> None:
    with pytest.raises(UsageError, match="planner probe"):
        planner.calibrate(plan_named("vllm-h100"), measured=measured)


def test_the_same_measurement_replaces_and_removal_is_by_beginning(plan_named: PlanNamed, store: Path) -> None:
    plan = plan_named("vllm-h100")
    planner.calibrate(plan, measured=probed(plan, ratio=2.0))
    planner.calibrate(plan, measured=probed(plan))
    assert [round(c.ttft.value, 3) for c in local_calibration.read()] == [1.5]
    with pytest.raises(UnknownNameError):
        remove("h100")
    assert len(remove("h100-sxm/vllm-0.33.0")) == 1
    assert not store.exists() and local_calibration.read() == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "corrections": [{}]}'])
def test_a_damaged_store_is_named_and_can_be_left_out(store: Path, text: str) -> None:
    store.parent.mkdir()
    store.write_text(text)
    with pytest.raises(FormatError, match=r"calibration\.json.*--no-local-calibration"):
        planner.estimate(**H100)
    assert planner.estimate(**H100, local_calibration=False).memory.fits


def test_no_store_costs_one_stat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    stat = Path.stat

    def counted(path: Path, **more: Any) -> Any:
        asked.append(path)
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", counted)
    assert local_calibration.read() == ()
    assert asked == [local_calibration.store_path()]


def test_a_store_is_written_whole_or_not_at_all(plan_named: PlanNamed, store: Path) -> None:
    plan = plan_named("vllm-h100")
    kept = planner.calibrate(plan, measured=probed(plan))
    assert json.loads(store.read_text())["schema_version"] == 1
    assert [p.name for p in store.parent.iterdir()] == ["calibration.json"]
    assert local_calibration.read() == (kept,)
