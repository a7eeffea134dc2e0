"""A request with every default filled in and every impossible value refused.

Each default that mattered is an assumption that the plan prints. Knows the request, the model and
the machine; not yet which engines could run.
"""

from __future__ import annotations

from planner.advise.split import divides, undivided, valid_tensors
from planner.errors import UsageError
from planner.estimate.deployment import Workload, workload_of
from planner.records import dataclass
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.spec.hardware import Machine
from planner.spec.model import ModelSpec
from planner.spec.request import Objective, Request
from planner.units import round_up

PERSONAL_CLASSES = frozenset({"apple", "cpu", "embedded", "consumer", "integrated"})
DEFAULT_TTFT_MS = 2000.0
DEFAULT_ITL_MS = 100.0
DEFAULT_TARGET_SLACK = 1.25
DEFAULT_CONTEXT_TOKENS = 8192
CONTEXT_STEP_TOKENS = 256
KEPT_UP = 0.99
"""Share of the asked arrival rate from which on a configuration counts as serving it."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What the search works from. `context_tokens` is preferred, `min_context_tokens` the least
    that the workload needs; they are equal when the user fixed the context."""

    request: Request
    model: ModelSpec
    machine: Machine
    workload: Workload
    objective: Objective
    ttft_ms: float
    itl_ms: float
    context_tokens: int
    min_context_tokens: int
    assumptions: tuple[str, ...]

    @property
    def slo_is_explicit(self) -> bool:
        """True when the user named a latency target: missing it then is a failure, not a caution."""
        return self.request.ttft_ms is not None or self.request.itl_ms is not None

    @property
    def fetches_weights(self) -> bool:
        """True when a first start gets the weights from a hub: they are no path, and no site has them at hand."""
        site, own = (
            self.request.site,
            self.model.id.startswith(("/", "./", "../", "~")) or self.model.id.endswith(".gguf"),
        )
        return not own and (site is None or site.reaches_hub)

    @property
    def slack(self) -> float:
        """How far above a target still counts when candidates are ordered: our own defaults are no cliff."""
        return 1.0 if self.slo_is_explicit else DEFAULT_TARGET_SLACK

    def keeps_up(self, requests_per_s: float) -> bool:
        """False when requests arrive at an asked rate above what is served: their queue then grows without end."""
        asked = self.workload.request_rate if self.workload.arrival == "poisson" else None
        return asked is None or requests_per_s >= KEPT_UP * asked


def make_brief(request: Request, model: ModelSpec, machine: Machine, assumptions: tuple[str, ...] = ()) -> Brief:
    """Fill `request` in for `model` on `machine`. Raises UsageError with the limit and valid values."""
    if model.modality == "embedding":
        raise UsageError(f"{model.id} computes embeddings and generates no text; only generation can be planned")
    if not any(group.mixers for group in model.layers):
        raise UsageError(
            f"no layer of {model.id} was recognised as attention or recurrence ({model.model_type}): its weights are "
            "known, what a token keeps in memory is not, so it cannot be planned"
        )
    notes = [*assumptions, *model.assumptions, *machine.assumptions]
    needed = _longest(request)
    if needed > model.context_length:
        raise UsageError(
            f"{request.input_tokens:,} input + {request.output_tokens:,} output tokens"
            f"{'' if request.length_distribution == 'fixed' else f' (at most {needed:,} together)'} exceed the context "
            f"of {model.id}, {model.context_length:,} tokens; lower --isl or --osl"
        )
    concurrency, objective = _load(request, machine, notes)
    context, least = _context(request, model, needed, notes)
    _check_parallelism(request, model, machine)
    ttft = DEFAULT_TTFT_MS if request.ttft_ms is None else request.ttft_ms
    itl = DEFAULT_ITL_MS if request.itl_ms is None else request.itl_ms
    if request.ttft_ms is None or request.itl_ms is None:
        notes.append(f"targets: TTFT {ttft:g} ms and ITL {itl:g} ms at p{request.slo_percentile:g}")
    if request.speculative_tokens and not {"acceptance_rate", "draft_cost"} <= request.model_fields_set:
        notes.append(
            f"of {request.speculative_tokens} drafted tokens each is accepted with probability "
            f"{request.acceptance_rate:g} (--acceptance-rate), and drafting one costs {request.draft_cost:g} of a "
            "step (--draft-cost): guesses of ours, measure yours"
        )
    return Brief(
        request=request,
        model=model,
        machine=machine,
        workload=workload_of(request, concurrency),
        objective=objective,
        ttft_ms=ttft,
        itl_ms=itl,
        context_tokens=context,
        min_context_tokens=least,
        assumptions=tuple(notes),
    )


