"""From what a probe measured to the correction that later plans use.

The ratios are to what the shipped calibration says of the plan's own deployment and load, whatever corrections the plan
was made with, so that correcting twice is correcting once. Knows no HTTP: the probe's verdict comes as plain data.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from planner.errors import CheckFailedError, UsageError
from planner.spec.local import LocalCorrection, Ratio
from planner.units import GIB

if TYPE_CHECKING:
    from planner.spec.plan import MemoryLedger, Performance, Plan

Figures = Mapping[str, Any]


def correction_of(plan: Plan, measured: Mapping[str, Any], date: str | None = None) -> LocalCorrection:
    """What the verdict `measured` (plain data) of the deployed `plan` says. Raises UsageError, CheckFailedError."""
    checks = _checks(measured)
    load, reachable = checks.get("load"), checks.get("reachable", {})
    if reachable.get("status") == "failed":
        raise CheckFailedError(f"the endpoint cannot be reached, nothing is kept: {str(reachable.get('detail'))[:200]}")
    if load is None or load["status"] == "skipped":
        raise UsageError("the probe put no load on the endpoint; probe without --no-load")
    if load["status"] != "passed":
        raise CheckFailedError(f"the load failed, nothing is kept: {str(load.get('detail'))[:200]}")
    named = checks.get("models", {})
    if named.get("status") != "passed":
        raise CheckFailedError(
            f"the endpoint does not serve what the plan deploys, nothing is kept: {str(named.get('detail'))[:200]}"
        )
    ttft, rate = _figures(checks, "TTFT"), _figures(checks, "throughput")
    if "planned_p50_ms" not in ttft or "planned_output_tokens_per_s" not in rate:
        reason = str(checks.get("throughput", {}).get("detail", "")).partition("; ")[2] or "no plan was given"
        raise UsageError(f"the probe cannot be compared with this plan: {reason}; probe with --plan and its load")
    sent = load["figures"]
    asked = (plan.request.input_tokens, plan.request.output_tokens)
    if (sent.get("input_tokens"), sent.get("output_tokens")) != asked:
        raise UsageError(
            f"the probe sent {sent.get('input_tokens')} input and {sent.get('output_tokens')} output tokens, the plan "
            f"is for {asked[0]} and {asked[1]}"
        )
    memory, estimated = _estimated(plan)
    itl = _figures(checks, "ITL")
    ratio = _ratio(itl, "p50_ms", estimated.itl_ms.p50.value) if estimated.itl_ms and "p50_ms" in itl else None
    best, machine = plan.best, plan.resolved.machine
    weights, kv = _offsets(checks, memory)
    return LocalCorrection(
        device=machine.device_id, engine=best.engine.name, engine_version=plan.resolved.engine.version,
        model=plan.resolved.model.id, quantization=best.quantization, tensor_parallel=best.parallelism.tensor,
        pipeline_parallel=best.parallelism.pipeline, date=_day(date), concurrency=int(sent["concurrency"]),
        input_tokens=asked[0], output_tokens=asked[1], requests=int(sent["requests"]),
        ttft=_ratio(ttft, "p50_ms", estimated.ttft_ms.p50.value), itl=ratio,
        output_tokens_per_s=_ratio(
            {"log_error": itl.get("log_error", ttft.get("log_error")), **rate}, "output_tokens_per_s",
            estimated.output_tokens_per_s.value,
        ),
        weights_offset_bytes=weights, kv_cache_offset_bytes=kv,
    )  # fmt: skip


def keep(correction: LocalCorrection) -> None:
    """Store `correction` in place of one of the same name. Raises OutputError, FormatError."""
    from planner.sources import local_calibration

    others = [c for c in local_calibration.read() if c.name != correction.name]
    local_calibration.write([*others, correction])


def remove(name: str) -> tuple[LocalCorrection, ...]:
    """Delete the corrections whose name is `name` or begins with it and a slash; `all` deletes every one.

    Returns what was deleted. Raises UsageError, naming the nearest, when there is none.
    """
    from planner.errors import UnknownNameError
    from planner.sources import local_calibration

    held = local_calibration.read()
    gone = tuple(c for c in held if name in ("all", c.name) or c.name.startswith(name.rstrip("/") + "/"))
    if not gone:
        raise UnknownNameError("correction", name, [c.name for c in held], "`planner calibrate --list` shows them all")
    local_calibration.write([c for c in held if c not in gone])
    return gone


def _checks(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The probe's checks by name. Raises UsageError for what `planner probe -o json` does not print."""
    found = measured.get("checks")
    good = isinstance(found, list) and all(
        isinstance(c, dict) and isinstance(c.get("name"), str) and isinstance(c.get("figures"), dict) for c in found
    )
    if not good:
        raise UsageError("this is not what `planner probe --plan PLAN -o json` prints: it has no list of checks")
    assert isinstance(found, list)
    return {c["name"]: c for c in found if c.get("depth") == "probe"}


def _figures(checks: Mapping[str, Any], name: str) -> Figures:
    found: Figures = checks.get(name, {}).get("figures", {})
    return found


def _ratio(figures: Figures, name: str, estimated: float) -> Ratio:
    value, error = figures.get(name), figures.get("log_error")
    numbers = isinstance(value, int | float) and isinstance(error, int | float)
    if not numbers or not 0 < float(value) < 1e12 or not 0 <= float(error) < 10:  # type: ignore[arg-type]
        raise UsageError(f"the probe's {name} is {value!r} with an error of {error!r}; probe again with this planner")
    assert isinstance(value, int | float) and isinstance(error, int | float)
    return Ratio(value=float(f"{value / estimated:.6g}"), log_error=float(f"{error:.4g}"))


def _estimated(plan: Plan) -> tuple[MemoryLedger, Performance]:
    """What the shipped calibration alone says of the plan's deployment under its load."""
    from planner.estimate.serving import serve
    from planner.sources.catalog import load
    from planner.validate.simulate import situation_of

    resolved = plan.resolved
    bare = resolved.model_copy(update={"machine": resolved.machine.model_copy(update={"corrections": ()})})
    catalog = load()
    s = situation_of(plan.model_copy(update={"resolved": bare}), catalog)
    pool, layers = s.memory.kv_cache_tokens, s.memory.offloaded_layers
    return s.memory, serve(s.deployment, s.workload, catalog.calibration, pool, gpu_layers=layers)


def _offsets(checks: Mapping[str, Any], memory: MemoryLedger) -> tuple[int | None, int | None]:
    """(weights, KV pool): measured − ledger, bytes of one device. Tokens are exact, logged GiB are rounded."""
    weights, kv = _figures(checks, "log: weights").get("measured"), None
    for name in ("metrics: KV tokens", "log: KV tokens"):
        tokens = _figures(checks, name).get("measured")
        if kv is None and isinstance(tokens, int | float) and memory.kv_cache_tokens:
            kv = round((tokens / memory.kv_cache_tokens - 1.0) * memory.bytes_of("kv_cache"))
    gibibytes = _figures(checks, "log: KV memory").get("measured")
    if kv is None and isinstance(gibibytes, int | float):
        kv = round(gibibytes * GIB) - memory.bytes_of("kv_cache")
    offset = round(weights * GIB) - memory.bytes_of("weights") if isinstance(weights, int | float) else None
    return offset, kv


def _day(date: str | None) -> str:
    if date is None:
        return datetime.date.today().isoformat()
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except ValueError:
        raise UsageError(f"--date {date!a} is no day; write e.g. 2026-05-01") from None
