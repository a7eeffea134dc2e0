"""How far our figures are off, against every measured row that ships: `planner accuracy`.

Errors are relative to the measured value, in the row's own unit, counted per (metric, engine, device
class, kind of format, dense or MoE). Fitted figures come from the shipped calibration, held-out ones
from fits that had not seen the row's model, device, TP size or lengths. Targets and floors are
`catalog/accuracy_floor.yaml`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from planner.errors import CatalogError
from planner.spec.base import Spec
from planner.validate.scored import UNFITTED

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.measurement import LeftOut
    from planner.validate.scored import Scored

Statistic = Literal["mean", "median", "p90", "worst"]
LEAST_FOR_A_FLOOR = 5
"""Slices of fewer rows have no floor of their own."""


class Target(Spec):
    """What the project promises of a set of rows: `statistic` of the absolute error at most `limit`.

    `where` selects rows: each key names an attribute of `Scored` or of its row, each value is one of
    the allowed ones or a list of them. A key that starts with `not_` excludes.
    """

    id: str
    what: str
    where: dict[str, Any]
    statistic: Statistic
    limit: float
    why: str = ""
    """Why it is missed, where it is."""


class Floor(Spec):
    """The worst that one slice may be: absolute relative errors, fitted and held out."""

    slice: str
    median: float
    p90: float
    held_out_median: float | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors of `n` predictions; `bias` is the mean of the signed ones."""

    n: int
    mean: float
    median: float
    p90: float
    worst: float
    bias: float


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one metric, engine, device class, kind of format and of model.

    `held_out` maps the kind of fold to its errors; `coverage` is the share of held-out predictions
    whose 80 % band holds the truth.
    """

    metric: str
    engine: str
    device_class: str
    format_kind: str
    model_kind: str
    fitted: Errors
    held_out: Mapping[str, Errors]
    coverage: float | None

    @property
    def name(self) -> str:
        """One line that names it."""
        return " / ".join((self.metric, self.engine, self.device_class, self.format_kind, self.model_kind))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and what we have; errors are None where no row is selected."""

    target: Target
    fitted: Errors | None
    held_out: Errors | None
    folds: tuple[str, ...]

    @property
    def met(self) -> bool:
        """True when the held-out errors keep the limit (the fitted ones, where nothing is fitted)."""
        found = self.held_out or self.fitted
        return found is not None and float(getattr(found, self.target.statistic)) <= self.target.limit


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of held-out predictions of one band class whose 80 % band holds the truth."""

    metric: str
    engine: str
    device_class: str
    n: int
    share: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `planner accuracy` prints."""

    outcomes: tuple[Outcome, ...]
    slices: tuple[Slice, ...]
    coverage: tuple[Coverage, ...]
    answered: int
    unanswered: tuple[tuple[str, str], ...]
    """(row, reason) of each row that nothing could be said of."""
    left_out: tuple[LeftOut, ...]

    @property
    def rows(self) -> int:
        """Rows that ship: the denominator of `answered`."""
        return self.answered + len(self.unanswered)

    def breaches(self, floors: Iterable[Floor]) -> list[str]:
        """Slices that are worse than their floor, and floors without a slice."""
        found = {s.name: s for s in self.slices}
        told = []
        for floor in floors:
            here = found.get(floor.slice)
            if here is None:
                told.append(f"{floor.slice}: no such rows any more")
                continue
            for name in ("median", "p90"):
                error, most = getattr(here.fitted, name), getattr(floor, name)
                if error > most:
                    told.append(f"{floor.slice}: {name} {error:.1%} is above {most:.1%}")
            worst = max((e.median for fold, e in here.held_out.items() if fold != UNFITTED), default=0.0)
            if floor.held_out_median is not None and worst > floor.held_out_median:
                told.append(f"{floor.slice}: held-out median {worst:.1%} is above {floor.held_out_median:.1%}")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `planner accuracy -o json` prints."""
        return {
            "answered": self.answered,
            "rows": self.rows,
            "targets": [
                {
                    "id": o.target.id, "what": o.target.what, "statistic": o.target.statistic, "limit": o.target.limit,
                    "met": o.met, "folds": list(o.folds), "fitted": o.fitted and asdict(o.fitted),
                    "held_out": o.held_out and asdict(o.held_out),
                } for o in self.outcomes
            ],
            "slices": [asdict(s) for s in self.slices],
            "coverage": [asdict(c) for c in self.coverage],
            "unanswered": [{"row": row, "reason": reason} for row, reason in self.unanswered],
            "left_out": [entry.model_dump() for entry in self.left_out],
        }  # fmt: skip


def accuracy(catalog: Catalog) -> Report:
    """Score every measured row that ships. Takes some seconds; nothing is kept on disk."""
    from planner.sources.measurements import held_out, left_out, memory_rows, speed_rows
    from planner.validate.memory_replay import score_memory
    from planner.validate.scored import score_speed

    scored = [*score_speed(catalog, speed_rows(), held_out()), *score_memory(catalog, memory_rows())]
    return report(scored, targets(catalog), left_out())


def targets(catalog: Catalog) -> tuple[Target, ...]:
    """What the project promises, in the file's order."""
    return tuple(Target.model_validate(t) for t in catalog.document("accuracy_floor")["targets"])


