"""What the estimator says of a measured speed row, in the row's own unit.

A row becomes the deployment that it measured; nothing of the row's value goes in. The fits of
`benchmarks/fit.py` use the same functions with coefficients of their own and numpy columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from planner.advise.candidates import nearest_release
from planner.estimate.deployment import Deployment, Workload
from planner.estimate.memory import fits
from planner.estimate.schedulers import policy
from planner.estimate.serving import flow_of, serve
from planner.estimate.step import StepModel
from planner.spec.calibration import Calibration
from planner.spec.hardware import Machine
from planner.spec.plan import Limits, Parallelism

if TYPE_CHECKING:
    from planner.estimate.efficiency import Fit
    from planner.estimate.schedulers.flow import Flow
    from planner.sources.catalog import Catalog
    from planner.spec.engine import EngineRelease
    from planner.spec.measurement import Measured, SpeedRow
    from planner.spec.model import ModelSpec

MOST_SEQUENCES = 4096
LISTED_SEQUENCES = 1024
"""vLLM's default on data-centre devices; logits of so many rows are profiled."""
CONTEXT_MARGIN = 256
"""Tokens that load generators leave between their requests and the engine's context."""
FAMILIES = {"mlc": "llamacpp"}
"""Engines that we do not plan, and the one whose laws stand for them."""


@dataclass(slots=True)
class Book:
    """Builds deployments for rows from the catalog, once each."""

    catalog: Catalog
    _held: dict[tuple[object, ...], Deployment] = field(default_factory=dict)
    _pools: dict[tuple[int, str], int] = field(default_factory=dict)

    def deployment(self, row: SpeedRow) -> Deployment:
        """The deployment that `row` measured; limits wide enough never to bind but for the token budget."""
        engine = FAMILIES.get(row.engine, row.engine)
        key = (
            engine, row.engine_version, row.model, row.accelerator, row.quantization, row.kv_cache_dtype, row.tensor,
            row.pipeline, row.data, row.step_tokens, row.layers, row.settings,
        )  # fmt: skip
        held = self._held.get(key)
        if held is None:
            c = self.catalog
            held = self._held[key] = Deployment(
                model=cut(c.model(row.model), row.layers), quantization=c.format(row.quantization),
                kv_format=c.kv_format(row.kv_cache_dtype), machine=self.machine(row),
                engine=started(self.release(row), row.overrides),
                parallelism=Parallelism(tensor=row.tensor, pipeline=row.pipeline, data=row.data),
                limits=Limits(
                    max_model_len=1 << 17, max_num_seqs=MOST_SEQUENCES, max_num_batched_tokens=row.step_tokens,
                    host_memory_bytes=0, disk_bytes=0, load_seconds=0.0, startup_budget_seconds=0,
                    termination_grace_seconds=0,
                ),
            )  # fmt: skip
        return held

    def release(self, row: Measured) -> EngineRelease:
        """vLLM's nearest catalogued release, the newest for a build without a number.

        Builds of the other engines are no versions that can be compared.
        """
        releases = self.catalog.releases(FAMILIES.get(row.engine, row.engine))
        if row.engine == "vllm" and row.engine_version[:1].isdigit():
            return nearest_release(releases, row.engine_version)
        return releases[0]

    def machine(self, row: Measured) -> Machine:
        """The row's devices in one node. Raises UnknownNameError for a device that nobody catalogued."""
        c, name = self.catalog, row.accelerator
        if name in {cpu.id for cpu in c.cpus()}:
            return Machine(label=name, accelerator=None, count=1, devices_per_node=1, cpu=c.cpu(name))
        a = c.accelerator(name)
        link, pcie, network = (c.interconnect(k) if k else None for k in (a.link, a.pcie, a.network))
        return Machine(
            label=f"{row.devices}x{name}", accelerator=a, count=row.devices, devices_per_node=a.devices_per_node,
            link=link, pcie=pcie, network=network,
        )  # fmt: skip

    def pool_tokens(self, row: SpeedRow) -> int:
        """What the KV pool of a row's engine held, by the ledger, with a context that just holds the row's requests."""
        d = self.deployment(row)
        key = (id(d), row.lengths)
        held = self._pools.get(key)
        if held is None:
            context = row.input_tokens + row.output_tokens + CONTEXT_MARGIN
            limits = d.limits.model_copy(update={"max_model_len": context, "max_num_seqs": LISTED_SEQUENCES})
            found = fits(replace(d, limits=limits))
            held = self._pools[key] = max(found.kv_cache_tokens, context)
        return held


