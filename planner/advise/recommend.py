"""From a brief to a plan: enumerate, assess, let the guide pick the engine and the objective the rest.

The order of authority: physics refuses, the user's own choices bind, the guide picks the engine,
the objective's score picks the configuration within it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.advise.brief import Brief
from planner.advise.calibrated import calibrated_here
from planner.advise.configure import configure, meets_targets
from planner.advise.consult import consult_guide
from planner.advise.evaluate import Assessment
from planner.advise.finals import cost_reason, finals
from planner.advise.rank import meets, ordered, score
from planner.advise.remedies import remedies
from planner.advise.resolve import resolved
from planner.advise.survey import Survey, survey
from planner.advise.trace import search_step
from planner.errors import InfeasibleError
from planner.sources.recipes import is_made
from planner.spec.plan import Configuration, Plan, Reason, Rejection
from planner.units import gib
from planner.version import __version__

if TYPE_CHECKING:
    from planner.advise.evaluate import Misfit
    from planner.advise.guide import Verdict
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Machine
    from planner.spec.plan import Performance
    from planner.spec.request import Request


class TooSlowError(InfeasibleError):
    """It fits, and misses what was asked for by `over` (as `rank.excess` counts it, of simulated figures)."""

    over: float = 0.0


def recommend(catalog: Catalog, brief: Brief, *, ladder: bool = True) -> Plan:
    """The plan for `brief`. Raises InfeasibleError with the ladder of ways out, TooSlowError without unless asked."""
    found = survey(catalog, brief)
    verdict = consult_guide(catalog, brief, found)
    if verdict.engine is None:
        raise _infeasible(catalog, brief, found, verdict)
    pool = [a for a in found.fitting if a.candidate.release.engine == verdict.engine]
    best, finalists = finals(catalog, brief, pool)
    if brief.slo_is_explicit and not best.meets_slo:
        raise _too_slow(catalog, brief, best, found, ladder=ladder)
    alternatives = _alternatives(catalog, brief, found, finalists, verdict)
    reasons = (_engine_reason(verdict, best), *_with_unquantized(best, brief, found))
    reasons += cost_reason(catalog, brief, best, (*finalists, *alternatives))
    best = best.model_copy(update={"reasons": reasons})
    cautions = (*verdict.cautions, *_cautions(brief, best, alternatives, found))
    return Plan(
        planner_version=__version__,
        request=brief.request,
        best=best,
        alternatives=alternatives,
        rejected=_rejections(found),
        trace=(*verdict.steps, search_step(brief, pool, (best, *finalists))),
        assumptions=(*brief.assumptions, *calibrated_here(brief.machine, best)),
        cautions=tuple(dict.fromkeys(cautions)),
        resolved=resolved(brief, pool[0].candidate.release, catalog.calibration_sha256),
    )


def within_budget(request: Request, machine: Machine) -> None:
    """Raises InfeasibleError when the machine is known to cost more than the request allows."""
    budget, price = request.budget_usd_per_hour, machine.usd_per_hour
    if budget is not None and price is not None and price > budget:
        raise InfeasibleError(f"{machine.label} costs {price:g} USD per hour, more than the budget of {budget:g}")


def _alternatives(
    catalog: Catalog, brief: Brief, found: Survey, others: list[Configuration], verdict: Verdict
) -> tuple[Configuration, ...]:
    """The best of every other engine, then the next best of the chosen one."""
    alternatives: list[Configuration] = []
    engines = sorted({a.candidate.release.engine for a in found.fitting} - {verdict.engine or ""})
    for engine in engines:
        first = ordered([a for a in found.fitting if a.candidate.release.engine == engine], brief)[0]
        alternatives.append(
            configure(
                first.candidate, first.deployment, first.memory, brief, catalog.calibration, score=score(first, brief)
            )
        )
    alternatives.sort(key=lambda c: (c.engine.name != verdict.runner_up, c.engine.name))
    return (*alternatives, *others)[: brief.request.top]


def _engine_reason(verdict: Verdict, best: Configuration) -> Reason:
    deciding = [
        s for s in verdict.steps if s.engine == verdict.engine and s.strength in ("require", "prefer", "policy")
    ]
    first = deciding[0] if deciding else None
    return Reason(
        subject="engine",
        choice=f"{best.engine.name} {best.engine.version}",
        because="; ".join(s.statement for s in deciding[:3]) or "the only engine that can run this here",
        rule=first.rule if first else None,
        source=first.source if first else None,
    )


def _with_unquantized(best: Configuration, brief: Brief, found: Survey) -> tuple[Reason, ...]:
    """The reasons of `best`; that of the quantization says what the model's own format would leave."""
    own = brief.model.quantization
    if best.quantization == own:
        return best.reasons
    outcomes: tuple[Assessment | Misfit, ...] = (*found.fitting, *found.misfits)
    alike = [
        outcome
        for outcome in outcomes
        if outcome.candidate.release.engine == best.engine.name
        and outcome.candidate.quantization.id == own
        and outcome.candidate.parallelism == best.parallelism
        and outcome.candidate.kv_name == best.kv_cache_dtype
    ]
    if not alike:
        return best.reasons
    memory = alike[0].memory
    if memory.fits:
        late = best.meets_slo and isinstance(alike[0], Assessment) and not meets(alike[0], brief)
        told = f"{own} would fit too, with {memory.kv_cache_tokens:,} tokens" + (
            ", but miss the targets" if late else ""
        )
    else:
        told = f"{own} needs {gib(memory.shortfall_bytes)} more"
    return tuple(
        r.model_copy(update={"because": f"{r.because}; {told}"}) if r.subject == "quantization" else r
        for r in best.reasons
    )


