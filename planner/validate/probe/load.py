"""A bounded load: so many clients in a closed loop, streaming; TTFT, ITL and throughput beside the plan's bands.

TTFT = first text received − request sent. ITL = (end − TTFT) / (output tokens − 1), one value per request. Knows
nothing of which engine answers. Threads and http.client keep up with some hundred clients; more are not started.
"""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from planner.validate.probe.http import EndpointError, Stream
from planner.validate.probe.openai import Target, chunk_of, delta_of
from planner.validate.verdict import Check, failed, judged, passed, skipped

if TYPE_CHECKING:
    from planner.spec.plan import Figure

MAX_CLIENTS = 512
ROUNDS = 3
"""Requests per client, the first of which meet an empty server."""
SHORT_ANSWERS = 0.9
"""Below this share of the planned output tokens, throughput is not compared."""
_TOO_LONG = re.compile(r"context|too long|max_model_len|must have less than|inputs? tokens", re.IGNORECASE)
Progress = Callable[[int, int], None]
_WORDS = ("river", "stone", "cloud", "apple", "train", "paper", "light", "green", "table", "horse", "glass", "north")


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: clients at once, requests in all, tokens of each, and when to start no more (seconds)."""

    concurrency: int
    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """One request that was answered."""

    ttft_s: float
    end_s: float
    prompt_tokens: int | None
    output_tokens: int

    @property
    def itl_s(self) -> float | None:
        return (self.end_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None


@dataclass(slots=True)
class Run:
    """What came back. `wall_s` is from the first request sent to the last token received."""

    timings: list[Timing] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def output_tokens_per_s(self) -> float:
        return sum(t.output_tokens for t in self.timings) / self.wall_s if self.wall_s else 0.0


def checks(target: Target, load: Load, progress: Progress | None = None) -> tuple[Check, ...]:
    """Run `load` against `target`; what came back beside the plan's figures."""
    try:
        prompts = _Prompts(target, load)
    except EndpointError as error:
        return (failed("load", str(error)),)
    run = drive(target, prompts, load, progress)
    n = len(run.timings)
    if run.problems:
        first = failed("load", f"{len(run.problems)} of {n + len(run.problems)} requests failed: {run.problems[0]}")
    else:
        first = passed(
            "load", f"{n} requests, {load.concurrency} at once, in {run.wall_s:.1f} s, about "
            f"{prompts.input_tokens:,} input and {load.output_tokens:,} output tokens each",
            requests=n, concurrency=load.concurrency, wall_s=round(run.wall_s, 3),
            input_tokens=load.input_tokens, output_tokens=load.output_tokens,
        )  # fmt: skip
    if not n:
        return (first,)
    promise = target.promise
    planned = (load.concurrency, load.input_tokens, load.output_tokens)
    differs = (promise.concurrency, promise.input_tokens, promise.output_tokens) != planned
    answered = sum(t.output_tokens for t in run.timings) / n
    itl = [t.itl_s for t in run.timings if t.itl_s is not None]
    why = ""
    if promise.poisson:
        why = "the plan's load arrives at random, this one in a closed loop"
    elif differs and promise.concurrency is not None:
        why = "the load was not the planned one"
    short = f"answers had {answered:,.0f} of {load.output_tokens:,} tokens" * (
        answered < SHORT_ANSWERS * load.output_tokens
    )
    return (
        first,
        _latency("TTFT", [1e3 * t.ttft_s for t in run.timings], promise.ttft_ms, why),
        _latency("ITL", [1e3 * i for i in itl], promise.itl_ms, why),
        _throughput(run, promise.output_tokens_per_s, why or short),
    )


