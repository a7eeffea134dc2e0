"""Serving figures of a deployment under a load: latency percentiles, throughput, queueing.

Means come from the steady state in closed form, the shape of the distributions from a simulated
schedule. Definitions are those of `spec.plan.Performance`. Knows no prices and no memory: the size
of the KV pool is passed in.
"""

from __future__ import annotations

from dataclasses import replace
from math import log10
from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.estimate.bands import band, figure, inverse
from planner.estimate.pace import Pace, Steps
from planner.estimate.schedulers import flow, policy
from planner.estimate.schedulers.flow import START_SHARE, Flow
from planner.estimate.schedulers.simulation import Run, Served, simulate
from planner.estimate.step import StepModel
from planner.records import dataclass
from planner.spec.base import FigureBasis
from planner.spec.plan import Percentiles, Performance

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment, Workload
    from planner.estimate.efficiency import Fit
    from planner.estimate.local import Shift
    from planner.estimate.schedulers.policy import Policy
    from planner.spec.calibration import Calibration

POISSON_MEAN_RATE_WITHOUT_ONE = 1.0
TAIL = 0.42
"""How far above the mean the slowest tenth of the first tokens lies, the slowest hundredth twice as far, and so on:
nine simulated schedules have 1.3 to 1.5 times the mean at p90 and 1.4 to 2.2 times at p99."""


@dataclass(frozen=True, slots=True)
class Quick:
    """Means of a deployment: seconds and tokens/s; `ttft_tail_s` at the percentile asked for."""

    ttft_s: float
    itl_s: float
    output_tokens_per_s: float
    ttft_tail_s: float


def quick(
    deployment: Deployment,
    workload: Workload,
    calibration: Calibration,
    kv_pool_tokens: int,
    gpu_layers: int | None = None,
    percentile: float = 99.0,
) -> Quick:
    """Means of the whole deployment in closed form, and roughly the TTFT at `percentile`."""
    model = StepModel(deployment, calibration, gpu_layers=gpu_layers)
    step = _steps(model, workload)
    rules = policy(deployment, workload, kv_pool_tokens)
    engines = _engines(deployment, workload)
    found = flow_of(step, rules, workload, engines)
    output = engines * found.requests_per_s * workload.output_tokens
    means = Quick(
        found.ttft_s, found.itl_s, output, _tail(found, workload, workload.concurrency / engines, percentile / 100.0)
    )
    if not deployment.machine.corrections:
        return means
    ttft, itl, rate = (c.factor if c else 1.0 for c in _corrections(deployment, workload, calibration, model.fit))
    return Quick(ttft * means.ttft_s, itl * means.itl_s, rate * means.output_tokens_per_s, ttft * means.ttft_tail_s)


def _corrections(
    d: Deployment, workload: Workload, calibration: Calibration, fit: Fit
) -> tuple[Shift | None, Shift | None, Shift | None]:
    """What this user's own measurements do to TTFT, ITL and the rates; nothing to drafts, which nobody probed."""
    if workload.speculative_tokens or not d.machine.corrections:
        return None, None, None
    from planner.estimate.local import shift

    name = d.engine.engine
    ttft = band(calibration, "ttft", name, d, fit)
    itl = band(calibration, "itl", name, d, fit)
    return shift(d, "ttft", ttft), shift(d, "itl", itl), shift(d, "output_tokens_per_s", inverse(itl))


def _steps(step: StepModel, workload: Workload) -> Steps:
    """`step`, with drafting and checking where the load is served so."""
    if not workload.speculative_tokens:
        return step
    from planner.estimate.schedulers.speculative import Speculating

    return Speculating(step, workload.speculative_tokens, workload.draft_cost)


def _tail(means: Flow, workload: Workload, clients: float, share: float) -> float:
    """TTFT in s that `share` of the requests of an engine with `clients` keep within: in a burst, where prompts pass
    one after the other, that of the last; else, without the start, ever farther above the mean."""
    settled = means.settled_ttft_s or means.ttft_s
    if workload.concurrency == 1:
        return settled
    # Who waits for a place waits for his turn, as long as all others; what comes after it differs.
    queue = min(settled, max(0.0, clients - means.running) / means.requests_per_s)
    usual = settled - TAIL * log10(1.0 - share) * (settled - queue) if share > 0.5 else settled
    return max(usual, means.start_last_s * share) if workload.arrival == "burst" else usual


