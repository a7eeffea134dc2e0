"""What vLLM says of its memory, in /metrics and in its start-up log, beside the plan's ledger.

Log lines as vLLM 0.6 to 0.33 print them (worker, kv_cache_utils); its "GB" of old lines are GiB. Knows no HTTP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.units import GIB
from planner.validate.verdict import Check, judged, passed, skipped

if TYPE_CHECKING:
    from planner.spec.plan import MemoryLedger

WEIGHTS_TOLERANCE = 0.02
KV_TOLERANCE = 0.10
"""Share by which a logged figure may differ from the ledger's: exact arithmetic, and a remainder of fitted rows."""
Samples = dict[str, list[tuple[dict[str, str], float]]]
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?\s*")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_NUMBER = r"([\d,]+(?:\.\d+)?)"
_LOADED = re.compile(rf"[Mm]odel (?:loading|weights) took {_NUMBER} ?Gi?B")
_AVAILABLE = re.compile(
    rf"(?:Available KV cache memory: |(?:Explicitly|Auto) set \(){_NUMBER}(?: ?Gi?B|/[\d.]+\) GiB for KV cache)"
)
"""On a GPU; and on a CPU, where its worker says how it was set."""
_TOKENS = re.compile(rf"KV cache size: {_NUMBER} tokens")
_CONCURRENCY = re.compile(rf"Maximum concurrency for {_NUMBER} tokens per request: {_NUMBER}x")
_BLOCKS = re.compile(rf"# (?:GPU|cuda) blocks: {_NUMBER}")


@dataclass(frozen=True, slots=True)
class Logged:
    """Figures of a start-up log of one engine; None where a line is missing. Bytes are per device."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    kv_tokens: int | None = None
    blocks: int | None = None
    concurrency: float | None = None
    concurrency_tokens: int | None = None


def read_log(text: str) -> Logged:
    """The figures in `text`; of several workers the fullest: most weights, fewest KV bytes and tokens."""

    def numbers(pattern: re.Pattern[str], group: int = 1) -> list[float]:
        return [float(match[group].replace(",", "")) for match in pattern.finditer(text)]

    loaded, available = numbers(_LOADED), numbers(_AVAILABLE)
    tokens, blocks, most = numbers(_TOKENS), numbers(_BLOCKS), numbers(_CONCURRENCY, 2)
    return Logged(
        weights_bytes=round(max(loaded) * GIB) if loaded else None,
        kv_bytes=round(min(available) * GIB) if available else None,
        kv_tokens=int(min(tokens)) if tokens else None,
        blocks=int(min(blocks)) if blocks else None,
        concurrency=min(most) if most else None,
        concurrency_tokens=int(numbers(_CONCURRENCY)[0]) if most else None,
    )


def read_metrics(text: str) -> Samples:
    """Prometheus' text format: name → (labels, value) of each sample. Lines that are none are left out."""
    found: Samples = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {name: text_.replace('\\"', '"') for name, text_ in _LABEL.findall(match[2] or "")}
        found.setdefault(match[1], []).append((labels, value))
    return found


def log_checks(text: str, ledger: MemoryLedger | None, max_model_len: int | None) -> tuple[Check, ...]:
    """A start-up log against the ledger."""
    logged = read_log(text)
    if logged == Logged():
        return (skipped("start-up log", "it holds none of vLLM's lines on memory"),)
    if ledger is None:
        told = ", ".join(f"{n} {v:,}" for n in Logged.__slots__ if (v := getattr(logged, n)) is not None)
        return (skipped("start-up log", f"{told}; no plan to compare with"),)
    checks = []
    for name, value, planned, tolerance in (
        ("log: weights", logged.weights_bytes, ledger.bytes_of("weights"), WEIGHTS_TOLERANCE),
        ("log: KV memory", logged.kv_bytes, ledger.bytes_of("kv_cache"), KV_TOLERANCE),
    ):
        if value is not None:
            checks.append(_against(name, value / GIB, planned / GIB, tolerance, "GiB"))
    if logged.kv_tokens is not None:
        checks.append(_against("log: KV tokens", logged.kv_tokens, ledger.kv_cache_tokens, KV_TOLERANCE, "tokens"))
    if logged.concurrency is not None and logged.concurrency_tokens is not None:
        checks.append(_concurrency(logged, ledger, max_model_len))
    return tuple(checks)


def metrics_checks(text: str, ledger: MemoryLedger | None) -> tuple[Check, ...]:
    """vLLM's /metrics: the KV pool against the ledger, and whether requests were preempted."""
    samples = read_metrics(text)
    if not any(name.startswith("vllm:") for name in samples):
        return (skipped("metrics", "no vLLM metrics at this endpoint"),)
    checks = []
    for labels, _ in samples.get("vllm:cache_config_info", [])[:1]:
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if blocks.isdigit() and size.isdigit():
            tokens = int(blocks) * int(size)
            if ledger is None:
                checks.append(skipped("metrics: KV tokens", f"{tokens:,}; no plan to compare with", kv_tokens=tokens))
            else:
                checks.append(_against("metrics: KV tokens", tokens, ledger.kv_cache_tokens, KV_TOLERANCE, "tokens"))
    preempted = sum(value for _, value in samples.get("vllm:num_preemptions_total", []))
    checks.append(
        passed(
            "metrics",
            f"{len(samples)} metrics, {preempted:,.0f} preemptions since the start",
            metrics=len(samples),
            preemptions=preempted,
        )
    )
    return tuple(checks)


def _against(name: str, value: float, planned: float, tolerance: float, unit: str) -> Check:
    share = value / planned - 1 if planned else float("inf")
    form = ",.2f" if unit == "GiB" else ",.0f"
    told = f"{value:{form}} {unit}, the ledger says {planned:{form}} ({share:+.1%}, ±{tolerance:.0%} is allowed)"
    return judged(name, abs(share) <= tolerance, told, told, measured=value, planned=planned, difference=share)


def _concurrency(logged: Logged, ledger: MemoryLedger, max_model_len: int | None) -> Check:
    name = "log: concurrency"
    assert logged.concurrency is not None
    if max_model_len is not None and logged.concurrency_tokens != max_model_len:
        told = f"the log is of a context of {logged.concurrency_tokens:,} tokens, planned {max_model_len:,}"
        return judged(name, False, "", told)
    planned = max(1, ledger.concurrent_sequences)
    share = abs(logged.concurrency - planned)
    told = f"{logged.concurrency:,.2f} full contexts at once, the ledger says {planned:,}"
    return judged(
        name, share <= max(1.0, KV_TOLERANCE * planned), told, told, measured=logged.concurrency, planned=planned
    )
