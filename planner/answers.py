"""What the public functions answer: a recommendation, an estimate, a comparison.

Frozen, printable as plain data and in a notebook. They render and report when asked to, and compute nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.records import dataclass

if TYPE_CHECKING:
    from planner.advise.fit import FitRow
    from planner.spec.plan import Configuration, Cost, Figure, MemoryLedger, Percentiles, Plan, Rejection


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A plan, and what can be made of it."""

    plan: Plan

    @property
    def best(self) -> Configuration:
        """The configuration to deploy."""
        return self.plan.best

    @property
    def alternatives(self) -> tuple[Configuration, ...]:
        """What else would work, best first; the runner-up engine leads."""
        return self.plan.alternatives

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """What was refused, and why."""
        return self.plan.rejected

    def explain(self) -> str:
        """The decision trace as text."""
        from planner.report.text import explanation

        return explanation(self.plan)

    def artifacts(self, targets: Sequence[str] | None = None) -> dict[str, str]:
        """Relative path → text of every file of the plan (or of `targets` only)."""
        from planner.render import render

        return render(self.plan, targets)

    def save(self, folder: str | Path, targets: Sequence[str] | None = None) -> tuple[Path, ...]:
        """Write the files, all or none. Raises OutputError when `folder` cannot be written."""
        from planner.render.write import save

        return save(self.artifacts(targets), folder)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data: what `-o json` prints."""
        return self.plan.model_dump(mode="json")

    def to_dataframe(self) -> Any:
        """Best and alternatives as a pandas DataFrame. Raises UsageError when pandas is missing."""
        from planner.report.table import dataframe

        return dataframe(self.plan)

    def _repr_html_(self) -> str:
        from planner.report.html import plan_html

        return plan_html(self.plan)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figures of one configuration. The latencies and rates are None when it does not fit."""

    configuration: Configuration
    assumptions: tuple[str, ...]

    @property
    def memory(self) -> MemoryLedger:
        """The ledger of the fullest device."""
        return self.configuration.memory

    @property
    def ttft_ms(self) -> Percentiles | None:
        """Time to first token over requests, ms."""
        return self.configuration.performance.ttft_ms if self.configuration.performance else None

    @property
    def itl_ms(self) -> Percentiles | None:
        """Inter-token latency (TPOT) over requests, ms."""
        return self.configuration.performance.itl_ms if self.configuration.performance else None

    @property
    def output_tokens_per_s(self) -> Figure | None:
        """Output tokens/s of the whole deployment."""
        return self.configuration.performance.output_tokens_per_s if self.configuration.performance else None

    @property
    def total_tokens_per_s(self) -> Figure | None:
        """Input and output tokens/s of the whole deployment."""
        return self.configuration.performance.total_tokens_per_s if self.configuration.performance else None

    @property
    def requests_per_s(self) -> Figure | None:
        """Requests/s of the whole deployment."""
        return self.configuration.performance.requests_per_s if self.configuration.performance else None

    @property
    def cost(self) -> Cost:
        """USD, where a price is known."""
        return self.configuration.cost

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `planner estimate -o json` prints."""
        return {
            "configuration": self.configuration.model_dump(mode="json"),
            "assumptions": list(self.assumptions),
        }

    def _repr_html_(self) -> str:
        from planner.report.html import estimate_html

        return estimate_html(self)


class Fits(tuple["FitRow", ...]):
    """Models that run on a machine, best first: a tuple of rows that a notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from planner.report.html import fit_html

        return fit_html(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Engines side by side on one machine, with published rows where the seed or a source has them."""

    configurations: tuple[Configuration, ...]
    refused: Mapping[str, str]
    published: tuple[Mapping[str, Any], ...]
    contradictions: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `planner compare -o json` prints."""
        return {
            "configurations": [c.model_dump(mode="json") for c in self.configurations],
            "refused": dict(self.refused),
            "published": [dict(row) for row in self.published],
            "contradictions": list(self.contradictions),
            "assumptions": list(self.assumptions),
        }

    def _repr_html_(self) -> str:
        from planner.report.html import comparison_html

        return comparison_html(self)
