"""The engine's scheduler, run over step times: who waits, who is prefilled, who decodes, who is evicted.

Events are jumped to (a prompt done, an answer done, an arrival, a full pool), so that a run costs milliseconds.
Deterministic: lengths and arrivals are those of `traffic`. More clients than MAX_UNITS are simulated as that many
units of several, unless all are asked for. Knows no bands, and no time outside the engine but the front end's.
"""

from __future__ import annotations

import heapq
from collections import deque
from math import ceil, inf
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from planner.estimate.pace import Pace, Steps
from planner.estimate.schedulers.policy import Policy
from planner.estimate.schedulers.traffic import arrival_times, request_lengths
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload

MAX_UNITS = 48
ROUNDS = 4
"""Requests simulated per client; the first of them is the start, when all send at once."""


_BY_ORDER = itemgetter(1)


class Served(NamedTuple):
    """One request: when it came to the engine and ended, seconds to the first token, between tokens, and in the queue.

    `itl_s` is 0 where the answer is a single token. `preempted` counts how often its cache was taken away.
    """

    arrived_s: float
    ended_s: float
    ttft_s: float
    itl_s: float
    queue_s: float
    input_tokens: float
    output_tokens: float
    preempted: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation saw. `start` are the requests of the start-up wave (closed loop).

    Means are over busy time, `in_system` over all of it; `kv_mean` and `kv_peak` are shares of the pool (0 where
    it is unbounded). `unfinished` requests were under way when the run ended.
    """

    start: tuple[Served, ...]
    steady: tuple[Served, ...]
    mean_running: float
    in_system: float
    kv_mean: float
    kv_peak: float
    preemptions: int
    elapsed_s: float
    sent: int
    unfinished: int
    complete: bool = False
    """True when all clients were simulated for a given time, the start with its own small share."""


class _Job:
    """A request on its way. Tokens: `new` to be prefilled, `context` cached after that, `left` to be decoded."""

    __slots__ = (
        "admitted_s", "arrived_s", "base", "begin", "context", "first_s", "left", "new", "output", "preempted", "ready",
        "span", "tokens",
    )  # fmt: skip

    def __init__(self, arrived_s: float, ready: float, tokens: float, output: float) -> None:
        self.arrived_s, self.ready, self.tokens, self.output = arrived_s, ready, tokens, output
        self.context, self.left = tokens, max(0.0, output - 1.0)
        self.first_s = self.admitted_s = -1.0
        self.new = self.span = self.base = self.begin = 0.0
        self.preempted = 0


def simulate(
    step: Steps,
    policy: Policy,
    workload: Workload,
    concurrency: float,
    request_rate: float | None = None,
    *,
    duration_s: float | None = None,
    pace: Pace | None = None,
) -> Run:
    """Serve one engine's share of the load; `request_rate` (requests/s) for arrivals at random.

    Without it, `concurrency` clients start together; with arrival `burst` none sends twice. With `duration_s` every
    client is simulated for that long; without, some rounds of at most MAX_UNITS units. `pace` may be shared by runs
    of the same `step`. One long function: its state is local variables, which ten minutes of traffic touch a
    hundred thousand times.
    """
    closed = request_rate is None and workload.arrival == "closed_loop"
    whole = duration_s is not None
    until = inf if duration_s is None else duration_s
    clients = max(1.0, concurrency)
    units = round(clients) if whole else int(min(ceil(clients), MAX_UNITS))
    total = units * ROUNDS if closed else units
    weight = 1.0 if whole else clients / units
    to_come: deque[float] = deque()
    if request_rate is not None:
        weight = 1.0 if whole else _requests_per_unit(step, workload, request_rate)
        units, total = 0, max(1, int(until * request_rate)) if whole else MAX_UNITS * ROUNDS
        to_come = deque(arrival_times(total, request_rate / weight, workload.seed))
    if whole and closed:
        total = 1 << 62
    pool, slots = policy.pool_tokens / weight, max(1, int(policy.max_sequences / weight + 1e-9))
    pace = pace or Pace(step)
    mixed_s, decode_s = pace.mixed_s, pace.decode_s
    budget, mixes, grows, lag = policy.step_tokens, policy.mixes, not policy.reserves, policy.lag_steps
    static, block = policy.static, policy.block_tokens
    shared = float(min(workload.shared_prefix_tokens, workload.input_tokens - 1)) if policy.prefix_cache else 0.0
    cold = max(1, round(policy.prefix_copies / weight)) if shared else 0
    per_step, plain = workload.tokens_per_step, not shared and workload.distribution == "fixed"
    asked = float(workload.output_tokens) if workload.distribution == "fixed" else 0.0
    lengths = request_lengths(workload, policy.length_spread)
    front = step.front_end_s(float(workload.input_tokens))

    waiting: deque[_Job] = deque(_Job(0.0, 0, *next(lengths)) for _ in range(units))
    prompts: deque[_Job] = deque()
    running: list[tuple[float, int, _Job]] = []
    served: list[Served] = []
    now = clock = busy = area = in_system = kv_area = kv_peak = 0.0
    taken = order = preemptions = since_prefill = width = 0
    fixed = grown_from = contexts = backlog = spans = 0.0
    """KV tokens held at admission; sum of the clocks at which the running began; their contexts; prompt tokens
    that wait for a step, and those times their spans."""
    sent = units
    while len(served) < total and now < until:
        while to_come and to_come[0] <= now:
            waiting.append(_Job(to_come.popleft(), taken + min(1, lag), *next(lengths)))
            sent += 1
        n, idle = len(running), not prompts and not running
        held = shared + fixed + (n * clock - grown_from if grows else 0.0)
        blocked, opens_in = static and not idle, 0
        if not mixes and n and not prompts and len(waiting) < int(n * policy.wait_share):
            opens_in = max(0, policy.wait_steps - since_prefill)
        while (
            waiting and not (blocked or opens_in) and n + len(prompts) < slots and (idle or waiting[0].ready <= taken)
        ):
            job = waiting[0]
            hit = min(shared, job.context - 1.0) if cold <= 0 else 0.0
            base = job.context - hit + (0.0 if grows else asked or job.output)
            if held + base + (block * (n + len(prompts)) if grows else 0.0) > pool and (n or prompts):
                blocked = True
                break
            waiting.popleft()
            if shared and cold > 0:
                cold -= 1
            job.new, job.span, job.base = (job.context - hit) * weight, job.context + hit, base
            if job.admitted_s < 0.0:
                job.admitted_s = now
            held += base
            fixed += base
            backlog += job.new
            spans += job.new * job.span
            prompts.append(job)
        if not prompts and not running:
            if not waiting and not to_come:
                break
            now, idle_until = (max(now, to_come[0]) if to_come else now), now
            in_system += (now - idle_until) * len(waiting)
            if waiting:
                taken += 1
            continue
        if grows and n > 1 and held + n * per_step > pool:
            last = max(running, key=_BY_ORDER)
            running.remove(last)
            heapq.heapify(running)
            end, _, job = last
            grown_from -= job.begin
            contexts -= job.context
            fixed -= job.base
            job.context, job.left, job.ready = job.context + clock - job.begin, end - clock, taken + 1
            job.preempted += 1
            preemptions += 1
            waiting.appendleft(job)
            continue
        width = max(width if static else 0, n)
        batch = weight * width
        context = (contexts + n * clock - grown_from) / n if n else 0.0
        ahead = ceil((running[0][0] - clock) / per_step - 1e-9) if n else 0
        done, steps, prefills = 0.0, 1, bool(prompts)
        if prefills:
            beside = batch if mixes else 0.0
            room = max(budget - beside, 0.05 * budget)
            chunk = min(room, backlog)
            span = prompts[0].span if plain else spans / backlog
            seconds = mixed_s(beside, context, chunk, span)
            if prompts[0].new > chunk * 1.0001:
                steps = ceil(prompts[0].new / chunk - 1e-6) - 1
                if n and mixes:
                    steps = min(steps, ahead or 1)
            decodes = n > 0 and mixes
        else:
            steps, decodes = max(1, ahead), True
            if to_come:
                seconds = decode_s(batch, context + steps * per_step / 2.0)
                steps = min(steps, max(1, ceil((to_come[0] - now) / seconds)))
        if decodes and grows and n > 1 and steps > 1:
            steps = min(steps, max(1, int((pool - held) / (n * per_step))))
        if waiting and not blocked and n + len(prompts) < slots:
            wait = max(1, opens_in or int(waiting[0].ready - taken))
            steps = min(steps, wait)
        if prefills:
            done, since_prefill = chunk * steps, 0
        else:
            seconds = decode_s(batch, context + steps * per_step / 2.0)
            since_prefill += steps
        taken += steps
        lasted = seconds * steps
        now += lasted
        busy += lasted
        area += lasted * (n + len(prompts))
        in_system += lasted * (n + len(prompts) + len(waiting))
        if decodes:
            clock += steps * per_step
            if grows:
                held += n * steps * per_step / 2.0
        kv_area += lasted * held
        kv_peak = max(kv_peak, held)
        while running and running[0][0] <= clock + 1e-9:
            _, _, job = heapq.heappop(running)
            grown_from -= job.begin
            contexts -= job.context
            fixed -= job.base
            served.append(_served(job, now, front))
            if closed:
                waiting.append(_Job(now, taken + lag, *next(lengths)))
                sent += 1
        while prompts and done > 0.0:
            job = prompts[0]
            part = min(done, job.new)
            job.new -= part
            done -= part
            backlog -= part
            spans -= part * job.span
            if job.new > 1e-6:
                backlog = max(backlog, job.new)
                break
            prompts.popleft()
            if job.first_s < 0.0:
                job.first_s = now
            if job.left <= 0.0:
                fixed -= job.base
                served.append(_served(job, now, front))
                if closed:
                    waiting.append(_Job(now, taken + lag, *next(lengths)))
                    sent += 1
                continue
            order += 1
            job.begin = clock
            heapq.heappush(running, (clock + job.left, order, job))
            grown_from += clock
            contexts += job.context
        if not prompts:
            backlog = spans = 0.0
            if not running:
                width, fixed = 0, 0.0
    unfinished = sent - len(served)
    served.sort(key=lambda s: s.arrived_s)
    first_wave = units if closed else 0
    finite = pool < inf and busy > 0.0
    return Run(
        start=tuple(served[:first_wave]),
        steady=tuple(served[first_wave : min(total, len(served))]),
        mean_running=weight * area / busy if busy else 0.0,
        in_system=weight * in_system / now if now else 0.0,
        kv_mean=kv_area / busy / pool if finite else 0.0,
        kv_peak=min(1.0, kv_peak / pool) if finite else 0.0,
        preemptions=preemptions,
        elapsed_s=now,
        sent=sent,
        unfinished=unfinished,
        complete=whole,
    )


def _served(job: _Job, now: float, front: float) -> Served:
    after = job.output - 1.0
    itl = (now - job.first_s) / after if after > 0.0 else 0.0
    return Served(
        job.arrived_s, now, job.first_s - job.arrived_s + front, itl, job.admitted_s - job.arrived_s, job.tokens,
        job.output, job.preempted,
    )  # fmt: skip


def _requests_per_unit(step: Steps, workload: Workload, rate: float) -> float:
    """How many requests one simulated unit stands for, so that a run covers some service times."""
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    alone = float(step.prefill_s(isl)) + osl * float(step.decode_s(1.0, isl + osl / 2.0))
    return max(1.0, rate * alone / (MAX_UNITS / 2.0))