def _rejections(found: Survey) -> tuple[Rejection, ...]:
    """Every refusal, memory's included, without repetitions."""
    rows = [*found.refused]
    rows += [Rejection(candidate=m.candidate.label, reason=m.reason, rule="memory") for m in found.misfits]
    return tuple({(r.candidate, r.reason): r for r in rows}.values())


def _cautions(brief: Brief, best: Configuration, alternatives: tuple[Configuration, ...], found: Survey) -> list[str]:
    notes = []
    if best.performance is not None and not meets_targets(best.performance, brief):
        better = next((c for c in alternatives if c.meets_slo), None)
        if better is not None:
            notes.append(
                f"{better.engine.name} {better.quantization} (an alternative) would meet the targets this one misses"
            )
        notes.append(
            f"it {_unserved(best.performance, brief)}; a lower rate or more devices help"
            if not brief.keeps_up(best.performance.requests_per_s.value)
            else f"the default targets (TTFT {brief.ttft_ms:g} ms, ITL {brief.itl_ms:g} ms at "
            f"p{brief.request.slo_percentile:g}) are missed under this load; fewer users or more devices help"
        )
    if best.engine.image and not best.engine.image_verified:
        notes.append(f"nobody here has pulled {best.engine.image}; check that the tag exists before you roll out")
    if best.parallelism.devices_per_replica > brief.machine.devices_per_node:
        notes.append(
            "one replica spans several hosts: lws.yaml starts it on Kubernetes; target ray writes a RayService instead"
        )
    if best.engine.plugin:
        notes.append(
            f"{best.quantization} needs the plugin {best.engine.plugin}, which the stock image lacks: "
            "the Dockerfile of target image adds it"
        )
    made = is_made(best.model.id, best.model.checkpoint, best.quantization)
    if best.model.gated:
        weights = best.model.id if made else best.model.checkpoint
        notes.append(f"{weights} is gated: accept its licence on the Hub and provide a token")
    chosen = next(a.candidate for a in found.fitting if a.candidate.quantization.id == best.quantization)
    if made:
        notes.append(
            f"no published {best.quantization} checkpoint is known that {best.engine.name} loads: "
            f"`planner generate plan.yaml --target quantize` writes what makes {best.model.checkpoint}"
        )
    elif chosen.checkpoint is not None and chosen.checkpoint.provenance.basis == "estimated":
        notes.append(f"{best.model.checkpoint} is named by its publisher's pattern; nobody here has opened it")
    elif (
        chosen.checkpoint is None
        and best.quantization != brief.model.quantization
        and not best.engine.quantization_flag
    ):
        notes.append(f"no published {best.quantization} checkpoint is known; you would have to make one")
    notes += best.memory.notes
    return [*notes, *_feature_cautions(brief, best)]


