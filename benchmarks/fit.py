"""Fit the calibration files from catalog/measurements, and predict every row by fits that had not seen it.

`python benchmarks/fit.py --date …` rewrites catalog/calibration/*.yaml and held_out.csv and prints the
errors, fitted and cross-validated. Coefficients are those of `planner.estimate.ops`; each fit is a
robust least-squares one on logarithms (`fit_solver.py`), pulled towards a prior (the wider scope's fit),
so that a class with few rows moves little. A fold is left out of the priors too. The table of fits is
`fit_plans.py`.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from fit_plans import HARDWARE, PLANS, Plan, Row
from fit_solver import METRICS, Data, solve

from planner.estimate.efficiency import Fit, scopes
from planner.estimate.ops import UNCALIBRATED
from planner.sources import catalog
from planner.sources.measurements import speed_rows
from planner.spec.calibration import Calibration
from planner.validate.replay import Book, Replay

CALIBRATION = Path(__file__).resolve().parent.parent / "catalog" / "calibration"
Array = Any
LEAST_REMAINING = 3
"""A model or a device is left out where at least so many others remain."""
FOLD_ROUNDS = 5
FEWEST_OF_ALL, FEWEST_OF_A_KIND = 4, 20
"""Rows that a band wants: of all kinds together, and of a kind of format and model of its own."""
NARROWEST_BAND = 0.02
"""No band is narrower than this to either side: published figures are rounded."""


def fold_kinds(rows: list[Row]) -> tuple[str, ...]:
    """What is left out: models and devices where enough remain, else a TP size, else a length pair.

    Where all rows have the same two or three lengths, a model, though fewer remain.
    """
    kinds = tuple(k for k in ("model", "device") if len({fold_of(r, k) for r in rows}) > LEAST_REMAINING)
    if kinds:
        return kinds
    if len({r.tensor for r in rows}) > 2:
        return ("tensor",)
    few_lengths = len({r.lengths for r in rows}) <= LEAST_REMAINING
    return ("model",) if few_lengths and len({r.model for r in rows}) > 1 else ("lengths",)


def fold_of(row: Row, kind: str) -> str:
    """The fold of kind `kind` that `row` belongs to."""
    return {"model": row.model, "device": row.accelerator, "tensor": f"TP {row.tensor}", "lengths": row.lengths}[kind]


@dataclass
class Fits:
    """Coefficients of plans, of all rows or without one fold; each solved once."""

    book: Book
    rows: list[Row]
    _data: dict[str, Data] = field(default_factory=dict)
    _others: dict[str, list[Row]] = field(default_factory=dict)
    _solved: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)

    def data(self, plan: Plan) -> Data:
        """The rows of `plan`."""
        if plan.name not in self._data:
            engines = plan.row_engines or (plan.engine,)
            mine = [r for r in self.rows if r.engine in engines and r.accelerator in plan.devices and plan.where(r)]
            self._data[plan.name] = Data([r for r in mine if r.metric in METRICS], self.book)
            self._others[plan.name] = [r for r in mine if r.metric not in METRICS]
        return self._data[plan.name]

    def watched(self, plan: Plan, kind: str) -> list[tuple[Row, float]]:
        """Rows of the plan that are not fitted (percentiles, throughput), each without its fold."""
        self.data(plan)
        replays = {
            fold: Replay(self.book, Calibration(), Fit(self.solved(plan, kind, fold), "fitted", "", ""))
            for fold in {fold_of(r, kind) for r in self._others[plan.name]}
        }
        return [(r, replays[fold_of(r, kind)].predict(r)) for r in self._others[plan.name]]

    def solved(self, plan: Plan, kind: str = "", fold: str = "") -> dict[str, float]:
        """The plan's coefficients; with a fold, as if its rows had never been measured."""
        if kind and not self._touches(plan, kind, fold):
            kind = fold = ""
        key = (plan.name, kind, fold)
        if key not in self._solved:
            data = self.data(plan)
            if kind:
                data = data.part(lambda row: fold_of(row, kind) != fold)
            rounds = FOLD_ROUNDS if kind else 10
            self._solved[key] = solve(data, plan.free, self.prior(plan, kind, fold), plan.sigma, rounds)
        return self._solved[key]

    def prior(self, plan: Plan, kind: str, fold: str) -> dict[str, float]:
        """Where the plan's fit starts from and is pulled to."""
        prior = dict(self.solved(_named(*plan.start), kind, fold)) if plan.start else dict(UNCALIBRATED)
        if plan.hardware_from:
            hardware = self.solved(_named(*plan.hardware_from), kind, fold)
            prior.update({k: hardware[k] for k in HARDWARE})
        return {**prior, **dict(plan.fixed)}

    def _touches(self, plan: Plan, kind: str, fold: str) -> bool:
        if any(fold_of(r, kind) == fold for r in self.data(plan).rows):
            return True
        return any(self._touches(_named(*n), kind, fold) for n in (plan.start, plan.hardware_from) if n)

    def predictions(self, plan: Plan, kind: str) -> Array:
        """Each row by a fit that had not seen its fold, in the row's unit."""
        data = self.data(plan)
        out = np.zeros(len(data.rows))
        for fold in sorted({fold_of(r, kind) for r in data.rows}):
            inside = [i for i, r in enumerate(data.rows) if fold_of(r, kind) == fold]
            held = data.part(lambda row, fold=fold: fold_of(row, kind) == fold)  # type: ignore[misc]
            out[inside] = held.predict(self.solved(plan, kind, fold))
        return out


