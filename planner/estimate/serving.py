"""Serving figures of a deployment under a load: latency percentiles, throughput, queueing.

Means come from the steady state in closed form, the shape of the distributions from a simulated
schedule. Definitions are those of `spec.plan.Performance`. Knows no prices and no memory: the size
of the KV pool is passed in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.estimate.bands import band, figure, inverse
from planner.estimate.schedulers import flow, policy
from planner.estimate.schedulers.flow import START_SHARE, Flow
from planner.estimate.schedulers.simulation import Run, Served, simulate
from planner.estimate.step import StepModel
from planner.spec.plan import Percentiles, Performance

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment, Workload
    from planner.estimate.efficiency import Fit
    from planner.estimate.schedulers.policy import Policy
    from planner.spec.calibration import Calibration

POISSON_MEAN_RATE_WITHOUT_ONE = 1.0


def quick(
    deployment: Deployment,
    workload: Workload,
    calibration: Calibration,
    kv_pool_tokens: int,
    gpu_layers: int | None = None,
) -> tuple[float, float, float]:
    """(mean TTFT in s, mean ITL in s, output tokens/s) of the whole deployment, without percentiles."""
    step = StepModel(deployment, calibration, gpu_layers=gpu_layers)
    rules = policy(deployment, workload, kv_pool_tokens)
    engines = _engines(deployment, workload)
    found = flow_of(step, rules, workload, engines)
    return found.ttft_s, found.itl_s, engines * found.requests_per_s * workload.output_tokens


def serve(
    deployment: Deployment,
    workload: Workload,
    calibration: Calibration,
    kv_pool_tokens: int,
    gpu_layers: int | None = None,
    fit: Fit | None = None,
) -> Performance:
    """Figures with bands for `workload` on `deployment`, whose pool holds `kv_pool_tokens` tokens.

    The pool is that of one tensor × pipeline group. Data-parallel ranks and replicas share the load
    evenly. `gpu_layers` (engines that split layers): how many lie on the device, the output counted
    as one; the host works on the rest. `fit` overrides the calibration's coefficients.
    """
    step = StepModel(deployment, calibration, fit=fit, gpu_layers=gpu_layers)
    rules = policy(deployment, workload, kv_pool_tokens)
    engines = _engines(deployment, workload)
    means = flow_of(step, rules, workload, engines)
    share = workload.concurrency / engines
    rate = None if workload.arrival != "poisson" else _rate(workload) / engines
    run = simulate(step, rules, workload, share, rate)
    waits = [(s.ttft_s, w) for s, w in _weighted(run)]
    ttft = _spread(waits, None if means.saturated else means.ttft_s)  # a queue that grows has no steady mean
    itl = _spread([(s.itl_s, w) for s, w in _weighted(run)], means.itl_s)
    name, machine = deployment.engine.engine, deployment.machine
    basis = step.fit.basis
    ttft_band = band(calibration, "ttft", name, machine, step.fit)
    itl_band = band(calibration, "itl", name, machine, step.fit)
    rate_band = inverse(itl_band)
    requests = engines * means.requests_per_s
    output = requests * workload.output_tokens
    both = requests * (workload.input_tokens + workload.output_tokens)
    return Performance(
        ttft_ms=Percentiles(**{k: figure(1e3 * v, "ms", ttft_band, basis) for k, v in ttft.items()}),
        itl_ms=Percentiles(**{k: figure(1e3 * v, "ms", itl_band, basis) for k, v in itl.items()}),
        output_tokens_per_s=figure(output, "tokens/s", rate_band, basis),
        total_tokens_per_s=figure(both, "tokens/s", rate_band, basis),
        requests_per_s=figure(requests, "requests/s", rate_band, basis),
        effective_concurrency=means.running * deployment.parallelism.data,
    )


def _engines(deployment: Deployment, workload: Workload) -> int:
    """Engines with something to do: more of them than clients stand idle."""
    return min(deployment.parallelism.data * deployment.parallelism.replicas, max(1, workload.concurrency))


def _rate(workload: Workload) -> float:
    return workload.request_rate if workload.request_rate is not None else POISSON_MEAN_RATE_WITHOUT_ONE


def flow_of(step: StepModel, rules: Policy, workload: Workload, engines: int) -> Flow:
    """Means of one of `engines` engines that share `workload`."""
    share = workload.concurrency / engines
    if workload.arrival == "poisson":
        return flow.poisson(step, rules, workload, _rate(workload) / engines)
    started = flow.burst(step, rules, workload, share)
    if workload.arrival == "burst":
        return started
    steady = flow.steady(step, rules, workload, share)
    return replace(steady, ttft_s=START_SHARE * started.ttft_s + (1.0 - START_SHARE) * steady.ttft_s)


def _weighted(run: Run) -> list[tuple[Served, float]]:
    """Requests with their weight: the start-up wave counts START_SHARE of a closed-loop run."""
    if not run.start:
        return [(s, 1.0) for s in run.steady]
    first, later = START_SHARE / len(run.start), (1.0 - START_SHARE) / len(run.steady)
    return [*((s, first) for s in run.start), *((s, later) for s in run.steady)]


def _spread(values: list[tuple[float, float]], mean: float | None) -> dict[str, float]:
    """mean, p50, p90 and p99 of the weighted `values`, rescaled to have `mean` where one is given."""
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
    return found
