"""Why a plan is what it is, as plain text: the decision trace, then the refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.report.numbers import speed

if TYPE_CHECKING:
    from planner.errors import InfeasibleError
    from planner.spec.plan import Plan, Scored

_MAX_REFUSALS = 20


def explanation(plan: Plan) -> str:
    """Choice by choice: what was chosen, because of what, by which rule and source."""
    best = plan.best
    lines = [f"{best.model.checkpoint} on {best.hardware.label}", ""]
    lines.append("Choices")
    for reason in best.reasons:
        rule = f" [{reason.rule}]" if reason.rule else ""
        lines.append(f"  {reason.subject}: {reason.choice}{rule}")
        lines.append(f"    because {reason.because}")
        if reason.source:
            lines.append(f"    source: {reason.source}")
    lines += ["", "Decision trace"]
    for i, step in enumerate(plan.trace, 1):
        lines.append(f"  {i}. {step.rule} ({step.strength}): {step.statement}")
        lines += [f"       {name}: {value}" for name, value in step.inputs.items()]
        for who, held in zip(("chosen", "runner-up"), step.scores, strict=False):
            lines += _score(who, held)
        lines.append(f"     → {step.outcome}")
    if best.performance is not None:
        lines += ["", "Figures under the load (80 % band)", *(f"  {metric} {told}" for metric, told in speed(best))]
    if plan.rejected:
        lines += ["", f"Refused ({len(plan.rejected)})"]
        lines += [f"  {r.candidate}: {r.reason} [{r.rule}]" for r in plan.rejected[:_MAX_REFUSALS]]
        if len(plan.rejected) > _MAX_REFUSALS:
            lines.append(f"  … and {len(plan.rejected) - _MAX_REFUSALS} more in plan.yaml")
    return "\n".join(lines) + "\n"


def _score(who: str, held: Scored) -> list[str]:
    """A score and its parts, which add up to it."""
    met = {True: ", meets the targets", False: ", misses the targets", None: ""}[held.meets_slo]
    width = max((len(part.name) for part in held.parts), default=0)
    parts = [f"         {part.name:<{width}}  {part.value:+8.2f}  {part.of}" for part in held.parts]
    return [f"       {who}: {held.candidate}, score {held.score:.2f}{met}", *parts]


def ladder(error: InfeasibleError) -> str:
    """An infeasible request: why, then the ways out with their figures and commands."""
    lines = [str(error)]
    if error.remedies:
        lines += ["", "Ways out, least effort first:"]
    elif error.tried:
        lines += ["", "No single change that was tried is a way out."]
    else:
        lines += ["", "`planner recommend` with this model and machine looks for what runs."]
    for i, remedy in enumerate(error.remedies, 1):
        figures = ", ".join(f"{name} {value}" for name, value in remedy.figures.items() if name != "configuration")
        lines += [f"{i}. {remedy.action}: {remedy.detail}", f"   {figures}", f"   {remedy.command}"]
    return "\n".join(lines) + "\n"
