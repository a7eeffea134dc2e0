"""A plan's limits under its workload: are the targets met, with how much to spare, and what breaks first under more.

The figures are those of `estimate.serving` for the plan's own facts and limits; a plan whose stored ledger or figures
do not come out again was edited, or made by another calibration. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from planner.advise.brief import DEFAULT_ITL_MS, DEFAULT_TTFT_MS, PERSONAL_CLASSES
from planner.advise.features import extras_of
from planner.advise.support import kernel_for
from planner.errors import CheckFailedError, UsageError
from planner.estimate.capacity import Capacity, Targets, highest_rate, most_users
from planner.estimate.deployment import Deployment, Workload, workload_of
from planner.estimate.memory import ledger
from planner.estimate.schedulers.traffic import longest_request
from planner.estimate.serving import serve
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.units import ceil_div, gib
from planner.validate.verdict import Check, failed, from_problems, guarded, judged, missed, passed, skipped

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.plan import MemoryLedger, Performance, Plan

MOST_LOAD = 64.0
"""Times the planned load beyond which nothing is looked for."""
STEPS = 10
"""Bisections: the breaking point is found to a thousandth of its bracket."""


MOST_OF_ALL = 0.98
"""Share of the asked users below which a plan's own mean of running requests says that some wait."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A plan taken apart: what is deployed, under what load, with which targets (ms)."""

    deployment: Deployment
    workload: Workload
    memory: MemoryLedger
    ttft_ms: float
    itl_ms: float
    percentile: float

    @property
    def engines(self) -> int:
        """Schedulers that share the load: data-parallel ranks of all replicas."""
        return self.deployment.parallelism.data * self.deployment.parallelism.replicas


def simulate(plan: Plan, catalog: Catalog) -> tuple[Check, ...]:
    """All checks of `plan`."""
    name = "performance"
    if plan.best.performance is None:
        return (skipped(name, "the plan has no figures to compare: no calibration stood for this device"),)
    try:
        situation = situation_of(plan, catalog)
    except CheckFailedError as error:
        return (failed("deployment", str(error)),)
    now = _served(situation, 1.0, catalog)
    return (
        _ledger(plan, situation),
        _figures(plan, now, catalog),
        _context(situation),
        _admission(situation, plan),
        _target("TTFT", now.ttft_ms_at(situation.percentile), situation.ttft_ms, situation, plan, now),
        _target("ITL", now.itl_ms_at(situation.percentile), situation.itl_ms, situation, plan, now),
        guarded("capacity", lambda: _capacity(situation, catalog)),
        guarded("load doubled", lambda: _doubled(situation, catalog)),
    )


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a plan does under a load, and how much more it bears within its targets."""

    subject: str
    workload: Workload
    targets: Targets
    performance: Performance
    users: Capacity
    """Most clients of a closed loop."""
    rate: Capacity
    """Highest rate of random arrivals, requests/s."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `-o json` prints."""
        return {
            "subject": self.subject, "workload": asdict(self.workload), "targets": asdict(self.targets),
            "performance": self.performance.model_dump(mode="json"),
            "capacity": {
                "users": self.users.load, "users_broken_by": self.users.breaks, "requests_per_s": self.rate.load,
                "rate_broken_by": self.rate.breaks,
            },
        }  # fmt: skip


def simulation(plan: Plan, catalog: Catalog, duration_s: float | None = None) -> Simulation:
    """`plan`'s deployment under the load of its request. Raises UsageError where a request exceeds the context."""
    s = situation_of(plan, catalog)
    longest, limit = longest_request(s.workload), s.deployment.limits.max_model_len
    if longest > limit:
        raise UsageError(f"input + output are up to {longest:,} tokens, and this plan's limit is {limit:,}")
    if s.workload.arrival == "poisson" and s.workload.request_rate is None:
        raise UsageError("arrival poisson needs --request-rate (requests per second)")
    found = serve(
        s.deployment, s.workload, catalog.calibration, s.memory.kv_cache_tokens,
        gpu_layers=s.memory.offloaded_layers, duration_s=duration_s,
    )  # fmt: skip
    best = plan.best
    subject = f"{best.engine.name} {best.engine.version} serving {best.model.checkpoint} on {best.hardware.label}"
    return Simulation(subject, s.workload, Targets(s.ttft_ms, s.itl_ms, s.percentile), found, *capacities(s, catalog))


