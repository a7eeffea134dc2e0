"""Fit the calibration files from catalog/measurements, with leave-one-model-out validation.

`python benchmarks/fit.py` rewrites catalog/calibration/*.yaml and prints the errors, fitted and
cross-validated. Coefficients are those of `planner.estimate.ops`; each fit is a robust least-squares
one on logarithms, pulled towards a prior (the wider scope's fit), so that a class with few rows
moves little. The table of fits is `fit_plans.py`.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from fit_plans import HARDWARE, PLANS, Plan, Row

from planner.advise.candidates import nearest_release
from planner.estimate.deployment import Deployment, Workload
from planner.estimate.efficiency import Fit
from planner.estimate.ops import UNCALIBRATED
from planner.estimate.schedulers import policy
from planner.estimate.serving import flow_of
from planner.estimate.shapes import shapes
from planner.estimate.step import StepModel
from planner.sources import catalog
from planner.spec.calibration import Calibration
from planner.spec.engine import EngineRelease
from planner.spec.hardware import Machine
from planner.spec.plan import Limits, Parallelism

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS, CALIBRATION = ROOT / "catalog" / "measurements", ROOT / "catalog" / "calibration"
Array = Any

CEILING = {
    "mem_fraction": 0.93, "kv_fraction": 0.93, "flop_fraction": 1.9, "attention_flop_fraction": 0.9,
    "link_fraction": 1.0, "fp8_mem": 1.05, "int8_mem": 1.05, "int4_mem": 1.05, "fp4_mem": 1.15, "gguf_mem": 1.05,
    "moe_mem": 1.05, "narrow_kv": 1.1, "fp8_flop": 1.15, "fp4_flop": 1.15,
}  # fmt: skip
"""What hardware cannot exceed, with room for errors of a catalogued peak. GeForce peaks are catalogued
with FP32 accumulation; llama.cpp accumulates in FP16, at twice that rate."""
DELTA, NOISE = 0.15, 0.15
FULL_WEIGHT_ROWS = 150
"""More rows than these sharpen a fit no further: they share models, and so their errors."""
LONE_FOLDS = 5


# -- rows and what the model says of them ---------------------------------------------------------

NUMBERS = (
    "tensor",
    "pipeline",
    "data",
    "concurrency",
    "input_tokens",
    "output_tokens",
    "context_tokens",
    "step_tokens",
)


def read_rows(folder: Path = MEASUREMENTS) -> list[Row]:
    """Every measured row; counts as integers, `value` in the unit that `metric` names."""
    rows: list[Row] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found = csv.DictReader(file)
            if "load" in (found.fieldnames or ()):
                rows += [{**r, **{k: int(r[k] or 0) for k in NUMBERS}, "value": float(r["value"])} for r in found]
    return [r for r in rows if r["metric"] in METRICS]


METRICS = {
    "ttft_ms_mean": "ttft", "prefill_s": "ttft", "prefill_tokens_per_s": "ttft",
    "itl_ms_mean": "itl", "e2e_s": "itl", "decode_tokens_per_s": "itl",
}  # fmt: skip


class Book:
    """Builds deployments for rows from the catalog, once each."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._held: dict[tuple[object, ...], Deployment] = {}

    def deployment(self, row: Row) -> Deployment:
        """The deployment that `row` measured; limits wide enough never to bind but for the token budget."""
        engine = "llamacpp" if row["engine"] == "mlc" else row["engine"]
        key = (
            engine,
            row["engine_version"],
            *(row[k] for k in ("model", "accelerator", "quantization", "kv_cache_dtype", *NUMBERS[:3], "step_tokens")),
        )
        held = self._held.get(key)
        if held is None:
            c = self._source
            n = row["tensor"] * row["pipeline"] * row["data"]
            held = self._held[key] = Deployment(
                model=c.model(row["model"]), quantization=c.format(row["quantization"]),
                kv_format=c.kv_format(row["kv_cache_dtype"]), machine=self._machine(row["accelerator"], n),
                engine=self._release(engine, row["engine_version"]),
                parallelism=Parallelism(tensor=row["tensor"], pipeline=row["pipeline"], data=row["data"]),
                limits=Limits(
                    max_model_len=1 << 17, max_num_seqs=4096, max_num_batched_tokens=row["step_tokens"],
                    host_memory_bytes=0, disk_bytes=0, load_seconds=0.0, startup_budget_seconds=0,
                    termination_grace_seconds=0,
                ),
            )  # fmt: skip
        return held

    def _release(self, engine: str, version: str) -> EngineRelease:
        """vLLM's nearest catalogued release; builds of the others are no versions that can be compared."""
        releases: tuple[EngineRelease, ...] = self._source.releases(engine)
        return nearest_release(releases, version) if engine == "vllm" else releases[0]

    def _machine(self, name: str, n: int) -> Machine:
        c = self._source
        if name in {cpu.id for cpu in c.cpus()}:
            return Machine(label=name, accelerator=None, count=1, devices_per_node=1, cpu=c.cpu(name))
        a = c.accelerator(name)
        link, pcie, network = (c.interconnect(k) if k else None for k in (a.link, a.pcie, a.network))
        return Machine(
            label=f"{n}x{name}", accelerator=a, count=n, devices_per_node=a.devices_per_node, link=link, pcie=pcie,
            network=network,
        )  # fmt: skip

    def pool_tokens(self, row: Row) -> int:
        """Roughly what the KV pool of a row's engine held: nine tenths of memory, less weights and 5 GB."""
        d = self.deployment(row)
        s = shapes(d.model, d.quantization, row["tensor"], row["tensor"] * row["data"], None, None)
        weights = s.quantized.bytes + s.plain.bytes + 2 * s.head.bytes + sum(e.experts * e.bytes for e in s.experts)
        per_token = sum(a.kv_elements for a in s.attention if not a.window) * d.kv_format.bits / 8
        memory = d.machine.accelerator.usable_memory_bytes if d.machine.accelerator else 0
        free = (0.9 * memory - 5e9) * row["pipeline"] - weights
        return int(max(free / max(per_token, 1.0), row["input_tokens"] + row["output_tokens"]))


