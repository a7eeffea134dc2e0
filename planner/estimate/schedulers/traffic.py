"""What arrives: the lengths of requests and the moments at which they come. Deterministic by seed.

Lengths are quantiles of their distribution in a low-discrepancy order, so that few requests stand for many; gaps of
random arrivals are the quantiles of the exponential distribution, shuffled. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from math import exp, log, log1p, sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload

_GOLDEN: Final = 0.6180339887498949
_PLASTIC: Final = (0.7548776662466927, 0.5698402909980532)
"""Steps of the additive sequences that fill a line and a square most evenly (golden and plastic ratio)."""

LONGEST_OF: Final = 4096


def request_lengths(workload: Workload, spread: float) -> Iterator[tuple[float, float]]:
    """(input, output) tokens of one request after the other, without end; both at least 1.

    `spread` is by which share (±) answers of fixed length differ all the same.
    """
    isl, osl, kind = float(workload.input_tokens), float(workload.output_tokens), workload.distribution
    shift = workload.seed * _PLASTIC[0] % 1.0
    if kind == "fixed":
        for i in count(1):
            u = 2.0 * ((i * _GOLDEN + shift) % 1.0) - 1.0
            yield isl, max(2.0, float(round(osl * (1.0 + spread * u)))) if osl > 1 else 1.0
    for i in count(1):
        u, v = ((0.5 + i * step + shift) % 1.0 for step in _PLASTIC)
        if kind == "empirical":
            pair = workload.samples[int((u if len(workload.samples) > 1 else 0.0) * len(workload.samples))]
            yield float(pair[0]), float(pair[1])
        else:
            yield _length(kind, isl, workload.variation, u), _length(kind, osl, workload.variation, v)


def longest_request(workload: Workload) -> int:
    """The most tokens, input and output together, of LONGEST_OF requests of `workload`; answers of fixed length
    as they are asked for."""
    if workload.distribution == "fixed":
        return workload.input_tokens + workload.output_tokens
    if workload.distribution == "empirical":
        return max(i + o for i, o in workload.samples)
    return int(max(i + o for i, o in islice(request_lengths(workload, 0.0), LONGEST_OF)))


def _length(kind: str, mean: float, variation: float, u: float) -> float:
    """The `u` quantile of a length with that mean: uniform over mean × (1 ± variation), or log-normal with
    `variation` as standard deviation over mean, cut three deviations above the median."""
    if kind == "uniform":
        return max(1.0, float(round(mean * (1.0 + variation * (2.0 * u - 1.0)))))
    sigma = sqrt(log1p(variation * variation))
    return max(1.0, float(round(mean * exp(sigma * min(_normal_quantile(u), 3.0) - sigma * sigma / 2.0))))


def _normal_quantile(u: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(u, 1e-9), 1.0 - 1e-9))


def arrival_times(n: int, rate: float, seed: int = 0) -> list[float]:
    """Moments (s) of `n` arrivals at random, `rate` a second: exponential gaps whose mean is exact."""
    from random import Random

    gaps = [-log(1.0 - (i + 0.5) / n) for i in range(n)]
    Random(seed).shuffle(gaps)
    scale = n / (sum(gaps) * rate)
    times, now = [], 0.0
    for gap in gaps:
        now += gap * scale
        times.append(now)
    return times
