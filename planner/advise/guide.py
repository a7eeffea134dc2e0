"""The decision guide at work: which engine, why, and what came second.

The order is law. Physics goes first (an engine without a configuration that runs is out), then
what the user named with `require` (an engine release without the capability is out), then the
`maintained` policy, then the guide's `require` rows, then its `avoid` rows; the `prefer` rows that
remain are added up, ties go to the better kept engine, then to the name. An `avoid` row that would
leave nothing stays as a caution instead: a slow answer is an answer. Knows no engine by name: rows
come from `catalog/guide.yaml`, facts about engines from their releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from planner.advise.predicates import PREDICATES, Inputs
from planner.advise.situation import Situation
from planner.errors import CatalogError, UnknownNameError, nearest
from planner.records import dataclass
from planner.spec.engine import EngineRelease
from planner.spec.guide import GuideRow
from planner.spec.plan import TraceStep
from planner.spec.request import Requirement

_CAPABILITIES: Final[dict[Requirement, tuple[str, ...]]] = {
    "openai": ("openai_api",),
    "grammar": ("grammar", "guaranteed_grammar"),
    "watermark": ("watermark",),
    "kubernetes": ("kubernetes",),
    "openshift": ("openshift",),
    "managed": ("hf_endpoints",),
    "tool_calling": ("tool_calling",),
    "lora": ("lora",),
    "speculative": ("speculative_decoding",),
    "prefix_caching": ("prefix_caching",),
    "multi_gpu": ("tensor_parallel", "pipeline_parallel", "layer_split"),
    "multi_node": ("multi_node",),
}
"""Any one of these in a release satisfies the requirement. Needs that every self-hosted engine meets
in some degree (offline, local, simple, prototype, hf_hub) are preferences, not capabilities."""

_LIFECYCLE_RANK: Final = {"active": 0, "maintenance": 1, "archived": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guide says. `engine` is None when every engine was refused; the steps say why.

    `runner_up` can run, too: it is the best of those that lost. `scores` are the weights of the
    `prefer` rows that hold, for each engine that can run.
    """

    engine: str | None
    runner_up: str | None
    steps: tuple[TraceStep, ...]
    cautions: tuple[str, ...]
    scores: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Fired:
    row: GuideRow
    inputs: Inputs


def check_guide(rows: Sequence[GuideRow]) -> None:
    """Raise CatalogError for a row that names no predicate, or an id that occurs twice."""
    seen: set[str] = set()
    for row in rows:
        if row.when not in PREDICATES:
            close = nearest(row.when, PREDICATES)
            hint = f"nearest: {', '.join(close)}; " if close else ""
            raise CatalogError(
                f"guide.yaml: {row.id}: unknown predicate {row.when!r}; {hint}known: {', '.join(sorted(PREDICATES))}"
            )
        if row.id in seen:
            raise CatalogError(f"guide.yaml: {row.id}: the id occurs twice")
        seen.add(row.id)


def apply_guide(
    rows: Sequence[GuideRow],
    situation: Situation,
    releases: Mapping[str, EngineRelease],
    feasible: Mapping[str, str | None],
) -> Verdict:
    """Choose among the engines of `feasible`.

    `feasible[engine]` is None, or why no configuration of that engine can run; `releases` has the
    release that each would use. An engine named in the request wins over the guide, but not over
    physics, the request's own requirements or its policy. Raises CatalogError for a damaged guide,
    UnknownNameError for a forced engine that is not among `feasible`.
    """
    check_guide(rows)
    forced = situation.request.engine and situation.request.engine.casefold()
    if forced is not None and forced not in feasible:
        raise UnknownNameError("engine", forced, feasible)

    runnable = sorted(engine for engine, reason in feasible.items() if reason is None)
    steps = [_physics(engine, reason) for engine, reason in sorted(feasible.items()) if reason is not None]
    allowed, refusals = _meet_request(runnable, situation, releases)
    steps += refusals

    fired = [_Fired(row, inputs) for row in rows if (inputs := PREDICATES[row.when](situation)) is not None]
    fired = [f for f in fired if f.row.engine in feasible]
    kept, filter_steps, warnings = _filter(allowed, fired)
    scores = {engine: _score(engine, fired) for engine in runnable}
    ranked = sorted(kept, key=lambda e: (-scores[e], *_standing(e, releases)))
    choice = ranked[0] if ranked else None

    cautions: list[str] = []
    if forced is not None:
        if forced in allowed:
            steps.append(_forced(forced, choice))
            if choice not in (forced, None):
                cautions.append(f"you asked for {forced}; the guide would choose {choice}{_why(choice, fired)}")
            cautions += [f"{forced}: {f.row.statement}" for f in fired if _against(f.row, forced)]
            choice = forced
        else:
            choice = None
    steps += filter_steps
    steps += [_preference(f, choice) for f in fired if f.row.strength == "prefer" and f.row.engine in kept]
    if choice is None:
        return Verdict(None, None, (*steps, _nothing(situation, feasible)), (), tuple(scores.items()))

    if forced is None:
        cautions += [text for engine, text in warnings if engine == choice]
    cautions += [f.row.caution for f in fired if f.row.caution and f.row.engine == choice and f.row.strength != "avoid"]
    if releases[choice].lifecycle.status != "active":
        cautions.append(_lifecycle(choice, releases, _maintained_choice(rows, situation, releases, feasible)))
    second = _runner_up(choice, ranked, runnable, scores, releases)
    if second is not None:
        steps.append(_second_place(second, choice, scores, fired, allowed, kept))
    return Verdict(choice, second, tuple(steps), tuple(dict.fromkeys(cautions)), tuple(scores.items()))


