"""The engine's scheduler, run over step times: who waits, who is prefilled, who decodes.

Events are jumped to (a prompt done, an answer done, an arrival), so that a run costs milliseconds.
Deterministic: answer lengths and arrival times come from a low-discrepancy sequence. More clients
than MAX_UNITS are simulated as that many units of several. Knows no bands.
"""

from __future__ import annotations

import heapq
from collections import deque
from math import ceil, log
from typing import TYPE_CHECKING

from planner.estimate.schedulers.policy import Policy
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload
    from planner.estimate.step import StepModel

MAX_UNITS = 48
ROUNDS = 4
"""Requests simulated per client; the first of them is the start, when all send at once."""
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Served:
    """One request's figures: when it came and ended, seconds to the first token and between tokens."""

    arrived_s: float
    ended_s: float
    ttft_s: float
    itl_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation saw. `start` are the requests of the start-up wave (closed loop)."""

    start: tuple[Served, ...]
    steady: tuple[Served, ...]
    mean_running: float


def simulate(
    step: StepModel, policy: Policy, workload: Workload, concurrency: float, request_rate: float | None = None
) -> Run:
    """Serve one engine's share of the load; `request_rate` (requests/s) for arrivals at random.

    Without it, `concurrency` clients start together; with arrival `burst` none sends twice.
    """
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    clients = max(1.0, concurrency)
    units = int(min(ceil(clients), MAX_UNITS))
    weight = clients / units if request_rate is None else 1.0
    slots = max(1, int(policy.admitted / weight + 1e-9))
    total = units * ROUNDS if workload.arrival == "closed_loop" else units
    if request_rate is not None:
        weight, slots = _units_of_arrivals(policy, step, isl, osl, request_rate)
        total = MAX_UNITS * ROUNDS

    arrivals: deque[tuple[float, int]] = deque()
    if request_rate is None:
        arrivals.extend([(0.0, 0)] * units)
        to_come: deque[float] = deque()
    else:
        to_come = deque(_arrival_times(total, request_rate / weight))
    prompts: deque[list[float]] = deque()
    running: list[tuple[float, float, float, float]] = []
    served: list[Served] = []
    now, clock, begun, started, busy, area, taken = 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0
    spread, front = policy.length_spread, step.front_end_s(isl)
    while len(served) < total:
        while to_come and to_come[0] <= now:
            arrivals.append((to_come.popleft(), taken + min(1, policy.lag_steps)))
        idle = not prompts and not running
        while arrivals and len(prompts) + len(running) < slots and (idle or arrivals[0][1] <= taken):
            prompts.append([isl * weight, arrivals.popleft()[0]])
        if not prompts and not running:
            now = to_come[0] if to_come else now
            continue
        batch = weight * len(running)
        if prompts:
            beside = batch if policy.mixes else 0.0
            room = max(policy.step_tokens - beside, 0.05 * policy.step_tokens)
            waiting = sum(p[0] for p in prompts)
            chunk = min(room, waiting)
            context = isl + clock - started / len(running) if running else isl
            seconds = float(step.mixed_s(beside, context, chunk, isl))
            steps = 1
            if prompts[0][0] > chunk * 1.0001:
                steps = ceil(prompts[0][0] / chunk - 1e-6) - 1
                if running and policy.mixes:
                    steps = min(steps, int(running[0][0] - clock) or 1)
            done = chunk * steps
            advance = steps if policy.mixes else 0
        else:
            context = isl + clock - started / len(running)
            steps = max(1, int(running[0][0] - clock))
            seconds = float(step.decode_s(batch, context + steps / 2.0))
            if to_come:
                steps = min(steps, max(1, ceil((to_come[0] - now) / seconds)))
            done, advance = 0.0, steps
        if arrivals and len(prompts) + len(running) < slots:
            wait = max(1, arrivals[0][1] - taken)
            if steps > wait:
                done, steps = done * wait / steps, wait
                advance = steps if advance else 0
        taken += steps
        now += seconds * steps
        busy += seconds * steps
        area += seconds * steps * (len(running) + len(prompts))
        clock += advance
        while running and running[0][0] <= clock + 1e-9:
            _, begin, first, arrived = heapq.heappop(running)
            started -= begin
            tokens = max(1.0, clock - begin)
            served.append(Served(arrived, now, first - arrived + front, (now - first) / tokens))
            if request_rate is None and workload.arrival == "closed_loop":
                arrivals.append((now, taken + policy.lag_steps))
        while prompts and done > 0:
            part = min(done, prompts[0][0])
            prompts[0][0] -= part
            done -= part
            if prompts[0][0] > 1e-6:
                break
            _, arrived = prompts.popleft()
            begun += 1
            length = osl * (1.0 + spread * (2.0 * (begun * _GOLDEN % 1.0) - 1.0))
            if osl <= 1:
                served.append(Served(arrived, now, now - arrived + front, 0.0))
                if request_rate is None and workload.arrival == "closed_loop":
                    arrivals.append((now, taken + policy.lag_steps))
                continue
            heapq.heappush(running, (clock + max(1.0, round(length - 1.0)), clock, now, arrived))
            started += clock
    served.sort(key=lambda s: s.arrived_s)
    closed = request_rate is None and workload.arrival == "closed_loop"
    first_wave = units if closed else 0
    return Run(tuple(served[:first_wave]), tuple(served[first_wave:total]), weight * area / busy if busy else 0.0)


def _units_of_arrivals(policy: Policy, step: StepModel, isl: float, osl: float, rate: float) -> tuple[float, int]:
    """How many requests one simulated unit stands for, so that a run covers some service times."""
    alone = float(step.prefill_s(isl)) + osl * float(step.decode_s(1.0, isl + osl / 2.0))
    weight = max(1.0, rate * alone / (MAX_UNITS / 2.0))
    return weight, max(1, int(policy.admitted / weight))


def _arrival_times(n: int, rate: float) -> list[float]:
    """Moments of `n` arrivals whose gaps are exponential: quantiles in a low-discrepancy order."""
    times, now = [], 0.0
    for i in range(n):
        now -= log(1.0 - (0.5 + i * _GOLDEN) % 1.0) / rate
        times.append(now)
    return times
