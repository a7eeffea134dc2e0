"""The plan: a lock file of one answer, and the figures it is made of.

Everything a renderer, a validator or a reader needs is in here; nothing in here says how to
compute it. The same request and facts give the same bytes.
"""

from __future__ import annotations

from typing import Literal

from planner.spec.base import FigureBasis, Spec
from planner.spec.engine import EngineRelease
from planner.spec.features import Features
from planner.spec.hardware import Machine
from planner.spec.model import ModelSpec
from planner.spec.request import Request

SCHEMA_VERSION = 1


class Figure(Spec):
    """A number with its 80 % band. `n` is how many measured rows the band rests on."""

    value: float
    low: float
    high: float
    unit: str
    basis: FigureBasis
    n: int = 0

    def __float__(self) -> float:
        return self.value


class Percentiles(Spec):
    """A latency over requests."""

    mean: Figure
    p50: Figure
    p90: Figure
    p99: Figure

    def at(self, percentile: float) -> Figure:
        """The figure at or next above `percentile` (50 … 99.9)."""
        return self.p50 if percentile <= 50 else self.p90 if percentile <= 90 else self.p99


class LedgerRow(Spec):
    """One line of the memory ledger of one device."""

    item: Literal["weights", "kv_cache", "activations", "cuda_graphs", "runtime", "reserved", "free"]
    bytes: int
    formula: str
    why: str
    basis: FigureBasis


class MemoryLedger(Spec):
    """Memory of the fullest device. Rows add up to `device_bytes` exactly.

    `kv_cache_tokens` is what one tensor×pipeline group holds (what vLLM logs). `shortfall_bytes`
    is how much is missing when it does not fit. `host_bytes` is what the layers and caches that
    stay in host RAM take (Ollama with a CPU split).
    """

    device: str
    device_bytes: int
    stage: int = 0
    rows: tuple[LedgerRow, ...]
    kv_cache_tokens: int
    kv_bytes_per_token: int
    largest_context_tokens: int
    concurrent_sequences: int
    """Sequences of the planned context (max_model_len) that the pool holds."""
    fits: bool
    shortfall_bytes: int = 0
    offloaded_layers: int | None = None
    total_layers: int | None = None
    host_bytes: int = 0
    notes: tuple[str, ...] = ()

    def bytes_of(self, item: str) -> int:
        """Sum of the rows named `item`."""
        return sum(row.bytes for row in self.rows if row.item == item)


class Performance(Spec):
    """Serving figures of the whole deployment under the planned workload.

    TTFT = first token received − request sent. ITL = TPOT = (end-to-end − TTFT) / (output tokens
    − 1), one value per request. Throughput counts the whole deployment.
    """

    ttft_ms: Percentiles
    """Of a closed loop as load generators run it: a tenth of the requests are of its start, when all send at once."""
    itl_ms: Percentiles | None
    """None where every answer is a single token."""
    settled_ttft_ms: Percentiles | None = None
    """Of a closed loop after its start, which is what targets are held against; None where `ttft_ms` is that."""
    output_tokens_per_s: Figure
    total_tokens_per_s: Figure
    requests_per_s: Figure
    effective_concurrency: float
    """Mean requests running at once per replica; below the asked concurrency some always queue."""
    queue_ms: float = 0.0
    """Mean wait for a place, part of TTFT."""
    kv_occupancy: float = 0.0
    kv_occupancy_peak: float = 0.0
    """Shares of the KV pool in use, mean and most; 0 where slots own their cache."""
    preemptions_per_request: float = 0.0
    """How often a request's cache is taken away and computed again."""

    @property
    def usual_ttft_ms(self) -> Percentiles:
        """TTFT of users who do not all begin at once."""
        return self.settled_ttft_ms or self.ttft_ms

    @property
    def start_matters(self) -> bool:
        """True where those who begin together wait so much longer that a reader has to know."""
        return self.settled_ttft_ms is not None and self.ttft_ms.p99.value > 1.2 * self.settled_ttft_ms.p99.value

    def ttft_ms_at(self, percentile: float) -> float:
        """TTFT in ms at `percentile`, to hold against a target."""
        return self.usual_ttft_ms.at(percentile).value

    def itl_ms_at(self, percentile: float) -> float:
        """ITL in ms at `percentile`, to hold against a target: 0 where there is no second token."""
        return self.itl_ms.at(percentile).value if self.itl_ms else 0.0


class Cost(Spec):
    """USD of the whole deployment; None where no price is known."""

    usd_per_hour: float | None
    usd_per_million_output_tokens: Figure | None
    source: str


