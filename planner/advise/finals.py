"""The front runners of one engine, simulated in full; the best of them by targets, then by cost or score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.configure import configure, meets_targets
from planner.advise.rank import UNPUBLISHED_PRICE, ordered, score
from planner.sources.recipes import is_made
from planner.spec.plan import Reason

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.advise.evaluate import Assessment
    from planner.sources.catalog import Catalog
    from planner.spec.plan import Configuration

FINALISTS = 6
"""Candidates of the chosen engine that are simulated in full."""


def finals(catalog: Catalog, brief: Brief, pool: list[Assessment]) -> tuple[Configuration, list[Configuration]]:
    """The best of the engine after a full simulation of the front runners, and the others in order."""
    finalists = [
        configure(a.candidate, a.deployment, a.memory, brief, catalog.calibration, score=score(a, brief))
        for a in ordered(pool, brief)[:FINALISTS]
    ]
    ranked = sorted(finalists, key=lambda c: (not _near(c, brief), _price(c, brief), -c.score))
    return ranked[0], ranked[1:]


def _price(configuration: Configuration, brief: Brief) -> float:
    """USD per million tokens where cost is the objective, dearer for weights that the user would have to make."""
    usd = per_million_tokens(configuration)
    if brief.objective != "cost" or usd is None:
        return 0.0
    return float(f"{usd * (2**UNPUBLISHED_PRICE if _made(configuration) else 1):.6g}")


def per_million_tokens(configuration: Configuration) -> float | None:
    """USD per million output tokens; None without a price or a rate."""
    cost = configuration.cost
    figure = cost.usd_per_million_output_tokens if cost is not None else None
    return None if figure is None else figure.value


def _made(configuration: Configuration) -> bool:
    return is_made(configuration.model.id, configuration.model.checkpoint, configuration.quantization)


def cost_reason(
    catalog: Catalog, brief: Brief, best: Configuration, others: tuple[Configuration, ...]
) -> tuple[Reason, ...]:
    """Why this and nothing cheaper, where cost is the objective: what less quality or other weights would save."""
    usd = per_million_tokens(best)
    if brief.objective != "cost" or usd is None:
        return ()
    told = ["the least of the simulated configurations that hold the targets"]
    rivals = [(c, price) for c in others if c.meets_slo and (price := per_million_tokens(c)) is not None]
    for c, price in sorted((r for r in rivals if r[1] < usd), key=lambda r: r[1])[:2]:
        why = "its weights would have to be made" if _made(c) else "the guide prefers the other engine"
        told.append(f"{_named(c)} would cost {price:.3g}, but {why}")
    finer = [r for r in rivals if r[1] >= usd and _loss(catalog, r[0]) < _loss(catalog, best)]
    if finer:
        c, price = min(finer, key=lambda r: r[1])
        told.append(f"{_named(c)} loses less quality for {price:.3g} ({price / usd - 1:+.0%})")
    choice = f"{usd:.3g} USD per million output tokens"
    return (Reason(subject="cost", choice=choice, because="; ".join(told), rule="objective-cost"),)


def _named(c: Configuration) -> str:
    kv = "16-bit" if c.kv_cache_dtype == "auto" else c.kv_cache_dtype
    return f"{c.engine.name} {c.quantization} with {kv} KV cache"


def _loss(catalog: Catalog, c: Configuration) -> float:
    kv = 0.0 if c.kv_cache_dtype == "auto" else catalog.kv_format(c.kv_cache_dtype).quality_rank
    return catalog.format(c.quantization).quality_rank + kv


def _near(configuration: Configuration, brief: Brief) -> bool:
    """True when the targets are met, or nearly met where they are our own defaults."""
    performance = configuration.performance
    return performance is not None and meets_targets(performance, brief, brief.slack)
