"""The most load that keeps the targets: users in a closed loop, and requests per second at random moments.

A search over `serving.serve`; knows no plan and no default target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from planner.estimate.schedulers.flow import SATURATION
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload
    from planner.spec.plan import Performance

MOST_USERS: Final = 65_536
RATE_STEPS: Final = 9
"""Bisections of the rate: to a five-hundredth of what the deployment can serve at most."""

Broken = Literal["TTFT", "ITL", "throughput"]


@dataclass(frozen=True, slots=True)
class Targets:
    """Latencies in ms, and the percentile over requests at which they must hold (50 … 99.9)."""

    ttft_ms: float
    itl_ms: float
    percentile: float = 99.0

    def broken(self, found: Performance) -> Broken | None:
        """What `found` misses."""
        if found.ttft_ms_at(self.percentile) > self.ttft_ms:
            return "TTFT"
        return "ITL" if found.itl_ms_at(self.percentile) > self.itl_ms else None


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that holds, its figures (None where nothing does), and what more load breaks first.

    `breaks` is None where nothing breaks up to MOST_USERS.
    """

    load: float
    performance: Performance | None
    breaks: Broken | None


Serve = Callable[["Workload"], "Performance"]


def most_users(serve: Serve, workload: Workload, targets: Targets) -> Capacity:
    """Most clients of a closed loop of `workload`'s requests for whom `targets` hold."""

    def at(users: int) -> Performance:
        return serve(replace(workload, arrival="closed_loop", concurrency=users, request_rate=None))

    held, low, high = None, 0, 1
    while True:
        found = at(high)
        breaks = targets.broken(found)
        if breaks:
            break
        held, low = found, high
        if high >= MOST_USERS:
            return Capacity(float(low), held, None)
        high *= 2
    steps = (high - low).bit_length() - 1  # between powers of two: down to one user
    return _narrowed(lambda users: at(round(users)), targets, Capacity(float(low), held, breaks), float(high), steps)


def highest_rate(serve: Serve, workload: Workload, targets: Targets, most_per_s: float) -> Capacity:
    """Highest rate of random arrivals (requests/s) served within `targets`, where at most `most_per_s` are served.

    From SATURATION of that on the queue has no end, whatever a finite run shows.
    """

    def at(rate: float) -> Performance:
        return serve(replace(workload, arrival="poisson", request_rate=rate))

    return _narrowed(at, targets, Capacity(0.0, None, "throughput"), SATURATION * most_per_s, RATE_STEPS)


def _narrowed(
    at: Callable[[float], Performance], targets: Targets, held: Capacity, high: float, steps: int
) -> Capacity:
    """`held` after `steps` bisections of what lies between its load and `high`, where it breaks."""
    for _ in range(steps):
        middle = (held.load + high) / 2.0
        found = at(middle)
        breaks = targets.broken(found)
        if breaks:
            held, high = replace(held, breaks=breaks), middle
        else:
            held = replace(held, load=middle, performance=found)
    return held