def drive(target: Target, prompts: Callable[[int], dict[str, Any]], load: Load, progress: Progress | None) -> Run:
    """`load.concurrency` threads, each sending its next request on the last token of the one before."""
    run, lock, began = Run(), threading.Lock(), time.perf_counter()
    started = done = 0

    def take() -> int | None:
        nonlocal started
        with lock:
            if started >= load.requests or time.perf_counter() - began > load.seconds:
                return None
            started += 1
            return started - 1

    def work() -> None:
        nonlocal done
        while (number := take()) is not None:
            result: Timing | str
            try:
                result = timing_of(target.client.stream("/v1/chat/completions", prompts(number)))
            except EndpointError as error:
                result = str(error)
            with lock:
                done += 1
                (run.timings if isinstance(result, Timing) else run.problems).append(result)  # type: ignore[arg-type]
                if progress is not None:
                    progress(done, load.requests)

    threads = [threading.Thread(target=work, name=f"client-{i}", daemon=True) for i in range(load.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.wall_s = time.perf_counter() - began
    return run


def timing_of(stream: Stream) -> Timing | str:
    """Timing of a stream, or what was wrong with it. Tokens are the usage's, else the events with text."""
    if stream.refused is not None:
        return f"status {stream.refused.status}: {stream.refused.text[:120]}"
    first = last = None
    events, finished, usage = 0, False, None
    for piece in stream.pieces:
        chunk = chunk_of(piece.data)
        if chunk is None:
            continue
        usage = chunk.get("usage") or usage
        text, reason = delta_of(chunk)
        if text or reason:
            first, last = (piece.at_s if first is None else first), piece.at_s
            events += bool(text)
            finished = finished or reason is not None
        if "error" in chunk:
            return f"an error inside the stream: {str(chunk['error'])[:120]}"
    if first is None or last is None or not finished:
        return "the stream ended without a finish reason"
    counts = usage if isinstance(usage, dict) else {}
    prompt, output = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Timing(first, last, prompt if type(prompt) is int else None, output if type(output) is int else events)


class _Prompts:
    """Request bodies of about the planned length; each begins differently, so that no prefix is cached."""

    def __init__(self, target: Target, load: Load) -> None:
        self._target, self._load = target, load
        self._extra: dict[str, Any] = {}
        self._words = max(1, load.input_tokens - 4)
        trial = self._trial()
        if isinstance(trial, str) and "status 4" in trial:
            self._extra, trial = {"ignore_eos": None}, self._trial({"ignore_eos": None})
        if isinstance(trial, str):
            raise EndpointError(f"{target.client.url}: a first request of {load.input_tokens} tokens: {trial}")
        self.input_tokens = load.input_tokens
        if trial.prompt_tokens:
            per_word = trial.prompt_tokens / (self._words + 1)
            self._words = max(1, math.floor(load.input_tokens / per_word) - 1)
            self.input_tokens = round(per_word * (self._words + 1))

    def __call__(self, number: int) -> dict[str, Any]:
        picker = random.Random(f"planner-{number}")  # the same prompts in every run
        words = [str(picker.randrange(10**6)), *picker.choices(_WORDS, k=self._words)]
        content = " ".join(words)
        body = {
            "messages": [{"role": "user", "content": content}], "max_tokens": self._load.output_tokens,
            "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True,
        }  # fmt: skip
        return self._target.body(**(body | self._extra))

    def _trial(self, extra: dict[str, Any] | None = None) -> Timing | str:
        """A request of the length guessed; shortened while the endpoint calls it too long."""
        result: Timing | str = "nothing was sent"
        for _ in range(6):
            body = self(-1) | {"max_tokens": 2} | (extra or {})
            result = timing_of(
                self._target.client.stream("/v1/chat/completions", {k: v for k, v in body.items() if v is not None})
            )
            if isinstance(result, Timing) or not _TOO_LONG.search(result):
                return result
            self._words = max(1, self._words // 3)
        return result


def percentile(values: Sequence[float], p: float) -> float:
    """The least of `values` that at least `p` per cent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]


def log_error(values: Sequence[float]) -> float:
    """Standard error of the logarithm of the median of `values`, for so few of them: Student's t for z at 90 %.

    A median's error is √(π/2) times a mean's (Kenney and Keeping 1962); of a single value nothing is known, and a
    factor of two is assumed.
    """
    n = len(values)
    if n < 2:
        return math.log(2.0)
    logs = [math.log(max(v, 1e-6)) for v in values]
    mean = sum(logs) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in logs) / (n - 1))
    return math.sqrt(math.pi / 2 / n) * spread * (1.0 + 0.94 / (n - 1))


def _latency(name: str, values: list[float], planned: Figure | None, why: str) -> Check:
    if not values:
        return skipped(name, "answers of one token have no time between tokens")
    p50, p90, p99 = (percentile(values, p) for p in (50, 90, 99))
    figures = {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "log_error": log_error(values)}
    told = f"p50 {p50:,.1f}, p90 {p90:,.1f}, p99 {p99:,.1f} ms"
    if planned is None or why:
        return skipped(name, f"{told}; {why or 'no plan to compare with'}", **figures)
    band = f"planned p50 {planned.value:,.1f} ({planned.low:,.1f} to {planned.high:,.1f}) ms"
    figures |= {"planned_p50_ms": planned.value, "planned_low_ms": planned.low, "planned_high_ms": planned.high}
    better = "; better than its band" if p50 < planned.low else ""
    return judged(name, p50 <= planned.high, f"{told}; {band}{better}", f"{told}; {band}", **figures)


def _throughput(run: Run, planned: Figure | None, why: str) -> Check:
    name, rate = "throughput", run.output_tokens_per_s
    told = f"{rate:,.1f} output tokens/s"
    if planned is None or why:
        return skipped(name, f"{told}; {why or 'no plan to compare with'}", output_tokens_per_s=rate)
    band = f"planned {planned.value:,.1f} ({planned.low:,.1f} to {planned.high:,.1f})"
    better = "; better than its band" if rate > planned.high else ""
    return judged(
        name, rate >= planned.low, f"{told}; {band}{better}", f"{told}; {band}", output_tokens_per_s=rate,
        planned_output_tokens_per_s=planned.value, planned_low=planned.low, planned_high=planned.high,
    )  # fmt: skip