def situation_of(plan: Plan, catalog: Catalog) -> Situation:
    """`plan` as the estimators take it. Raises CheckFailedError when no kernel runs its format on its platform."""
    best, resolved, request = plan.best, plan.resolved, plan.request
    kernel = kernel_for(resolved.engine, resolved.machine, best.quantization)
    if isinstance(kernel, str):
        raise CheckFailedError(kernel)
    default = "fp16" if best.engine.name in LAYER_SPLIT_ENGINES or resolved.model.dtype == "fp16" else "bf16"
    fitting = [
        c
        for c in resolved.model.checkpoints
        if c.quantization == best.quantization and best.model.checkpoint in (c.repo, c.ollama_tag)
    ]
    deployment = Deployment(
        model=resolved.model,
        quantization=catalog.format(best.quantization),
        kv_format=catalog.kv_format(default if best.kv_cache_dtype == "auto" else best.kv_cache_dtype),
        machine=resolved.machine,
        engine=resolved.engine,
        parallelism=best.parallelism,
        limits=best.limits,
        native_compute=kernel[1],
        checkpoint=fitting[0] if fitting else None,
        extras=extras_of(catalog, best.features) if best.features is not None else None,
    )
    personal = resolved.machine.device_class in PERSONAL_CLASSES
    concurrency = request.concurrency or (1 if personal else 32)
    return Situation(
        deployment,
        workload_of(request, concurrency),
        ledger(deployment),
        DEFAULT_TTFT_MS if request.ttft_ms is None else request.ttft_ms,
        DEFAULT_ITL_MS if request.itl_ms is None else request.itl_ms,
        request.slo_percentile,
    )


def capacities(s: Situation, catalog: Catalog) -> tuple[Capacity, Capacity]:
    """Most users of a closed loop, and the highest rate of random arrivals (requests/s), within the targets."""
    targets = Targets(s.ttft_ms, s.itl_ms, s.percentile)
    pool, layers = s.memory.kv_cache_tokens, s.memory.offloaded_layers

    def served(load: Workload) -> Performance:
        return serve(s.deployment, load, catalog.calibration, pool, gpu_layers=layers)

    users = most_users(served, s.workload, targets)
    # No rate above what a full house is served at can be kept up.
    slots = s.engines * s.deployment.limits.max_num_seqs
    full = served(replace(s.workload, arrival="closed_loop", concurrency=slots, request_rate=None))
    return users, highest_rate(served, s.workload, targets, full.requests_per_s.value)


def _capacity(s: Situation, catalog: Catalog) -> Check:
    """The most load within the targets, asked for or default. A finding; it fails nothing."""
    users, rate = capacities(s, catalog)
    figures: dict[str, float | str | None] = {
        "most_users": users.load, "users_broken_by": users.breaks, "highest_requests_per_s": rate.load,
        "rate_broken_by": rate.breaks, "ttft_target_ms": s.ttft_ms, "itl_target_ms": s.itl_ms,
        "percentile": s.percentile,
    }  # fmt: skip
    if users.performance is not None:
        figures["output_tokens_per_s_at_most_users"] = users.performance.output_tokens_per_s.value
    targets = f"TTFT {s.ttft_ms:g} ms and ITL {s.itl_ms:g} ms at p{s.percentile:g}"
    told = f"holds up to {users.load:,.0f} users ({_then(users)}) or {rate.load:.3g} requests/s ({_then(rate)})"
    planned = s.workload.request_rate if s.workload.request_rate is not None else s.workload.concurrency
    held = rate.load if s.workload.request_rate is not None else users.load
    return (passed if held >= planned else missed)("capacity", f"{told} within {targets}", **figures)


def _then(found: Capacity) -> str:
    return f"then {found.breaks} breaks" if found.breaks else "and nothing breaks"


def _scaled(workload: Workload, factor: float) -> Workload:
    rate = None if workload.request_rate is None else workload.request_rate * factor
    return replace(workload, concurrency=max(1, round(workload.concurrency * factor)), request_rate=rate)


