"""How fast the serving simulator and the step laws are, warm and in one process.

`python benchmarks/simulator.py` prints one table; `benchmarks/speed.py` prints the same rows below its own. Each figure
is the median CPU time of several runs on one thread, and no step time is remembered from one to the next.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import planner
from planner.estimate.batched import step_times
from planner.estimate.capacity import Targets, most_users
from planner.estimate.deployment import Deployment, Workload
from planner.estimate.schedulers import policy
from planner.estimate.schedulers.simulation import simulate
from planner.estimate.serving import serve
from planner.estimate.step import StepModel
from planner.sources.catalog import load
from planner.validate.simulate import situation_of

RUNS = 7
TEN_MINUTES = Workload(1024, 256, 64)
UNEQUAL = replace(TEN_MINUTES, distribution="lognormal", variation=0.8)
CANDIDATES, LOADS_EACH = 100_000, 400


def figures() -> Iterator[tuple[str, float, float]]:
    """(what, median CPU seconds, budget in seconds or 0)."""
    catalog = load()
    plan = planner.recommend("llama3-8b", "1xH100").plan  # small and fast: the most requests in ten minutes
    s = situation_of(plan, catalog)
    calibration, pool = catalog.calibration, s.memory.kv_cache_tokens

    def ten_minutes(workload: Workload, tokens: int) -> Callable[[], object]:
        def run() -> object:
            d = replace(s.deployment, limits=s.deployment.limits.model_copy(update={"max_num_seqs": 256}))
            step = StepModel(d, calibration)
            return simulate(step, policy(d, workload, tokens), workload, workload.concurrency, duration_s=600)

        return run

    def served(workload: Workload) -> Any:
        return serve(s.deployment, workload, calibration, pool)

    yield "ten minutes, 64 clients, closed loop", _median(ten_minutes(TEN_MINUTES, pool)), 0.3
    yield "the same, log-normal lengths", _median(ten_minutes(UNEQUAL, pool)), 0.0
    yield "the same, half the KV cache that it wants", _median(ten_minutes(TEN_MINUTES, 36_000)), 0.0
    deployments = list(_deployments(s.deployment))
    began = time.process_time()
    _all_steps(deployments, calibration)
    yield f"step times of {CANDIDATES:,} candidates, nothing remembered", time.process_time() - began, 1.0
    yield "the same again, shapes remembered", _median(lambda: _all_steps(deployments, calibration)), 1.0
    yield "figures of one finalist", _median(lambda: served(s.workload), 31), 0.0
    targets = Targets(2000.0, 100.0)
    yield "most users within the targets", _median(lambda: most_users(served, s.workload, targets)), 0.0


def _deployments(base: Deployment) -> Iterator[Deployment]:
    """CANDIDATES / LOADS_EACH deployments: models, formats and layouts crossed."""
    catalog = load()
    import numpy as np  # its import is no part of a figure

    assert np.__version__
    models = [m for m in catalog.models() if m.modality != "embedding"]
    formats = [catalog.format(q) for q in ("bf16", "fp8", "awq", "gptq-int4", "int8-w8a8")]
    wanted = CANDIDATES // LOADS_EACH
    for i in range(wanted):
        layout = base.parallelism.model_copy(update={"tensor": (1, 2, 4, 8)[i % 4]})
        model, quantization = models[i % len(models)], formats[i % len(formats)]
        yield replace(base, model=model, quantization=quantization, parallelism=layout, checkpoint=None)


def _all_steps(deployments: list[Deployment], calibration: Any) -> object:
    """Builds every deployment's laws and evaluates LOADS_EACH loads on each."""
    import numpy as np

    steps = [StepModel(d, calibration) for d in deployments]
    which = np.repeat(np.arange(len(steps)), LOADS_EACH)
    load_of = np.arange(len(which)) % LOADS_EACH
    batch, context, chunk = 1.0 + load_of % 200, 256.0 + 64 * load_of, 512.0 * (load_of % 3)
    return step_times(steps, which, batch, context, chunk, 1024.0)


def _median(run: Callable[[], object], runs: int = RUNS) -> float:
    run()
    walls = []
    for _ in range(runs):
        began = time.process_time()
        run()
        walls.append(time.process_time() - began)
    return statistics.median(walls)


def main() -> None:
    """One table."""
    sys.stdout.write("| what | median CPU s | budget s |\n|---|---|---|\n")
    for name, wall, budget in figures():
        sys.stdout.write(f"| {name} | {wall:.4f} | {budget or '–'} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