def serve(
    deployment: Deployment,
    workload: Workload,
    calibration: Calibration,
    kv_pool_tokens: int,
    gpu_layers: int | None = None,
    fit: Fit | None = None,
    duration_s: float | None = None,
) -> Performance:
    """Figures with bands for `workload` on `deployment`, whose pool holds `kv_pool_tokens` tokens.

    The pool is that of one tensor × pipeline group. Data-parallel ranks and replicas share the load
    evenly. `gpu_layers` (engines that split layers): how many lie on the device, the output counted
    as one; the host works on the rest. `fit` overrides the calibration's coefficients. With `duration_s`
    every client is simulated for that long, instead of some rounds of a few. Raises UsageError when no request
    ends in it.
    """
    model = StepModel(deployment, calibration, fit=fit, gpu_layers=gpu_layers)
    step = _steps(model, workload)
    rules = policy(deployment, workload, kv_pool_tokens)
    engines = _engines(deployment, workload)
    means = flow_of(step, rules, workload, engines)
    run, means = _simulated(step, rules, workload, engines, means, duration_s)
    if workload.warm:
        run = replace(run, start=())
    weighted = _weighted(run)
    settled = _settled(run, workload, means)
    ttft, stretch = _spread([(s.ttft_s, w) for s, w in weighted], None if means.saturated else means.ttft_s)
    queue_s = [(s.queue_s * stretch, w) for s, w in weighted]
    name = deployment.engine.engine
    # Nobody measured drafts here: what is fitted for plain decoding is only borrowed for them.
    used = model.fit.reaching(means.running, workload.input_tokens + workload.output_tokens)
    if workload.speculative_tokens and used.basis == "fitted":
        used = replace(used, basis="inherited")
    basis: FigureBasis = used.basis
    alone = workload.concurrency == 1 or workload.arrival == "burst"
    ttft_band = band(calibration, "prefill" if alone else "ttft", name, deployment, used)
    itl_band = band(calibration, "itl", name, deployment, used)
    rate_band = inverse(itl_band)
    requests = engines * means.requests_per_s
    output = requests * workload.output_tokens
    both = requests * (workload.input_tokens + workload.output_tokens)
    gaps = [(s.itl_s, w) for s, w in weighted if s.output_tokens > 1.0]
    itl = _spread(gaps, means.itl_s)[0] if gaps else {}
    ttft_shift, itl_shift, rate_shift = _corrections(deployment, workload, calibration, used)
    ttft_basis = itl_basis = basis
    if ttft_shift is not None:
        ttft, settled = _times(ttft, ttft_shift.factor), _times(settled, ttft_shift.factor)
        ttft_band, ttft_basis = ttft_shift.limits, "calibrated here"
    if itl_shift is not None:
        itl, itl_band, itl_basis = _times(itl, itl_shift.factor), itl_shift.limits, "calibrated here"
    if rate_shift is not None:
        output, both, requests = (rate_shift.factor * rate for rate in (output, both, requests))
        rate_band, basis = rate_shift.limits, "calibrated here"
    return Performance(
        ttft_ms=_percentiles(ttft, ttft_band, ttft_basis),
        itl_ms=_percentiles(itl, itl_band, itl_basis) if gaps else None,
        settled_ttft_ms=_percentiles(settled, ttft_band, ttft_basis) if settled else None,
        output_tokens_per_s=figure(output, "tokens/s", rate_band, basis),
        total_tokens_per_s=figure(both, "tokens/s", rate_band, basis),
        requests_per_s=figure(requests, "requests/s", rate_band, basis),
        effective_concurrency=means.running * deployment.parallelism.data,
        queue_ms=round(1e3 * sum(q * w for q, w in queue_s) / sum(w for _, w in queue_s), 3),
        kv_occupancy=round(run.kv_mean, 4),
        kv_occupancy_peak=round(run.kv_peak, 4),
        preemptions_per_request=round(run.preemptions / max(1, len(weighted)), 4),
    )


def _settled(run: Run, workload: Workload, means: Flow) -> dict[str, float]:
    """TTFT in s of a closed loop after its start; empty where there is no other TTFT."""
    if workload.arrival != "closed_loop" or workload.concurrency == 1 or not run.start or not run.steady:
        return {}
    return _spread([(s.ttft_s, 1.0) for s in run.steady], means.settled_ttft_s)[0]


def _times(values: dict[str, float], factor: float) -> dict[str, float]:
    return {name: factor * value for name, value in values.items()}


def _percentiles(values: dict[str, float], limits: tuple[float, float, int], basis: FigureBasis) -> Percentiles:
    return Percentiles(**{k: figure(1e3 * v, "ms", limits, basis) for k, v in values.items()})