class Data:
    """Rows, grouped so that a prediction of all of them is a few array operations."""

    def __init__(self, rows: list[Row], book: Book) -> None:
        self.rows, self._book = rows, book
        self.truth = np.array([r["value"] for r in rows])
        groups: dict[tuple[int, str, str], list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            groups[id(book.deployment(row)), row["load"], row["metric"]].append(i)
        self._groups = list(groups.items())
        self._pools = [book.pool_tokens(r) if r["load"] == "closed_loop" else 0 for r in rows]
        self.weight = np.array([_weight(r) for r in rows])

    def predict(self, coefficients: dict[str, float]) -> Array:
        """What the estimator says of each row, in the row's own unit."""
        out = np.zeros(len(self.rows))
        fit = Fit(coefficients, "fitted", "", "")
        flows: dict[tuple[int, int, int, int], Any] = {}
        for (_, load, metric), at in self._groups:
            rows = [self.rows[i] for i in at]
            d = self._book.deployment(rows[0])
            step = StepModel(d, Calibration(), fit=fit)
            if load != "closed_loop":
                out[at] = _predict(step, load, metric, rows)
                continue
            for i, row in zip(at, rows, strict=True):
                key = (id(d), row["concurrency"], row["input_tokens"], row["output_tokens"])
                if key not in flows:
                    work = Workload(row["input_tokens"], row["output_tokens"], row["concurrency"])
                    flows[key] = flow_of(step, policy(d, work, self._pools[i]), work, row["data"])
                out[i] = 1e3 * (flows[key].ttft_s if metric.startswith("ttft") else flows[key].itl_s)
        return out

    def residuals(self, coefficients: dict[str, float]) -> Array:
        """ln(predicted time / measured time) of each row."""
        sign = np.array([-1.0 if r["metric"].endswith("per_s") else 1.0 for r in self.rows])
        return sign * np.log(self.predict(coefficients) / self.truth)

    def part(self, keep: Callable[[Row], bool]) -> Data:
        """The rows that `keep` holds for."""
        return Data([r for r in self.rows if keep(r)], self._book)


def _weight(row: Row) -> float:
    if row["load"] == "closed_loop" and row["metric"].startswith("ttft"):
        return 0.3  # queueing noise says little about kernels
    if row["load"] == "closed_loop" and row["output_tokens"] <= 128:
        return 0.3  # how clients group decides these
    return 5.0 if row["engine_version"] == "0.26.0" else 1.0


def _predict(step: StepModel, load: str, metric: str, rows: list[Row]) -> Array:
    def column(name: str) -> Any:
        return np.array([float(r[name]) for r in rows])

    batch, isl, osl = column("concurrency"), column("input_tokens"), column("output_tokens")
    if metric == "decode_tokens_per_s":
        return batch / step.decode_s(batch, column("context_tokens") + osl / 2)
    if metric == "prefill_tokens_per_s":
        chunk = np.minimum(column("step_tokens"), batch * isl)
        prompt = np.minimum(chunk, isl)
        seconds = step.chunk_s(chunk, prompt, column("context_tokens") + (isl - prompt) / 2)
        return chunk / seconds
    decode = step.decode_s(batch, isl + osl / 2)
    if metric == "itl_ms_mean":
        return 1e3 * decode
    tokens = np.minimum(column("step_tokens"), batch * isl)
    sweep = step.mixed_s(0.0 * batch, isl, tokens, isl) * batch * isl / tokens
    return {"prefill_s": sweep, "ttft_ms_mean": 1e3 * sweep, "e2e_s": sweep + (osl - 1) * decode}[metric]


# -- the fit --------------------------------------------------------------------------------------


def solve(
    data: Data, free: tuple[str, ...], prior: dict[str, float], sigma: float, rounds: int = 10
) -> dict[str, float]:
    """Levenberg-Marquardt on the logarithms of `free`, pseudo-Huber loss, prior of width `sigma`."""
    if not free or not data.rows:
        return dict(prior)
    start = np.log([prior[k] for k in free])
    noise = NOISE**2 * max(1.0, len(data.rows) / FULL_WEIGHT_ROWS)

    def values(t: Array) -> dict[str, float]:
        return {**prior, **{k: float(np.exp(x)) for k, x in zip(free, t, strict=True)}}

    def cost(r: Array, t: Array) -> float:
        loss = 2 * DELTA**2 * (np.sqrt(1 + (r / DELTA) ** 2) - 1)
        return float((data.weight * loss).sum() / noise + (((t - start) / sigma) ** 2).sum())

    roof = np.log([CEILING.get(k, 1e9) for k in free])
    t, damping = np.minimum(start, roof), 1e-2
    r = data.residuals(values(t))
    best = cost(r, t)
    for _ in range(rounds):
        slopes = np.empty((len(r), len(free)))
        for j in range(len(free)):
            moved = t.copy()
            moved[j] -= 0.02
            slopes[:, j] = (data.residuals(values(moved)) - r) / -0.02
        w = data.weight / np.sqrt(1 + (r / DELTA) ** 2) / noise
        curve = (slopes * w[:, None]).T @ slopes + np.eye(len(free)) / sigma**2
        gradient = slopes.T @ (w * r) + (t - start) / sigma**2
        for _ in range(6):
            move = np.clip(-np.linalg.solve(curve + damping * np.diag(np.diag(curve)), gradient), -0.7, 0.7)
            move = np.minimum(t + move, roof) - t
            tried = data.residuals(values(t + move))
            if cost(tried, t + move) < best:
                break
            damping *= 6
        else:
            break
        t, r = t + move, tried
        gain, best, damping = best - cost(r, t), cost(r, t), max(damping / 6, 1e-4)
        if gain < 1e-3 * best:
            break
    return values(t)


def validate(data: Data, plan: Plan, prior: dict[str, float]) -> tuple[Array, str]:
    """Residuals of each row by a fit that has not seen its model (or, with one model, its fold)."""
    models = sorted({r["model"] for r in data.rows})
    how = "leave one model out"
    fold_of: dict[int, object] = {i: r["model"] for i, r in enumerate(data.rows)}
    if len(models) < 2:
        devices = sorted({r["accelerator"] for r in data.rows})
        how = "leave one device out" if len(devices) > 1 else "five folds"
        for i, r in enumerate(data.rows):
            fold_of[i] = (
                r["accelerator"] if len(devices) > 1 else (r["concurrency"] + r["context_tokens"]) % 97 % LONE_FOLDS
            )
    out = np.zeros(len(data.rows))
    for fold in sorted({str(v) for v in fold_of.values()}):
        inside = [i for i in fold_of if str(fold_of[i]) == fold]
        held = {id(data.rows[i]) for i in inside}
        rest = data.part(lambda row, held=held: id(row) not in held)  # type: ignore[misc]
        coefficients = solve(rest, plan.free, prior, plan.sigma, rounds=5)
        out[inside] = data.part(lambda row, held=held: id(row) in held).residuals(coefficients)  # type: ignore[misc]
    return out, how


# -- writing --------------------------------------------------------------------------------------


def band_rows(plan: Plan, data: Data, errors: Array, how: str, date: str) -> list[dict[str, object]]:
    """80 % bands per metric for the plan's scope."""
    bands: list[dict[str, object]] = []
    for metric in ("ttft", "itl"):
        of = [-e for r, e in zip(data.rows, errors, strict=True) if METRICS[r["metric"]] == metric]
        if len(of) < 4:
            continue
        low, high = (float(np.exp(np.percentile(of, p))) for p in (10, 90))
        bands.append({
            "metric": metric, "engine": plan.engine, "scope": plan.scope, "low": round(min(low, 0.95), 3),
            "high": round(max(high, 1.05), 3), "n": len(of), "basis": "fitted",
            "provenance": {
                "source": "catalog/measurements", "date": date, "basis": "derived",
                "note": f"80 % of residuals, {how}",
            },
        })  # fmt: skip
    return bands


def entry(
    plan: Plan, scope: str, devices: list[str], values: dict[str, float], basis: str, n: int, date: str, how: str
) -> dict[str, object]:
    """One `Efficiency` as YAML."""
    return {
        "engine": plan.engine, "scope": scope, "devices": devices if basis == "fitted" else [], "basis": basis,
        "coefficients": {k: float(f"{v:.4g}") for k, v in values.items()},
        "provenance": {
            "source": "benchmarks/fit.py over catalog/measurements", "date": date, "basis": "derived",
            "note": f"{n} rows of {', '.join(devices)}; {how}" if n else how,
        },
    }  # fmt: skip


def summary(label: str, data: Data, errors: Array) -> None:
    """Print mean and median absolute error per metric."""
    for metric in sorted({r["metric"] for r in data.rows}):
        e = np.array([abs(np.expm1(x)) for r, x in zip(data.rows, errors, strict=True) if r["metric"] == metric])
        print(f"  {label:<10} {metric:<22} n {len(e):4d}  mean {e.mean():6.1%}  median {np.median(e):6.1%}")


def run(source: Any, date: str, write: bool = True) -> None:
    """All fits in order; files by engine."""
    rows, book = read_rows(), Book(source)
    fits: dict[tuple[str, str], dict[str, float]] = {}
    files: dict[str, dict[str, list[dict[str, object]]]] = defaultdict(lambda: {"efficiencies": [], "bands": []})
    for plan in PLANS:
        prior = dict(fits[plan.start]) if plan.start else dict(UNCALIBRATED)
        if plan.hardware_from:
            prior.update({k: fits[plan.hardware_from][k] for k in HARDWARE})
        prior.update(plan.fixed)
        engines = plan.row_engines or (plan.engine,)
        mine = [r for r in rows if r["engine"] in engines and r["accelerator"] in plan.devices and plan.where(r)]
        data = Data(mine, book)
        values = fits[plan.engine, plan.scope] = solve(data, plan.free, prior, plan.sigma)
        out, how, basis = files[plan.engine], "composed of other fits", "inherited"
        if mine:
            print(f"{plan.engine} / {plan.scope}: {len(mine)} rows")
            summary("fitted", data, data.residuals(values))
            errors, how = validate(data, plan, prior)
            summary("validated", data, errors)
            basis = "fitted"
            out["bands"] += band_rows(plan, data, errors, how, date)
        scopes = {plan.scope: basis, **dict.fromkeys(plan.also, "inherited")}
        devices = sorted({r["accelerator"] for r in mine})
        out["efficiencies"] += [entry(plan, s, devices, values, b, len(mine), date, how) for s, b in scopes.items()]
    if write:
        CALIBRATION.mkdir(exist_ok=True)
        for engine, document in files.items():
            head = (
                "# Fitted by benchmarks/fit.py; the coefficients are explained in planner/estimate/ops.py.\nschema: 1\n"
            )
            text = yaml.safe_dump(
                cast(dict[str, object], dict(document)), sort_keys=False, width=160, default_flow_style=None
            )
            (CALIBRATION / f"{engine}.yaml").write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", required=True, help="ISO date that the calibration files carry")
    parser.add_argument("--dry-run", action="store_true", help="print the errors, write nothing")
    arguments = parser.parse_args()
    run(catalog.load(), arguments.date, write=not arguments.dry_run)
