"""The steady state of a scheduler in closed form: a few fixed-point iterations over step times.

Cheap enough for searches (some ten step evaluations). Gives means only; `simulation` has the rest.
Knows no bands.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from planner.estimate.pace import Steps
from planner.estimate.schedulers.policy import Policy
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload

START_SHARE = 0.1
"""Share of a closed-loop run that belongs to its start, when all clients send at once: one request
in ten, which is what load generators send per client by custom."""

SATURATION = 0.98
"""Share of the most that can be served from which on a queue of random arrivals is said to grow without end."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Means of one engine: seconds, requests/s, and the sequences that decode and run at once.

    `start_last_s`: TTFT of the last of the wave in which all clients send at once; 0 where there is none.
    `settled_ttft_s`: mean TTFT after that wave; 0 where `ttft_s` is that.
    """

    ttft_s: float
    itl_s: float
    requests_per_s: float
    decoding: float
    running: float
    saturated: bool = False
    start_last_s: float = 0.0
    settled_ttft_s: float = 0.0


def steady(step: Steps, policy: Policy, workload: Workload, concurrency: float) -> Flow:
    """`concurrency` requests in the system at all times, of which `policy.admitted` may run.

    The engine is never idle: while every client is served once, it takes all their prompts, and
    decodes all their tokens with as many sequences as decode at a time. Rate and times obey Little's law.
    """
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    new, span = prompt_tokens(policy, workload)
    running = max(1.0, min(concurrency, policy.admitted))
    context, after_first = isl + osl / 2.0, max(osl - 1.0, 0.0)
    decode_steps = after_first / workload.tokens_per_step
    group = min(running, max(1.0, policy.step_tokens / new))
    in_groups = min(1.0, (policy.lag_steps + 1.0) * group / running)
    held_back = _held_back_steps(policy, running, decode_steps)
    # Of the steps that a client passes through, it decodes in all but those until its first token.
    steps = decode_steps + held_back + (policy.lag_steps + 1.0 + new / policy.step_tokens if running > 1.0 else 0.0)
    batch = max(1.0, running * decode_steps / steps) if after_first else running
    decode = float(step.decode_s(running if policy.static else batch, context))
    in_step = policy.length_spread == 0.0
    beside = batch * (1.0 - in_step * in_groups) if running > 1.0 and after_first and not policy.static else 0.0
    own, whole, prompt = prompt_cost(step, policy, beside, context, new, span, new * group if in_step else new)
    decoding_s = steps * decode * min(1.0, after_first)
    busy = running * step.ranks * prompt + decoding_s
    alone, grouped = _first_token_s(policy, running, group, own, whole, prompt, decode, busy)
    first = (grouped if in_step else alone) + held_back * decode
    if policy.static:
        first = 0.5 * (running + group) * whole
        busy = running * whole + decode_steps * decode
    cycle = max(busy, first + decode_steps * decode)
    itl = (cycle - first) / after_first if after_first else 0.0
    # While a request is with the front end, others keep the engine busy with prompts, but not with its own tokens.
    front = step.front_end_s(isl)
    sent_again = max(cycle + front * decoding_s / busy, first + front + decode_steps * decode)
    rate = min(running / cycle, concurrency / sent_again) if concurrency >= 1.0 else running / sent_again
    return Flow(max(concurrency, 1.0) / rate - after_first * itl, itl, rate, batch, running)


def prompt_tokens(policy: Policy, workload: Workload) -> tuple[float, float]:
    """Tokens of a prompt that must be computed, and the length of an uncached prompt whose tokens attend to as many.

    The n tokens behind a cached prefix of p attend to p + n / 2 each, as those of a prompt of 2 p + n do.
    """
    isl = float(workload.input_tokens)
    cached = min(float(workload.shared_prefix_tokens), isl - 1.0) if policy.prefix_cache else 0.0
    return isl - cached, isl + cached


def _held_back_steps(policy: Policy, running: float, decode_steps: float) -> float:
    """Mean decode steps that a prompt waits for where prompts must be several, or late, to interrupt decoding."""
    if not policy.wait_steps or running <= 1.0 or not decode_steps:
        return 0.0
    window = min(float(policy.wait_steps), policy.wait_share * decode_steps)
    arrivals = window * running / decode_steps
    return window / 2.0 * arrivals / (arrivals + exp(-arrivals))


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
    step: Steps, policy: Policy, batch: float, context: float, new: float, span: float, tokens: float
) -> tuple[float, float, float]:
    """Seconds until one prompt is through alone, seconds per prompt of a full step, and seconds added.

    The last is what each prompt adds to everybody's time. `batch` others decode, and `tokens` of
    prompts wait together; `new` and `span` are those of `prompt_tokens`. Prompts longer than a step's budget take
    several steps. In a pipeline a prompt passes all stages one after the other, though others follow it.
    """
    room = max(policy.step_tokens - batch, 0.05 * policy.step_tokens)
    beside = batch if policy.mixes and batch >= 0.5 else 0.0
    base = float(step.decode_s(beside, context)) if beside else 0.0
    alone, chunk = min(new, room), min(tokens, room)
    single = float(step.mixed_s(beside, context, alone, span))
    chunks = int(new / alone + 1e-9)
    rest = new - chunks * alone
    own = chunks * single + (float(step.mixed_s(beside, context, rest, span)) if rest >= 1.0 else 0.0)
    several = float(step.mixed_s(beside, context, chunk, span)) if chunk > alone else single
    whole = several * new / chunk
    if step.pipelined:
        own = max(own, float(step.prefill_s(alone, (span - new) / 2.0)) * new / alone)
    return own, whole, max(several - base, 0.05 * several) * new / chunk


def burst(step: Steps, policy: Policy, workload: Workload, concurrency: float) -> Flow:
    """`concurrency` requests at once and no more: prompts first, then everybody decodes."""
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    new, span = prompt_tokens(policy, workload)
    running = max(1.0, min(concurrency, policy.admitted))
    after_first = max(osl - 1.0, 0.0)
    context = isl + osl / 2.0
    decode = float(step.decode_s(running, context)) / workload.tokens_per_step
    tokens = min(policy.step_tokens, new * running)
    sweep = float(step.mixed_s(0.0, context, tokens, span)) * new * running / tokens
    wave = sweep + after_first * decode
    waves = concurrency / running
    mean_start = sweep / 2.0 * (1.0 + min(1.0, tokens / (new * running))) + (waves - 1.0) / 2.0 * wave
    itl = decode + sweep / 2.0 * (1.0 - min(1.0, tokens / (new * running))) / after_first if after_first else 0.0
    front = step.front_end_s(isl)
    last = max((waves - 1.0) * wave, 0.0) + sweep + front
    return Flow(mean_start + front, itl, concurrency / (waves * wave + front), running, running, start_last_s=last)


def poisson(step: Steps, policy: Policy, workload: Workload, request_rate: float) -> Flow:
    """`request_rate` requests/s at random moments; `saturated` when the engine cannot keep up."""
    full = steady(step, policy, workload, policy.admitted)
    if request_rate >= SATURATION * full.requests_per_s:
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


def _open(step: Steps, policy: Policy, workload: Workload, rate: float, batch: float) -> Flow:
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    context, after_first = isl + osl / 2.0, max(osl - 1.0, 0.0)
    new, span = prompt_tokens(policy, workload)
    decode = float(step.decode_s(max(batch, 1.0), context)) / workload.tokens_per_step
    own, _, prompt = prompt_cost(step, policy, batch, context, new, span, new)
    stall = min(rate * prompt, 0.95)
    itl = decode / (1.0 - stall) if after_first else 0.0
    first = own + prompt * stall / (2.0 * (1.0 - stall)) + min(1.0, rate * after_first * itl) * decode / 2.0
    decoding = rate * after_first * itl
    return Flow(first + step.front_end_s(isl), itl, rate, decoding, decoding + rate * first)