def _served(s: Situation, factor: float, catalog: Catalog) -> Performance:
    return serve(
        s.deployment,
        _scaled(s.workload, factor),
        catalog.calibration,
        s.memory.kv_cache_tokens,
        gpu_layers=s.memory.offloaded_layers,
    )


def _ledger(plan: Plan, s: Situation) -> Check:
    """The stored ledger adds up to the device and is what the limits give."""
    stored, again = plan.best.memory, s.memory
    problems = []
    total = sum(row.bytes for row in stored.rows)
    if total != stored.device_bytes:
        problems.append(f"rows add up to {gib(total)}, the device has {gib(stored.device_bytes)}")
    for row in again.rows:
        if stored.bytes_of(row.item) != again.bytes_of(row.item):
            problems.append(
                f"{row.item}: the plan says {gib(stored.bytes_of(row.item))}, its limits give {gib(row.bytes)}"
            )
    if not again.fits:
        problems.append(f"it does not fit: {gib(again.shortfall_bytes)} are missing")
    used = gib(stored.device_bytes - stored.bytes_of("free"))
    return from_problems(
        "memory ledger", problems, f"{used} of {gib(stored.device_bytes)} used, {stored.kv_cache_tokens:,} KV tokens",
        kv_cache_tokens=again.kv_cache_tokens, device_bytes=again.device_bytes,
    )  # fmt: skip


def _figures(plan: Plan, now: Performance, catalog: Catalog) -> Check:
    name, stored = "planned figures", plan.best.performance
    assert stored is not None
    told, found = stored.output_tokens_per_s.value, now.output_tokens_per_s.value
    figures = {"planned_output_tokens_per_s": told, "output_tokens_per_s": found}
    if stored == now:
        return passed(name, f"{found:,.0f} output tokens/s come out again", **figures)
    if plan.resolved.calibration_sha256 != catalog.calibration_sha256:
        detail = f"planned with another calibration: {told:,.0f} output tokens/s then, {found:,.0f} now"
        return skipped(name, detail, **figures)
    other = [k for k in type(now).model_fields if getattr(stored, k) != getattr(now, k)]
    detail = f"these limits give {found:,.0f} output tokens/s, the plan says {told:,.0f}"
    return failed(name, f"{detail}; other than planned: {', '.join(other)}", **figures)


def _context(s: Situation) -> Check:
    needed, limit = s.workload.input_tokens + s.workload.output_tokens, s.deployment.limits.max_model_len
    return judged(
        "context", needed <= limit, f"input + output are {needed:,} of {limit:,} tokens",
        f"input + output are {needed:,} tokens, the limit is {limit:,}", needed_tokens=needed, max_model_len=limit,
    )  # fmt: skip


def _admission(s: Situation, plan: Plan) -> Check:
    """Whether every planned user has a slot and room in the KV pool at once.

    A queue that the plan's own figures count with, where no target was asked for, is told as missed and fails nothing.
    """
    share, slots = ceil_div(s.workload.concurrency, s.engines), s.deployment.limits.max_num_seqs
    tokens = share * (s.workload.input_tokens + s.workload.output_tokens)
    pool = s.memory.kv_cache_tokens
    queue = []
    if share > slots:
        queue.append(f"{share - slots} of {share} users per engine wait for one of {slots} slots")
    if tokens > pool:
        queue.append(f"full contexts of {share} users are {tokens:,} tokens, the pool holds {pool:,}")
    figures = {"users_per_engine": share, "max_num_seqs": slots, "needed_kv_tokens": tokens, "kv_cache_tokens": pool}
    good = f"{share} of {slots} slots, {tokens:,} of {pool:,} KV tokens per engine"
    check = from_problems("admission", queue, good, **figures)
    stored, asked = plan.best.performance, plan.request.ttft_ms is not None or plan.request.itl_ms is not None
    counted = stored is not None and stored.effective_concurrency < MOST_OF_ALL * ceil_div(
        s.workload.concurrency, s.deployment.parallelism.replicas
    )
    if queue and counted and not asked:
        return missed("admission", f"{check.detail}; the plan's figures count with that queue", **figures)
    return check