def cut(model: ModelSpec, layers: int) -> ModelSpec:
    """`model` with its first `layers` decoder layers only; whole where that is 0."""
    if not layers:
        return model
    kept = (g.model_copy(update={"layers": tuple(i for i in g.layers if i < layers)}) for g in model.layers)
    return model.model_copy(update={"layers": tuple(g for g in kept if g.layers)})


def started(release: EngineRelease, overrides: dict[str, str]) -> EngineRelease:
    """`release` with a row's `overrides` of its defaults."""
    if not overrides:
        return release
    defaults = type(release.defaults).model_validate({**release.defaults.model_dump(), **overrides})
    return release.model_copy(update={"defaults": defaults})


@dataclass(slots=True)
class Replay:
    """Predictions of rows by one calibration, or by one `fit` for all."""

    book: Book
    calibration: Calibration
    fit: Fit | None = None
    _steps: dict[int, StepModel] = field(default_factory=dict)
    _flows: dict[tuple[int, int, int, int, bool, bool], Flow] = field(default_factory=dict)

    def step(self, row: SpeedRow) -> StepModel:
        """Step times of the row's deployment."""
        d = self.book.deployment(row)
        held = self._steps.get(id(d))
        if held is None:
            held = self._steps[id(d)] = StepModel(d, self.calibration, fit=self.fit)
        return held

    def predict(self, row: SpeedRow) -> float:
        """The figure of `row` in its own unit."""
        if row.load != "closed_loop":
            columns = (row.concurrency, row.input_tokens, row.output_tokens, row.context_tokens, row.step_tokens)
            return float(batch_figure(self.step(row), row.load, row.metric, *(float(x) for x in columns)))
        if row.metric.endswith("_mean"):
            flow = self.flow(row)
            return 1e3 * (flow.ttft_s if row.metric.startswith("ttft") else flow.itl_s)
        if row.metric == "output_tokens_per_s":
            return row.data * self.flow(row).requests_per_s * row.output_tokens
        d, pool = self.book.deployment(row), self.book.pool_tokens(row)
        found = serve(d, workload(row), self.calibration, pool, fit=self.fit)
        name, statistic = row.metric.split("_ms_")
        return float(getattr(found.ttft_ms if name == "ttft" else found.itl_ms, statistic))

    def flow(self, row: SpeedRow) -> Flow:
        """Steady means of a closed-loop row, worked out once for all its metrics."""
        d = self.book.deployment(row)
        key = (id(d), row.concurrency, row.input_tokens, row.output_tokens, row.same_lengths, row.warm)
        held = self._flows.get(key)
        if held is None:
            load = workload(row)
            rules = policy(d, load, self.book.pool_tokens(row))
            held = self._flows[key] = flow_of(self.step(row), rules, load, row.data)
        return held


def workload(row: SpeedRow) -> Workload:
    """The load that a closed-loop row ran under."""
    return Workload(
        row.input_tokens, row.output_tokens, row.concurrency, same_lengths=row.same_lengths, warm=row.warm
    )  # fmt: skip


def batch_figure(
    step: StepModel, load: str, metric: str, batch: Any, isl: Any, osl: Any, context: Any, budget: Any
) -> Any:
    """The figure `metric` of a bench or a static batch; floats, or numpy columns of one length.

    A static batch prefills all prompts in sweeps of `budget` tokens, then decodes all answers.
    """
    if metric == "decode_tokens_per_s":
        return batch / step.decode_s(batch, context + osl / 2)
    if metric == "prefill_tokens_per_s":
        chunk = lesser(budget, batch * isl)
        prompt = lesser(chunk, isl)
        return chunk / step.chunk_s(chunk, prompt, context + (isl - prompt) / 2)
    if metric == "decode_step_ms":
        return 1e3 * step.decode_s(batch, context)
    decode = step.decode_s(batch, isl + osl / 2)
    if metric == "itl_ms_mean":
        return 1e3 * decode
    tokens = lesser(budget, batch * isl)
    sweep = step.mixed_s(0.0 * batch, isl, tokens, isl) * batch * isl / tokens
    return {"prefill_s": sweep, "ttft_ms_mean": 1e3 * sweep, "e2e_s": sweep + (osl - 1) * decode}[metric]


def lesser(a: Any, b: Any) -> Any:
    """The smaller of two numbers, or of two columns element by element."""
    return (a + b - abs(a - b)) / 2.0
