"""The steady state of a scheduler in closed form: a few fixed-point iterations over step times.

Cheap enough for searches (some ten step evaluations). Gives means only; `simulation` has the rest.
Knows no bands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.estimate.schedulers.policy import Policy
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload
    from planner.estimate.step import StepModel

START_SHARE = 0.1
"""Share of a closed-loop run that belongs to its start, when all clients send at once: one request
in ten, which is what load generators send per client by custom."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Means of one engine: seconds, requests/s, and the sequences that decode and run at once."""

    ttft_s: float
    itl_s: float
    requests_per_s: float
    decoding: float
    running: float
    saturated: bool = False


def steady(step: StepModel, policy: Policy, workload: Workload, concurrency: float) -> Flow:
    """`concurrency` requests in the system at all times, of which `policy.admitted` may run.

    The engine is never idle: while every client is served once, it takes all their prompts, and
    decodes all their tokens with as many sequences as decode at a time.
    """
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    running = max(1.0, min(concurrency, policy.admitted))
    context, after_first = isl + osl / 2.0, max(osl - 1.0, 0.0)
    group = min(running, max(1.0, policy.step_tokens / isl))
    in_groups = min(1.0, (policy.lag_steps + 1.0) * group / running)
    # Of the steps that a client passes through, it decodes in all but those until its first token.
    steps = after_first + (policy.lag_steps + 1.0 + isl / policy.step_tokens if running > 1.0 else 0.0)
    batch = max(1.0, running * after_first / steps) if after_first else running
    decode = float(step.decode_s(batch, context))
    in_step = policy.length_spread == 0.0
    beside = batch * (1.0 - in_step * in_groups) if running > 1.0 and after_first else 0.0
    own, whole, prompt = prompt_cost(step, policy, beside, context, isl, isl * group if in_step else isl)
    busy = running * step.ranks * prompt + steps * decode * min(1.0, after_first)
    alone, grouped = _first_token_s(policy, running, group, own, whole, prompt, decode, busy)
    first = grouped if in_step else alone
    cycle = max(busy, first + after_first * decode)
    itl = (cycle - first) / after_first if after_first else 0.0
    rate = running / cycle
    waiting = max(0.0, concurrency - running)
    return Flow(first + waiting / rate + step.front_end_s(isl), itl, rate, batch, running)


def _first_token_s(
    policy: Policy,
    running: float,
    group: float,
    own: float,
    whole: float,
    prompt: float,
    decode: float,
    cycle: float,
) -> tuple[float, float]:
    """Mean seconds from being admitted to the first token: clients out of step, and in groups.

    Out of step, a prompt meets a queue of others at random, after the steps that were scheduled
    already. In groups of as many as one step takes, it waits for its group and those before it.
    """
    if running <= 1.0:
        return own, own
    load = min(running * prompt / cycle, 0.98)
    queue, most = prompt * load / (2.0 * (1.0 - load)), (running - 1.0) * prompt / 2.0
    pace = min(decode / (1.0 - load), decode + most)
    scheduled = min(1.0, running - 1.0) * (policy.lag_steps + 0.5) * pace
    grouped = min((policy.lag_steps + 1.0) * group, (running + group) / 2.0) * whole
    return own + queue * most / (queue + most) + scheduled, max(grouped, own)


def prompt_cost(
    step: StepModel, policy: Policy, batch: float, context: float, isl: float, tokens: float
) -> tuple[float, float, float]:
    """Seconds until one prompt is through alone, seconds per prompt of a full step, and seconds added.

    The last is what each prompt adds to everybody's time. `batch` others decode, and `tokens` of
    prompts wait together. Prompts longer than a step's budget take several steps. In a pipeline a
    prompt passes all stages one after the other, though others follow it.
    """
    room = max(policy.step_tokens - batch, 0.05 * policy.step_tokens)
    beside = batch if policy.mixes and batch >= 0.5 else 0.0
    base = float(step.decode_s(beside, context)) if beside else 0.0
    alone, chunk = min(isl, room), min(tokens, room)
    single = float(step.mixed_s(beside, context, alone, isl))
    chunks = int(isl / alone + 1e-9)
    rest = isl - chunks * alone
    own = chunks * single + (float(step.mixed_s(beside, context, rest, isl)) if rest >= 1.0 else 0.0)
    several = float(step.mixed_s(beside, context, chunk, isl)) if chunk > alone else single
    whole = several * isl / chunk
    if step.pipelined:
        own = max(own, float(step.prefill_s(alone)) * isl / alone)
    return own, whole, max(several - base, 0.05 * several) * isl / chunk


def burst(step: StepModel, policy: Policy, workload: Workload, concurrency: float) -> Flow:
    """`concurrency` requests at once and no more: prompts first, then everybody decodes."""
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    running = max(1.0, min(concurrency, policy.admitted))
    after_first = max(osl - 1.0, 0.0)
    context = isl + osl / 2.0
    decode = float(step.decode_s(running, context))
    tokens = min(policy.step_tokens, isl * running)
    sweep = float(step.mixed_s(0.0, context, tokens, isl)) * isl * running / tokens
    wave = sweep + after_first * decode
    waves = concurrency / running
    mean_start = sweep / 2.0 * (1.0 + min(1.0, tokens / (isl * running))) + (waves - 1.0) / 2.0 * wave
    itl = decode + (sweep / 2.0 * (1.0 - min(1.0, tokens / (isl * running))) / after_first if after_first else 0.0)
    rate = concurrency / (waves * wave)
    return Flow(mean_start + step.front_end_s(isl), itl, rate, running, running)


def poisson(step: StepModel, policy: Policy, workload: Workload, request_rate: float) -> Flow:
    """`request_rate` requests/s at random moments; `saturated` when the engine cannot keep up."""
    full = steady(step, policy, workload, policy.admitted)
    if request_rate >= 0.98 * full.requests_per_s:
        return Flow(full.ttft_s, full.itl_s, full.requests_per_s, full.decoding, full.running, True)
    low, high = 0.0, max(policy.admitted, 1.0)
    for _ in range(18):
        middle = (low + high) / 2.0
        found = _open(step, policy, workload, request_rate, middle)
        low, high = (middle, high) if found.decoding > middle else (low, middle)
    found = _open(step, policy, workload, request_rate, (low + high) / 2.0)
    load = request_rate / full.requests_per_s
    queue = load ** (2.0 * policy.admitted**0.5) / (1.0 - load) / full.requests_per_s
    return Flow(found.ttft_s + queue, found.itl_s, request_rate, found.decoding, found.running)


def _open(step: StepModel, policy: Policy, workload: Workload, rate: float, batch: float) -> Flow:
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    context, after_first = isl + osl / 2.0, max(osl - 1.0, 0.0)
    decode = float(step.decode_s(max(batch, 1.0), context))
    own, _, prompt = prompt_cost(step, policy, batch, context, isl, isl)
    stall = min(rate * prompt, 0.95)
    itl = decode / (1.0 - stall)
    first = own + prompt * stall / (2.0 * (1.0 - stall)) + min(1.0, rate * after_first * itl) * decode / 2.0
    decoding = rate * after_first * itl
    return Flow(first + step.front_end_s(isl), itl, rate, decoding, decoding + rate * first)