def floors(catalog: Catalog) -> tuple[Floor, ...]:
    """The worst that each slice may be."""
    return tuple(Floor.model_validate(f) for f in catalog.document("accuracy_floor")["floors"])


def report(scored: Iterable[Scored], wanted: Iterable[Target], missing: Iterable[LeftOut]) -> Report:
    """Count errors of `scored` rows. Raises CatalogError for a target that selects by an unknown key."""
    everything = list(scored)
    told = [s for s in everything if not s.reason]
    groups: dict[tuple[str, str, str, str, str], list[Scored]] = defaultdict(list)
    classes: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for s in told:
        kind = "MoE" if s.moe else "dense"
        groups[s.metric, s.row.engine, s.device_class, s.format_kind, kind].append(s)
        hits = _hits([s])
        if hits:
            classes[s.metric, s.row.engine, s.device_class] += hits
    return Report(
        outcomes=tuple(_outcome(target, [s for s in told if _selected(s, target)]) for target in wanted),
        slices=tuple(_slice(key, groups[key]) for key in sorted(groups)),
        coverage=tuple(Coverage(*key, len(hits), sum(hits) / len(hits)) for key, hits in sorted(classes.items())),
        answered=len(told),
        unanswered=tuple((_told(s), s.reason) for s in everything if s.reason),
        left_out=tuple(missing),
    )


def errors_of(signed: Iterable[float]) -> Errors:
    """Statistics of signed relative errors; at least one."""
    values = list(signed)
    sizes = sorted(abs(v) for v in values)
    n = len(sizes)
    return Errors(
        n=n, mean=sum(sizes) / n, median=_quantile(sizes, 0.5), p90=_quantile(sizes, 0.9), worst=sizes[-1],
        bias=sum(values) / n,
    )  # fmt: skip


def _quantile(ordered: list[float], share: float) -> float:
    """Linear between neighbours, as numpy's default."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def _slice(key: tuple[str, str, str, str, str], rows: list[Scored]) -> Slice:
    held: dict[str, list[float]] = defaultdict(list)
    for s in rows:
        for fold, error in s.held_errors().items():
            held[fold].append(error)
    hits = _hits(rows)
    return Slice(
        *key,
        fitted=errors_of(s.error for s in rows),
        held_out={fold: errors_of(found) for fold, found in sorted(held.items())},
        coverage=sum(hits) / len(hits) if hits else None,
    )


def _hits(rows: list[Scored]) -> list[bool]:
    return [hit for s in rows for fold in s.held if (hit := s.covered(fold)) is not None]


def _outcome(target: Target, rows: list[Scored]) -> Outcome:
    held = [e for s in rows for e in s.held_errors().values()]
    folds = tuple(sorted({fold for s in rows for fold in s.held}))
    return Outcome(target, errors_of(s.error for s in rows) if rows else None, errors_of(held) if held else None, folds)


def _selected(s: Scored, target: Target) -> bool:
    for key, wanted in target.where.items():
        name = key.removeprefix("not_")
        holder = s if name in s.__slots__ else s.row
        if not hasattr(holder, name):
            raise CatalogError(f"accuracy_floor.yaml: {target.id}: rows have no {name!r}")
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if (getattr(holder, name) in allowed) == key.startswith("not_"):
            return False
    return True


def _told(s: Scored) -> str:
    r = s.row
    return f"{r.engine} {r.engine_version} {r.model} {r.quantization} on {r.devices}x{r.accelerator}: {r.metric}"