def _target(name: str, value_ms: float, target_ms: float, s: Situation, plan: Plan, now: Performance) -> Check:
    """A latency against its target at the asked percentile; headroom is the share of the target that is left.

    A default that is missed is nobody's requirement: it is told as missed, and fails nothing.
    """
    spread = now.settled_ttft_ms or now.ttft_ms if name == "TTFT" else now.itl_ms
    if spread is None:
        return skipped(f"{name} target", "answers of one token have no second one to wait for")
    asked = (plan.request.ttft_ms if name == "TTFT" else plan.request.itl_ms) is not None
    band, headroom = spread.at(s.percentile), 1 - value_ms / target_ms
    figures: dict[str, float] = {
        "p50_ms": spread.p50.value, "p90_ms": spread.p90.value, "p99_ms": spread.p99.value, "low_ms": band.low,
        "high_ms": band.high, "target_ms": target_ms, "headroom": headroom,
    }  # fmt: skip
    percentiles = f"p50 {spread.p50.value:,.1f}, p90 {spread.p90.value:,.1f}, p99 {spread.p99.value:,.1f} ms"
    which = f"p{s.percentile:g} {value_ms:,.1f} ms, {'' if asked else 'default '}target {target_ms:,g} ms"
    if value_ms <= target_ms:
        doubtful = "; its band reaches beyond the target" if target_ms < band.high else ""
        return passed(f"{name} target", f"{which}: {headroom:.0%} headroom ({percentiles}){doubtful}", **figures)
    told = f"{which}: {-headroom:.0%} over ({percentiles})"
    if not asked:
        return missed(f"{name} target", f"{told}; --{name.lower()} makes a target a requirement", **figures)
    return failed(f"{name} target", told, **figures)


def _doubled(s: Situation, catalog: Catalog) -> Check:
    """How much more load each limit takes, and which gives way first. A finding; it fails nothing."""
    known: dict[float, Performance] = {}

    def at(factor: float) -> Performance:
        load = _scaled(s.workload, factor)
        key = load.request_rate or float(load.concurrency)
        if key not in known:
            known[key] = _served(s, factor, catalog)
        return known[key]

    def share(factor: float) -> int:
        return ceil_div(_scaled(s.workload, factor).concurrency, s.engines)

    length = s.workload.input_tokens + s.workload.output_tokens
    tests: dict[str, Callable[[float], bool]] = {
        "TTFT": lambda f: at(f).ttft_ms_at(s.percentile) <= s.ttft_ms,
        "ITL": lambda f: at(f).itl_ms_at(s.percentile) <= s.itl_ms,
        "slots": lambda f: share(f) <= s.deployment.limits.max_num_seqs,
        "KV cache": lambda f: share(f) * length <= s.memory.kv_cache_tokens,
    }
    breaking = {name: _breaking_point(test) for name, test in tests.items()}
    two = at(2.0)
    figures: dict[str, float | None] = {f"breaks_at_load_{k.replace(' ', '_')}": v for k, v in breaking.items()}
    figures |= {
        "ttft_ms_at_double": two.ttft_ms_at(s.percentile),
        "itl_ms_at_double": two.itl_ms_at(s.percentile),
        "output_tokens_per_s_at_double": two.output_tokens_per_s.value,
    }
    order = sorted((load, name) for name, load in breaking.items() if load is not None)
    told = ", then ".join(f"{name} at {load:.2f}×" for load, name in order) or f"nothing up to {MOST_LOAD:g}×"
    latency = (
        f"at 2× TTFT {figures['ttft_ms_at_double']:,.0f} ms, ITL {figures['itl_ms_at_double']:,.1f} ms, "
        f"{two.output_tokens_per_s.value:,.0f} tokens/s"
    )
    return passed("load doubled", f"first to give way: {told}; {latency}", **figures)


def _breaking_point(holds: Callable[[float], bool]) -> float | None:
    """The least load, in times of the planned one, at which `holds` fails; None when it holds to MOST_LOAD."""
    if not holds(1.0):
        return 1.0
    low, high = 1.0, 2.0
    while holds(high):
        low, high = high, high * 2
        if high > MOST_LOAD:
            return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