class Parallelism(Spec):
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    replicas: int = 1
    prefill: int = 0
    """Replicas that only prefill, for the others to decode; 0: every replica does both."""

    @property
    def decoders(self) -> int:
        """Replicas on which the requests stay while they are answered."""
        return self.replicas - self.prefill

    @property
    def devices_per_replica(self) -> int:
        """Devices of one copy: tensor × pipeline × data (experts are spread over those)."""
        return self.tensor * self.pipeline * self.data


class Limits(Spec):
    """What every artifact carries. None where the engine has no such setting."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    block_size: int | None = None
    num_ctx: int | None = None
    """Ollama and llama.cpp: context of one slot."""
    num_parallel: int | None = None
    num_gpu: int | None = None
    """Ollama: layers on the GPU; None leaves it to the engine."""
    num_thread: int | None = None
    num_batch: int | None = None
    max_queue: int | None = None
    max_batch_prefill_tokens: int | None = None
    max_batch_total_tokens: int | None = None
    max_input_tokens: int | None = None
    shm_bytes: int | None = None
    host_memory_bytes: int
    disk_bytes: int
    load_seconds: float
    """Estimated time from container start to ready, weights already on disk."""
    startup_budget_seconds: int
    """What probes allow: download and load with a margin."""
    termination_grace_seconds: int


class EngineChoice(Spec):
    name: str
    version: str
    image: str | None
    image_verified: bool = False
    platform: str
    plugin: str | None = None
    quantization_flag: str | None = None


class ModelChoice(Spec):
    id: str
    revision: str | None
    checkpoint: str
    """Hub repository, or Ollama tag, that the engine is told to load."""
    file: str | None = None
    ollama_tag: str | None = None
    served_name: str
    parameters: int
    active_parameters: int
    license: str | None = None
    gated: bool | None = None


class HardwareChoice(Spec):
    label: str
    accelerator: str | None
    count: int
    """Devices used by all replicas."""
    nodes: int = 1
    platform: str
    ram_bytes: int | None = None


class Reason(Spec):
    """Why one choice was made."""

    subject: Literal["engine", "quantization", "parallelism", "kv_cache_dtype", "context", "limits", "hardware", "cost"]
    choice: str
    because: str
    rule: str | None = None
    source: str | None = None


class Configuration(Spec):
    """One complete, sized deployment."""

    engine: EngineChoice
    model: ModelChoice
    hardware: HardwareChoice
    quantization: str
    kv_cache_dtype: str
    parallelism: Parallelism
    limits: Limits
    memory: MemoryLedger
    performance: Performance | None
    cost: Cost
    meets_slo: bool | None
    score: float
    reasons: tuple[Reason, ...] = ()
    features: Features | None = None
    """What was asked beyond answering, every open name filled in for this engine."""


class Rejection(Spec):
    """A candidate, or a class of them, that was refused, and why."""

    candidate: str
    reason: str
    rule: str


class Remedy(Spec):
    """A way out of an infeasible request, with what it gives and the command that takes it."""

    action: str
    detail: str
    command: str
    figures: dict[str, str] = {}


class ScorePart(Spec):
    """One part of a score, and what it is computed from."""

    name: str
    value: float
    of: str


class Scored(Spec):
    """A configuration's score, in log2 units of utility: the sum of its parts."""

    candidate: str
    score: float
    meets_slo: bool | None
    """Whether the full simulation meets the targets."""
    parts: tuple[ScorePart, ...]


class TraceStep(Spec):
    """One rule of the decision guide (or of the search) at work."""

    rule: str
    strength: Literal["require", "prefer", "avoid", "physics", "objective", "policy"]
    statement: str
    engine: str | None = None
    inputs: dict[str, str] = {}
    outcome: str
    source: str | None = None
    scores: tuple[Scored, ...] = ()
    """The chosen configuration and the runner-up, where a score chose."""


class Resolved(Spec):
    """The facts that the plan rests on, and a hash of each."""

    model: ModelSpec
    machine: Machine
    engine: EngineRelease
    model_sha256: str
    machine_sha256: str
    engine_sha256: str
    calibration_sha256: str | None = None
    local_calibration_sha256: str | None = None
    """Of the user's own measurements (`machine.corrections`); None without any."""


class Plan(Spec):
    """A complete answer."""

    schema_version: int = SCHEMA_VERSION
    planner_version: str
    request: Request
    best: Configuration
    alternatives: tuple[Configuration, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    trace: tuple[TraceStep, ...] = ()
    assumptions: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    resolved: Resolved
