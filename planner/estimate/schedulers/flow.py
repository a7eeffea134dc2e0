"""The steady state of a scheduler in closed form: a few fixed-point iterations over step times.

Cheap enough for searches (some ten step evaluations). Gives means only; `simulation` has the rest.
Knows no bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.estimate.schedulers.policy import Policy

if TYPE_CHECKING:
    from planner.estimate.deployment import Workload
    from planner.estimate.step import StepModel

ITERATIONS = 12
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
    """`concurrency` requests in the system at all times, of which `policy.admitted` may run."""
    isl, osl = float(workload.input_tokens), float(workload.output_tokens)
    running = max(1.0, min(concurrency, policy.admitted))
    context = isl + osl / 2.0
    after_first = max(osl - 1.0, 0.0)
    decoding = running
    for _ in range(ITERATIONS):
        batch = max(decoding, 1e-3)
        decode = float(step.decode_s(max(batch, 1.0), context))
        own, prompt = prompt_cost(step, policy, batch, context, isl, decode)
        rate = batch / (after_first * decode + batch * prompt) if after_first else 1.0 / prompt
        stall = min(rate * prompt, 0.98)
        itl = decode / (1.0 - stall)
        first = own
        if running > 1.0:
            first = _first_token_s(policy, running, own, prompt, stall, decode, itl, isl, osl)
        rate = running / (first + after_first * itl)
        target = min(running, rate * after_first * itl)
        decoding = 0.5 * decoding + 0.5 * max(target, 1e-3)
    if after_first:
        # Prompts bound the rate whatever the split; the rest of a request's time is decoding.
        rate = min(rate, 1.0 / prompt)
        itl = max(decode, (running / rate - first) / after_first)
    waiting = max(0.0, concurrency - running)
    return Flow(first + waiting / rate + step.request_s, itl, rate, decoding, running)


def _first_token_s(
    policy: Policy, running: float, own: float, prompt: float, stall: float, decode: float, itl: float, isl: float, osl: float
) -> float:
    """Mean seconds from being admitted to the first token, beside others.

    Either clients have fallen out of step (a queue of prompts at random, after the steps that were
    scheduled already), or, when answers are short and alike, they still move in groups as large as
    one step takes.
    """
    most = (running - 1.0) * prompt / 2.0
    queue = prompt * stall / (2.0 * (1.0 - stall))
    alone = own + queue * most / (queue + most) + min(1.0, running - 1.0) * (policy.lag_steps + 0.5) * min(itl, most + decode)
    group = min(running, max(1.0, policy.step_tokens / isl))
    together = min((policy.lag_steps + 1.0) * group, (running + group) / 2.0) * prompt
    apart = 2.0 * policy.length_spread * osl * decode / (group * prompt)
    share = 1.0 / (1.0 + apart * apart)
    return share * max(together, own) + (1.0 - share) * alone


def prompt_cost(
    step: StepModel, policy: Policy, batch: float, context: float, isl: float, decode: float
) -> tuple[float, float]:
    """Seconds until one prompt is through, and seconds that it adds to everybody's time.

    Both with `batch` others decoding. Prompts longer than a step's budget take several steps; when
    many are waiting, one step takes several of them.
    """
    room = max(policy.step_tokens - batch, 0.05 * policy.step_tokens)
    alone = min(isl, room)
    beside = batch if policy.mixes and batch > 1.0 else 0.0
    chunk = float(step.mixed_s(beside, context, alone, isl))
    base = decode if beside else 0.0
    own = chunk * isl / alone
    return own, max(chunk - base, 0.05 * chunk) * isl / alone


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
    return Flow(mean_start + step.request_s, itl, rate, running, running)


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
    own, prompt = prompt_cost(step, policy, batch, context, isl, decode)
    stall = min(rate * prompt, 0.95)
    itl = decode / (1.0 - stall)
    first = own + prompt * stall / (2.0 * (1.0 - stall)) + min(1.0, rate * after_first * itl) * decode / 2.0
    decoding = rate * after_first * itl
    return Flow(first + step.request_s, itl, rate, decoding, decoding + rate * first)