# -- filters --------------------------------------------------------------------------------------


def _meet_request(
    engines: Sequence[str], situation: Situation, releases: Mapping[str, EngineRelease]
) -> tuple[list[str], list[TraceStep]]:
    """Engines that have every required capability and stand the policy, and a step per refusal."""
    allowed, steps = [], []
    for engine in engines:
        release = releases[engine]
        lacking = [r for r in situation.request.require if not _satisfies(release, r)]
        for requirement in lacking:
            steps.append(
                TraceStep(
                    rule=f"required-{requirement}",
                    strength="require",
                    statement=f"the request requires {requirement}",
                    engine=engine,
                    inputs={"require": requirement},
                    outcome=f"{engine} {release.version} is out: it has no {requirement}",
                    source=release.provenance.source,
                )
            )
        unmaintained = situation.policy == "maintained" and release.lifecycle.status != "active"
        if unmaintained:
            steps.append(
                TraceStep(
                    rule="policy-maintained",
                    strength="policy",
                    statement="only engines that still get fixes",
                    engine=engine,
                    inputs={"policy": "maintained", "lifecycle": release.lifecycle.status},
                    outcome=f"{engine} is out: {release.lifecycle.statement}",
                    source=release.lifecycle.provenance.source,
                )
            )
        if not lacking and not unmaintained:
            allowed.append(engine)
    return allowed, steps


def _satisfies(release: EngineRelease, requirement: Requirement) -> bool:
    capabilities = _CAPABILITIES.get(requirement)
    return capabilities is None or any(release.has(capability) for capability in capabilities)


def _filter(
    engines: Sequence[str], fired: Sequence[_Fired]
) -> tuple[list[str], list[TraceStep], list[tuple[str, str]]]:
    """Engines left by `require` and `avoid` rows, a step per row, and warnings by engine."""
    steps: list[TraceStep] = []
    demanded = {f.row.engine for f in fired if f.row.strength == "require"}
    left = [e for e in engines if not demanded or demanded == {e}]
    for f in (f for f in fired if f.row.strength == "require"):
        if len(demanded) > 1:
            outcome = "contradiction: rows require " + " and ".join(sorted(demanded))
        elif left:
            outcome = f"only {f.row.engine} remains"
        else:
            outcome = f"nothing remains: {f.row.engine} was refused before"
        steps.append(_step(f, outcome))

    avoided = {f.row.engine for f in fired if f.row.strength == "avoid"}
    spared = bool(left) and avoided.issuperset(left)
    warnings: list[tuple[str, str]] = []
    for f in (f for f in fired if f.row.strength == "avoid" and f.row.engine in left):
        if spared:
            warnings.append((f.row.engine, f.row.caution or f.row.statement))
            steps.append(_step(f, f"{f.row.engine} stays, with a caution: no other engine remains"))
        else:
            steps.append(_step(f, f"{f.row.engine} is out"))
    return (left if spared else [e for e in left if e not in avoided]), steps, warnings


# -- ranking --------------------------------------------------------------------------------------


def _score(engine: str, fired: Sequence[_Fired]) -> float:
    return sum(f.row.weight for f in fired if f.row.strength == "prefer" and f.row.engine == engine)


def _standing(engine: str, releases: Mapping[str, EngineRelease]) -> tuple[int, str]:
    return _LIFECYCLE_RANK[releases[engine].lifecycle.status], engine


def _runner_up(
    choice: str,
    ranked: Sequence[str],
    runnable: Sequence[str],
    scores: Mapping[str, float],
    releases: Mapping[str, EngineRelease],
) -> str | None:
    """The best of the others that no rule refused, else the best of those that could run."""
    for pool in (ranked, runnable):
        others = [engine for engine in pool if engine != choice]
        if others:
            return min(others, key=lambda e: (-scores[e], *_standing(e, releases)))
    return None