def _named(engine: str, scope: str) -> Plan:
    return next(p for p in PLANS if (p.engine, p.scope) == (engine, scope))


# -- writing --------------------------------------------------------------------------------------


def band_rows(plan: Plan, data: Data, errors: dict[str, Array], date: str) -> list[dict[str, object]]:
    """80 % bands per metric for the plan's scope, from the residuals of all its folds.

    One for all rows, and one for each kind of format and model with enough of them. First tokens under load scatter
    more than a prefill alone: each has its own band, and stands in where the other was not measured.
    """
    bands: list[dict[str, object]] = []
    kinds = [(d.quantization.kind, d.model.is_moe) for d in map(data.book.deployment, data.rows)]
    told = [(_band_of(r), kind) for r, kind in zip(data.rows, kinds, strict=True)]
    seen = {m for m, _ in told}
    sources = {"ttft": "ttft" if "ttft" in seen else "prefill", "itl": "itl"}
    if {"ttft", "prefill"} <= seen:
        sources["prefill"] = "prefill"
    for metric, source in sources.items():
        for kind in (None, *dict.fromkeys(kinds)):
            of = [
                -e for found in errors.values() for (m, k), e in zip(told, found, strict=True)
                if m == source and kind in (None, k)
            ]  # fmt: skip
            n = len(of) // max(1, len(errors))
            if n < (FEWEST_OF_ALL if kind is None else FEWEST_OF_A_KIND):
                continue
            low, high = middle_eighty(of)
            bands.append({
                "metric": metric, "engine": plan.engine, "scope": plan.scope,
                **({} if kind is None else {"format_kind": kind[0], "moe": kind[1]}),
                "low": low, "high": high, "n": n, "basis": "fitted",
                "provenance": {
                    "source": "catalog/measurements", "date": date, "basis": "derived",
                    "note": f"80 % of residuals, {_told(tuple(errors))}",
                },
            })  # fmt: skip
    return bands


def _band_of(row: Row) -> str:
    metric = METRICS[row.metric]
    return "prefill" if metric == "ttft" and row.load != "closed_loop" else metric


def middle_eighty(logarithms: list[float]) -> tuple[float, float]:
    """Limits that hold at least four fifths of `logarithms` of true / predicted, ends rounded outwards."""
    ordered = sorted(logarithms)
    cut = math.ceil(len(ordered) / 10)
    low = math.floor(1e3 * math.exp(ordered[cut - 1])) / 1e3
    high = math.ceil(1e3 * math.exp(ordered[-cut])) / 1e3
    return min(low, 1 - NARROWEST_BAND), max(high, 1 + NARROWEST_BAND)


def _told(kinds: tuple[str, ...]) -> str:
    names = {"model": "one model", "device": "one device", "tensor": "one TP size", "lengths": "one pair of lengths"}
    return " and ".join(f"leave {names[k]} out" for k in kinds)


