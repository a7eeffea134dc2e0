"""The one thing that estimators take: a fully resolved deployment, and the load on it."""

from __future__ import annotations

from planner.records import dataclass
from planner.spec.engine import EngineRelease
from planner.spec.features import Features
from planner.spec.hardware import Machine
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.plan import Limits, Parallelism
from planner.spec.quantization import KvFormat, QuantizationFormat
from planner.spec.request import Arrival, Distribution, Request


@dataclass(frozen=True, slots=True)
class Extras:
    """What runs beside the model. `draft` is the drafting model's shape, None where it has none of its own or an
    EAGLE head's is estimated; `draft_format` is what its weights are in."""

    features: Features
    draft: ModelSpec | None = None
    draft_format: QuantizationFormat | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A configuration with nothing left open. `limits` are the engine's, defaults resolved."""

    model: ModelSpec
    quantization: QuantizationFormat
    kv_format: KvFormat
    machine: Machine
    engine: EngineRelease
    parallelism: Parallelism
    limits: Limits
    native_compute: bool = True
    """False when the format is widened to 16 bits before the multiply (weight-only kernels)."""
    checkpoint: Checkpoint | None = None
    extras: Extras | None = None
    """Adapters and drafts; None without any."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Load on the whole deployment. Tokens per request; `request_rate` in requests/s (poisson)."""

    input_tokens: int
    output_tokens: int
    concurrency: int
    arrival: Arrival = "closed_loop"
    request_rate: float | None = None
    same_lengths: bool = False
    """Every answer has `output_tokens` exactly. Clients of a closed loop then stay in step: those whose
    prompts went through one step end together and send again together."""
    warm: bool = False
    """The figures of a closed loop are of its steady state alone, without the start when all send at once."""
    distribution: Distribution = "fixed"
    """How lengths differ; `input_tokens` and `output_tokens` are then their means."""
    variation: float = 0.0
    samples: tuple[tuple[int, int], ...] = ()
    """(input, output) tokens of measured requests, where the distribution is empirical."""
    shared_prefix_tokens: int = 0
    """Leading tokens of the input that all requests have in common."""
    speculative_tokens: int = 0
    acceptance_rate: float = 0.7
    draft_cost: float = 0.1
    """Seconds of one draft token, as a share of a decode step of the target model."""
    static_batches: bool = False
    seed: int = 0

    @property
    def tokens_per_step(self) -> float:
        """Tokens that one step is expected to give each sequence: with k drafts of which each is accepted with
        probability a after the one before it, (1 − a^(k+1)) / (1 − a) (Leviathan et al. 2023, equation 1)."""
        a, k = self.acceptance_rate, self.speculative_tokens
        return (1.0 - a ** (k + 1)) / (1.0 - a) if a < 1.0 else k + 1.0


def workload_of(request: Request, concurrency: int) -> Workload:
    """The load that `request` describes, for `concurrency` users of the whole deployment."""
    return Workload(
        request.input_tokens, request.output_tokens, concurrency, request.arrival, request.request_rate,
        distribution=request.length_distribution, variation=request.length_variation,
        samples=request.length_samples, shared_prefix_tokens=request.shared_prefix_tokens,
        speculative_tokens=request.speculative_tokens, acceptance_rate=request.acceptance_rate,
        draft_cost=request.draft_cost, static_batches=request.static_batches, seed=request.seed,
    )  # fmt: skip
