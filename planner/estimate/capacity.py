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
        if found.ttft_ms.at(self.percentile).value > self.ttft_ms:
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
    while high - low > 1:
        middle = (low + high) // 2
        found = at(middle)
        now = targets.broken(found)
        if now:
            high, breaks = middle, now
        else:
            held, low = found, middle
    return Capacity(float(low), held, breaks)


def highest_rate(serve: Serve, workload: Workload, targets: Targets, most_per_s: float) -> Capacity:
    """Highest rate of random arrivals (requests/s) served within `targets`, where at most `most_per_s` are served.

    From SATURATION of that on the queue has no end, whatever a finite run shows.
    """

    def at(rate: float) -> Performance:
        return serve(replace(workload, arrival="poisson", request_rate=rate))

    held, low, high = None, 0.0, SATURATION * most_per_s
    breaks: Broken = "throughput"
    for _ in range(RATE_STEPS):
        middle = (low + high) / 2.0
        found = at(middle)
        now = targets.broken(found)
        if now:
            high, breaks = middle, now
        else:
            held, low = found, middle
    return Capacity(low, held, breaks)