def _maintained_choice(
    rows: Sequence[GuideRow],
    situation: Situation,
    releases: Mapping[str, EngineRelease],
    feasible: Mapping[str, str | None],
) -> str | None:
    """What the guide would choose for the same situation among engines that still get fixes."""
    free = situation.request.model_copy(update={"engine": None})
    return apply_guide(rows, replace(situation, request=free, policy="maintained"), releases, feasible).engine


def _lifecycle(engine: str, releases: Mapping[str, EngineRelease], instead: str | None) -> str:
    """The caution for an engine, or an old release of one, that no longer gets features or fixes."""
    lifecycle = releases[engine].lifecycle
    since = f" since {lifecycle.since}" if lifecycle.since else ""
    makers = f" Its makers point to {', '.join(lifecycle.alternatives)}." if lifecycle.alternatives else ""
    if instead is None:
        here = "no engine that still gets fixes meets this request"
    else:
        here = f"--policy maintained would choose {instead} {releases[instead].version} here"
    state = "in maintenance" if lifecycle.status == "maintenance" else lifecycle.status
    why = lifecycle.statement.rstrip(".")
    if engine in lifecycle.alternatives:
        newest = "--engine-version left out takes the newest that runs here"
        return f"{engine} {releases[engine].version} is {state}{since}: {why}. {newest}"
    return f"{engine} is {state}{since}: {why}.{makers} {here}"


# -- steps ----------------------------------------------------------------------------------------


def _step(fired: _Fired, outcome: str) -> TraceStep:
    row = fired.row
    return TraceStep(
        rule=row.id,
        strength=row.strength,
        statement=row.statement,
        engine=row.engine,
        inputs=fired.inputs,
        outcome=outcome,
        source=row.provenance.source,
    )


def _physics(engine: str, reason: str) -> TraceStep:
    return TraceStep(
        rule="no-configuration",
        strength="physics",
        statement=f"no configuration of {engine} can run this",
        engine=engine,
        outcome=f"{engine} is out: {reason}",
    )


def _preference(fired: _Fired, choice: str | None) -> TraceStep:
    decided = ", which is chosen" if fired.row.engine == choice else ""
    return _step(fired, f"+{fired.row.weight:g} for {fired.row.engine}{decided}")


def _forced(engine: str, choice: str | None) -> TraceStep:
    agrees = "the guide agrees" if engine == choice else f"the guide would choose {choice or 'nothing'}"
    return TraceStep(
        rule="engine-asked",
        strength="policy",
        statement="the request names the engine",
        engine=engine,
        inputs={"engine": engine},
        outcome=f"{engine} is taken; {agrees}",
    )


def _nothing(situation: Situation, feasible: Mapping[str, str | None]) -> TraceStep:
    forced = situation.request.engine
    return TraceStep(
        rule="no-engine",
        strength="physics" if all(feasible.values()) else "require",
        statement="no engine is left",
        engine=forced,
        outcome=f"{forced} was asked for, and is refused" if forced else "every engine is refused",
    )


def _second_place(
    second: str,
    choice: str,
    scores: Mapping[str, float],
    fired: Sequence[_Fired],
    allowed: Sequence[str],
    kept: Sequence[str],
) -> TraceStep:
    """What the runner-up lacked: the winner's rows, or the rule that refused it."""
    if second not in allowed:
        why = "it does not meet the request (see above)"
    elif second not in kept:
        against = [f.row.id for f in fired if _against(f.row, second)]
        why = f"a rule refused it ({', '.join(against)})"
    else:
        won = [f.row.id for f in fired if f.row.strength == "prefer" and f.row.engine == choice]
        why = f"it lacked {', '.join(won)}" if won else "the tie went to the better kept engine, then to the name"
    return TraceStep(
        rule="runner-up",
        strength="prefer",
        statement=f"{second} comes second",
        engine=second,
        inputs={choice: f"{scores[choice]:g}", second: f"{scores[second]:g}"},
        outcome=f"{second} {scores[second]:g} against {scores[choice]:g}: {why}",
    )


def _against(row: GuideRow, engine: str) -> bool:
    """True when `row` speaks against `engine`."""
    return (row.strength == "avoid" and row.engine == engine) or (row.strength == "require" and row.engine != engine)


def _why(engine: str, fired: Sequence[_Fired]) -> str:
    """The weightiest reason for `engine`, ready to append."""
    for strength in ("require", "prefer"):
        reasons = [f.row for f in fired if f.row.strength == strength and f.row.engine == engine]
        if reasons:
            return f": {max(reasons, key=lambda row: row.weight).statement}"
    return ""