def _longest(request: Request) -> int:
    """Tokens of the longest request, input and output together."""
    if request.length_distribution == "fixed":
        return request.input_tokens + request.output_tokens
    from planner.estimate.schedulers.traffic import longest_request

    return longest_request(workload_of(request, 1))


def _load(request: Request, machine: Machine, notes: list[str]) -> tuple[int, Objective]:
    if request.arrival == "poisson" and request.request_rate is None:
        raise UsageError("arrival poisson needs --request-rate (requests per second)")
    personal = machine.device_class in PERSONAL_CLASSES
    concurrency = request.concurrency
    if concurrency is None:
        concurrency = 1 if personal else 32
        notes.append(f"{concurrency} concurrent {'user' if concurrency == 1 else 'users'} (--concurrency)")
    objective = request.objective
    if objective is None:
        renting = request.gpus is None and (request.cheapest or request.budget_usd_per_hour is not None)
        objective = "cost" if renting else "latency" if concurrency == 1 else "throughput"
        notes.append(f"objective {objective} (--objective)")
    if (request.input_tokens, request.output_tokens) == (1024, 256):
        notes.append("1,024 input and 256 output tokens per request (--isl, --osl)")
    return concurrency, objective


def _context(request: Request, model: ModelSpec, needed: int, notes: list[str]) -> tuple[int, int]:
    limit = model.context_length
    asked = request.max_model_len
    if asked is not None:
        if asked > limit:
            raise UsageError(
                f"--max-model-len {asked:,} exceeds the context of {model.id}; it goes up to {limit:,} tokens"
            )
        if asked < needed:
            raise UsageError(
                f"--max-model-len {asked:,} is below input + output; it must be at least {needed:,} tokens"
            )
        return asked, asked
    least = min(limit, round_up(needed, CONTEXT_STEP_TOKENS))
    preferred = min(limit, max(DEFAULT_CONTEXT_TOKENS, 1 << (2 * needed - 1).bit_length()))
    notes.append(f"context of {preferred:,} tokens per request where memory allows (--max-model-len)")
    return preferred, least


def _check_parallelism(request: Request, model: ModelSpec, machine: Machine) -> None:
    tensor = request.tensor_parallel or 1
    whole = (request.expert_parallel or 1) > 1
    if not divides(model, tensor, experts_whole=whole):
        what = undivided(model, tensor, experts_whole=whole)
        raise UsageError(
            f"tensor parallel {tensor} does not divide {what} of {model.id}; {valid_tensors(model, machine)}"
        )
    asked = tensor * (request.pipeline_parallel or 1) * (request.data_parallel or 1) * (request.replicas or 1)
    if asked > machine.count:
        raise UsageError(
            f"tensor × pipeline × data × replicas = {asked} needs {asked} devices; {machine.label} has {machine.count}"
        )
    per_replica = asked // (request.replicas or 1)
    if per_replica > 1 and machine.accelerator is not None and machine.accelerator.is_slice:
        raise UsageError(
            f"tensor × pipeline × data = {per_replica} devices to a replica, and {machine.accelerator.name} is a slice "
            "that shares no memory with another; use --replicas, or whole devices with --gpus"
        )
    if (request.pipeline_parallel or 1) > model.n_layers:
        raise UsageError(
            f"pipeline parallel {request.pipeline_parallel} exceeds the {model.n_layers} layers of {model.id}"
        )
    if tensor > 1 and request.engine in LAYER_SPLIT_ENGINES:
        raise UsageError(f"{request.engine} spreads layers over devices by itself; it has no tensor parallel {tensor}")
    if request.tensor_parallel and machine.platform in ("metal", "cpu") and tensor > 1:
        raise UsageError(f"tensor parallel {tensor} needs accelerators; {machine.label} has none to split over")