def _feature_cautions(brief: Brief, best: Configuration) -> list[str]:
    """What a feature leaves to know: figures that do not hold it, and names that a client has to use."""
    features, notes = best.features, []
    if features is None:
        if brief.request.speculative_tokens:
            notes.append("no file turns drafting on: name how tokens are drafted with --speculative")
        return notes
    if features.disaggregated:
        notes.append("only target llm-d runs prefill and decode apart; the figures are those of whole replicas")
    if features.speculative in ("eagle", "eagle3"):
        notes.append(
            f"the size of {features.draft_model} is estimated from the model's shape; nobody here has opened it"
        )
    if features.lora_adapters and best.engine.name == "tgi":
        notes.append("TGI serves an adapter under its repository's name (adapter_id), whatever it is called here")
    if features.lora_adapters:
        notes.append("adapters slow steps down by an amount that is not estimated; their buffers are in the ledger")
    if features.watermark:
        notes.append("a request asks for the watermark itself: parameters.watermark of TGI's own API")
    return notes


def _infeasible(catalog: Catalog, brief: Brief, found: Survey, verdict: Verdict) -> InfeasibleError:
    ladder = remedies(catalog, brief)
    status = {engine: reason for engine, reason in found.engines().items() if reason}
    told = [f"{engine}: {reason}" for engine, reason in status.items()]
    if brief.model.quantization.startswith("mlx-"):
        told.append("MLX weights are run by mlx-lm, which is not planned here: name the model they were made from")
    told += [s.outcome for s in verdict.steps if s.strength in ("policy", "require") and s.outcome not in told]
    return InfeasibleError(
        f"{brief.model.id} cannot be served on {brief.machine.label} as asked ({'; '.join(dict.fromkeys(told))})",
        ladder,
        _rejections(found),
    )


def _too_slow(catalog: Catalog, brief: Brief, best: Configuration, found: Survey, *, ladder: bool) -> TooSlowError:
    performance, percentile = best.performance, brief.request.slo_percentile
    assert performance is not None
    ttft, itl = performance.ttft_ms_at(percentile), performance.itl_ms_at(percentile)
    over = [ttft / brief.ttft_ms, itl / brief.itl_ms]
    told = (
        f"has TTFT {beside(ttft, brief.ttft_ms)} ms and ITL {beside(itl, brief.itl_ms)} ms at p{percentile:g} "
        f"against {brief.ttft_ms:g} and {brief.itl_ms:g} ms asked"
    )
    if not brief.keeps_up(performance.requests_per_s.value):
        assert brief.workload.request_rate is not None
        over.append(brief.workload.request_rate / performance.requests_per_s.value)
        told = _unserved(performance, brief) + ("" if max(over[:2]) <= 1.0 else f", and {told}")
    error = TooSlowError(
        f"{brief.model.id} fits {brief.machine.label}, but the best configuration {told}",
        remedies(catalog, brief, too_slow=True) if ladder else (),
        _rejections(found),
    )
    error.over = sum(math.log2(max(1.0, share)) for share in over)
    return error


def _unserved(performance: Performance, brief: Brief) -> str:
    """What is said where requests arrive faster than they are served."""
    asked, served = brief.workload.request_rate or 0.0, performance.requests_per_s.value
    return f"serves {beside(served, asked)} of {asked:g} requests/s (the queue grows without end)"


def beside(value: float, target: float) -> str:
    """`value` with as many digits as tell it from `target`."""
    places = 0 if value >= 100 else 1
    while places < 4 and value != target and float(f"{value:.{places}f}") == target:
        places += 1
    return f"{value:,.{places}f}"
