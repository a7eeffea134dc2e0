"""Counters and histograms in Prometheus' text format, under vLLM's names (docs.vllm.ai, "Production metrics")."""

from __future__ import annotations

import threading
from collections import Counter

LATENCY_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "Time from arrival to the first token",
    "vllm:inter_token_latency_seconds": "Time between two tokens of a request",
    "vllm:e2e_request_latency_seconds": "Time from arrival to the end of a request",
    "vllm:request_queue_time_seconds": "Time a request waited before its first step",
}


class Histogram:
    """Cumulative buckets, sum and count of one duration in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        place = next((i for i, edge in enumerate(LATENCY_BUCKETS_S) if seconds <= edge), len(LATENCY_BUCKETS_S))
        self.counts[place] += 1
        self.sum += seconds

    def lines(self, name: str, label: str) -> list[str]:
        total, lines = 0, []
        for edge, count in zip((*LATENCY_BUCKETS_S, float("inf")), self.counts, strict=True):
            total += count
            text = "+Inf" if edge == float("inf") else repr(float(edge))
            lines.append(f'{name}_bucket{{{label},le="{text}"}} {total}')
        return [*lines, f"{name}_sum{{{label}}} {self.sum}", f"{name}_count{{{label}}} {total}"]


class Metrics:
    """Written by the engine's thread, read by any."""

    def __init__(self, model_name: str) -> None:
        escaped = model_name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self._label = f'model_name="{escaped}"'
        self._lock = threading.Lock()
        self.gauges: dict[str, float] = {}
        self.counters: dict[str, float] = {}
        self._finished: Counter[str] = Counter({"stop": 0, "length": 0, "abort": 0})
        self._histograms = {name: Histogram() for name in HISTOGRAMS}

    def observe(self, name: str, seconds: float) -> None:
        with self._lock:
            self._histograms[name].observe(seconds)

    def finished(self, reason: str) -> None:
        with self._lock:
            self._finished[reason] += 1

    def publish(self, gauges: dict[str, float], counters: dict[str, float]) -> None:
        """The engine's current state, replaced as a whole."""
        with self._lock:
            self.gauges, self.counters = gauges, counters

    def text(self) -> str:
        """The exposition."""
        with self._lock:
            lines: list[str] = []
            for kind, values in (("gauge", self.gauges), ("counter", self.counters)):
                for name, value in values.items():
                    lines += [f"# TYPE {name} {kind}", f"{name}{{{self._label}}} {float(value)}"]
            lines.append("# TYPE vllm:request_success_total counter")
            for reason, count in self._finished.items():
                lines.append(f'vllm:request_success_total{{finished_reason="{reason}",{self._label}}} {float(count)}')
            for name, histogram in self._histograms.items():
                lines += [f"# HELP {name} {HISTOGRAMS[name]}", f"# TYPE {name} histogram"]
                lines += histogram.lines(name, self._label)
        return "\n".join(lines) + "\n"