def entry(
    plan: Plan, scope: str, rows: list[Row], values: dict[str, float], basis: str, date: str, how: str
) -> dict[str, object]:
    """One `Efficiency` as YAML."""
    n, devices = len(rows), sorted({r.accelerator for r in rows})
    reach = {
        "most_sequences": max((r.concurrency / r.data for r in rows), default=0.0),
        "longest_tokens": max((float(r.context_tokens + r.input_tokens + r.output_tokens) for r in rows), default=0.0),
    }  # fmt: skip
    return {
        "engine": plan.engine, "scope": scope, "devices": devices if basis == "fitted" else [], "basis": basis,
        "coefficients": {k: float(f"{v:.4g}") for k, v in values.items()}, **(reach if basis == "fitted" else {}),
        "provenance": {
            "source": "benchmarks/fit.py over catalog/measurements", "date": date, "basis": "derived",
            "note": f"{n} rows of {', '.join(devices)}; {how}" if n else how,
        },
    }  # fmt: skip


def summary(label: str, data: Data, errors: Array) -> None:
    """Print mean and median absolute error per metric."""
    for metric in sorted({r.metric for r in data.rows}):
        e = np.array([abs(np.expm1(x)) for r, x in zip(data.rows, errors, strict=True) if r.metric == metric])
        print(f"  {label:<10} {metric:<22} n {len(e):4d}  mean {e.mean():6.1%}  median {np.median(e):6.1%}", flush=True)


def decides(plan: Plan, row: Row, book: Book) -> bool:
    """True when `plan` is the most specific of those that hold the row: the one that `efficiency` finds."""
    names = scopes(book.machine(row))
    mine = [
        p for p in PLANS
        if row.engine in (p.row_engines or (p.engine,)) and row.accelerator in p.devices and p.where(row)
    ]  # fmt: skip
    return min(mine, key=lambda p: names.index(p.scope)) is plan


def run(source: Any, date: str, write: bool, only: str = "") -> None:
    """All fits in order; files by engine."""
    rows, book = list(speed_rows()), Book(source)
    fits = Fits(book, rows)
    files: dict[str, dict[str, list[dict[str, object]]]] = defaultdict(lambda: {"efficiencies": [], "bands": []})
    held: list[tuple[str, str, str, str]] = []
    for plan in (p for p in PLANS if p.name.startswith(only)):
        data, values = fits.data(plan), fits.solved(plan)
        out, how, basis = files[plan.engine], "composed of other fits", "inherited"
        if data.rows:
            print(f"{plan.name}: {len(data.rows)} rows", flush=True)
            summary("fitted", data, data.residuals(values))
            kinds = fold_kinds(data.rows)
            found = {kind: fits.predictions(plan, kind) for kind in kinds}
            errors = {kind: data.errors_of(predicted) for kind, predicted in found.items()}
            for kind in kinds:
                summary(f"-{kind}", data, errors[kind])
                told = [*zip(data.rows, found[kind], strict=True), *fits.watched(plan, kind)]
                held += [(r.key, kind, fold_of(r, kind), f"{p:.5g}") for r, p in told if decides(plan, r, book)]
            basis, how = "fitted", _told(kinds)
            out["bands"] += band_rows(plan, data, errors, date)
        named = {plan.scope: basis, **dict.fromkeys(plan.also, "inherited")}
        out["efficiencies"] += [entry(plan, s, data.rows, values, b, date, how) for s, b in named.items()]
    if write:
        write_files(files, held)


def write_files(files: dict[str, dict[str, list[dict[str, object]]]], held: list[tuple[str, str, str, str]]) -> None:
    """catalog/calibration/<engine>.yaml and held_out.csv."""
    CALIBRATION.mkdir(exist_ok=True)
    for engine, document in files.items():
        head = "# Fitted by benchmarks/fit.py; the coefficients are explained in planner/estimate/ops.py.\nschema: 1\n"
        text = yaml.safe_dump(
            cast(dict[str, object], dict(document)), sort_keys=False, width=160, default_flow_style=None
        )
        (CALIBRATION / f"{engine}.yaml").write_text(head + text, encoding="utf-8")
    with (CALIBRATION / "held_out.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("key", "fold", "left_out", "predicted"))
        table.writerows(sorted(set(held)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", required=True, help="ISO date that the calibration files carry")
    parser.add_argument("--dry-run", action="store_true", help="print the errors, write nothing")
    parser.add_argument("--only", default="", help="plans whose name starts so (engine / scope); implies --dry-run")
    arguments = parser.parse_args()
    run(catalog.load(), arguments.date, write=not (arguments.dry_run or arguments.only), only=arguments.only)