def _simulated(
    step: Steps, rules: Policy, workload: Workload, engines: int, means: Flow, duration_s: float | None
) -> tuple[Run, Flow]:
    """One engine's run, and its means. What unequal lengths do to them is the ratio of two runs, with and without."""
    share = workload.concurrency / engines
    rate = None if workload.arrival != "poisson" else _rate(workload) / engines
    pace = Pace(step)
    run = simulate(step, rules, workload, share, rate, duration_s=duration_s, pace=pace)
    if duration_s is not None and not (run.start or run.steady):
        raise UsageError(f"no request ends in {duration_s:g} s; simulate for longer")
    if workload.distribution == "fixed":
        return run, means
    even = simulate(step, rules, replace(workload, distribution="fixed"), share, rate, duration_s=duration_s, pace=pace)
    (ttft, itl, stay), (even_ttft, even_itl, even_stay) = (_averages(r) for r in (run, even))
    faster = even_stay / stay if rate is None else 1.0
    return run, replace(
        means,
        ttft_s=means.ttft_s * ttft / even_ttft,
        settled_ttft_s=means.settled_ttft_s * ttft / even_ttft,
        itl_s=means.itl_s * (itl / even_itl if even_itl else 1.0),
        requests_per_s=means.requests_per_s * faster,
    )


def _averages(run: Run) -> tuple[float, float, float]:
    """Weighted means of TTFT, ITL (over answers of several tokens) and the whole stay, in seconds."""
    weighted = _weighted(run)
    several = [(s.itl_s, w) for s, w in weighted if s.output_tokens > 1.0]
    total = sum(w for _, w in weighted)
    ttft = sum(s.ttft_s * w for s, w in weighted) / total
    stay = sum((s.ended_s - s.arrived_s) * w for s, w in weighted) / total
    return ttft, sum(i * w for i, w in several) / (sum(w for _, w in several) or 1.0), stay


def _engines(deployment: Deployment, workload: Workload) -> int:
    """Engines with something to do: more of them than clients stand idle."""
    return min(deployment.parallelism.data * deployment.parallelism.replicas, max(1, workload.concurrency))


def _rate(workload: Workload) -> float:
    return workload.request_rate if workload.request_rate is not None else POISSON_MEAN_RATE_WITHOUT_ONE


def flow_of(step: Steps, rules: Policy, workload: Workload, engines: int) -> Flow:
    """Means of one of `engines` engines that share `workload`."""
    share = workload.concurrency / engines
    if workload.arrival == "poisson":
        return flow.poisson(step, rules, workload, _rate(workload) / engines)
    if workload.arrival == "closed_loop" and workload.warm:
        return flow.steady(step, rules, workload, share)
    started = flow.burst(step, rules, workload, share)
    if workload.arrival == "burst":
        return started
    steady = flow.steady(step, rules, workload, share)
    ttft_s = START_SHARE * started.ttft_s + (1.0 - START_SHARE) * steady.ttft_s
    # An answer of one token is nothing but TTFT: the rate follows from it.
    rate = max(1.0, share) / ttft_s if workload.output_tokens == 1 else steady.requests_per_s
    return replace(
        steady, ttft_s=ttft_s, start_last_s=started.start_last_s, settled_ttft_s=steady.ttft_s, requests_per_s=rate
    )


def _weighted(run: Run) -> list[tuple[Served, float]]:
    """Requests with their weight: the start-up wave counts START_SHARE of a closed-loop run of a few rounds."""
    if not run.start or run.complete or not run.steady:
        return [(s, 1.0) for s in (*run.start, *run.steady)]
    first, later = START_SHARE / len(run.start), (1.0 - START_SHARE) / len(run.steady)
    return [*((s, first) for s in run.start), *((s, later) for s in run.steady)]


def _spread(values: list[tuple[float, float]], mean: float | None) -> tuple[dict[str, float], float]:
    """mean, p50, p90 and p99 of the weighted `values`, rescaled to have `mean` where one is given; and the scale."""
    ordered = sorted(values)
    weight = sum(w for _, w in ordered)
    average = sum(v * w for v, w in ordered) / weight
    mean = average if mean is None else mean
    scale = mean / average if average > 0 else 1.0
    found, passed, marks = {"mean": mean}, 0.0, [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
    for value, w in ordered:
        passed += w
        while marks and passed >= marks[0][1] * weight - 1e-12:
            found[marks.pop(0)[0]] = value * scale
    return found, scale
